# SPDX-License-Identifier: Apache-2.0
"""The timeline of an incident in sentences."""

import unittest
from typing import Any

from vmmonitor.client import explain, timeline
from vmmonitor.tests.unit.client.base import NOW, entry, incident


class TestHistory(unittest.TestCase):
    def history(self, *entries: dict[str, Any]) -> list[str]:
        """Return the lines below the heading and the date."""
        return list(timeline.format_history(incident(timeline=entries), 100))[2:]

    def test_request_is_labelled_operator(self):
        (line,) = self.history(entry("request", "ada released it: the storage is back"))
        self.assertTrue(line.endswith("operator  ada released it: the storage is back"), line)

    def test_unknown_kind_is_its_own_label(self):
        (line,) = self.history(entry("rumour", "it is the storage"))
        self.assertTrue(line.endswith("rumour    it is the storage"), line)

    def test_entry_of_older_engine_shows_its_message(self):
        for kind, label in (
            ("question", "asked"),
            ("hold", "held"),
            ("state", "state"),
            ("recovery", "recovery"),
            ("decision", "decided"),
        ):
            (line,) = self.history(entry(kind, "stored message"))
            self.assertRegex(line, rf"  {label} +stored message$")

    def test_entry_with_incomplete_data_shows_its_message(self):
        for kind, data in (
            ("event", {}),
            ("recovery", {"question": "to do what?"}),
            ("recovery", {"said": "it is over", "state": "new"}),
            ("state", {"after": "resolved"}),
            ("question", {"asked": "nova", "ms": "long"}),
        ):
            (line,) = self.history(entry(kind, "stored message", **data))
            self.assertTrue(line.endswith("stored message"), kind)

    def test_reason_that_repeats_the_answer_is_omitted(self):
        query = entry(
            "question", "q", asked="nova", question="whether", answer="yes", verdict="failed"
        )
        moved = entry("state", "s", before="pending", after="recovering", reason="yes")
        self.assertTrue(self.history(query, moved)[-1].endswith("recovery starts (recovering)"))
        moved["data"]["reason"] = "no"
        self.assertTrue(self.history(query, moved)[-1].endswith("starts (recovering): no"))

    def test_new_day_starts_with_its_date(self):
        late = {**entry("decision", "later"), "at": "2026-11-23T00:00:01.000000Z"}
        self.assertIn("-- 2026-11-23", self.history(entry("decision", "now"), late))

    def test_empty_timeline_has_no_history_and_no_stages(self):
        self.assertEqual([], self.history())
        lines = list(explain.explain(incident(timeline=[]), 100, NOW))
        self.assertNotIn("HOW LONG IT TOOK", " ".join(lines))

    def test_recovery_that_was_taken_over_shows_the_takeover(self):
        data = {"asked": "libvirt", "question": "to bring it back", "attempt": 1, "attempts": -1}
        data |= {
            "step": 1,
            "steps": 1,
            "timeout": 30.0,
            "said": "taken over: the lease of its engine has expired",
        }
        text = " ".join(" ".join(self.history(entry("recovery", "r", **data))).split())
        self.assertIn("attempt 1 (unlimited), timeout 30 s; taken over: the lease", text)
