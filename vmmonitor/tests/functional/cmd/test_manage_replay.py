# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage filter replay``, ``policy replay`` and ``policy explain`` on a database."""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import tracemalloc
import unittest.mock
from typing import Any

import fixtures
import testtools

from vmmonitor.cmd import manage_rules, offline_db
from vmmonitor.db import events, incidents, scan, timeline_entries
from vmmonitor.model.event import CRITICAL, INCIDENT, INFO, RECORD, WARNING, Decision, StoredEvent
from vmmonitor.model.timeline import TimelineEntry
from vmmonitor.tests.fixtures.database import SQLite
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON, SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import IT_FAILED, delivery, policy, step

DAY = 86_400
#: Events of the large replay, and its maximum use of memory.
MANY = 10_000
MAX_BYTES = 8_000_000

FILTERS = """
version: 1
default: {action: record}
rules:
- name: died
  match: {type: lifecycle.stopped, detail: failed}
  action: incident
- name: quiet
  match: {type: reboot}
  action: ignore
"""
RATE = """
version: 1
rules:
- name: often
  match: {type: io_error}
  rate: {count: 3, seconds: 60, per: [attributes.device]}
  action: incident
- name: once
  match: {type: io_error}
  action: record
"""


def happened(number: int = 0, **fields: Any) -> StoredEvent:
    """Return an event that opened an incident by the rule ``died``, unless fields differ."""
    decision = {
        name: fields.pop(name) for name in ("action", "severity", "rule") if name in fields
    }
    known = {
        "event_id": samples.new_id(),
        "type": "lifecycle.stopped",
        "detail": "failed",
        "occurred_at": NOON + number,
    }
    plain = samples.stored()
    event = dataclasses.replace(plain.event, **(known | fields))
    made = {"action": INCIDENT, "severity": CRITICAL, "rule": "died"} | decision
    return dataclasses.replace(plain, event=event, decision=Decision(**made))


class Commands:
    """Runs ``vmmonitor-manage`` in this process, with the database of the test."""

    def file(self, name: str, content: str) -> str:
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        return path

    def manage(self, *words: str) -> tuple[int, str, str]:
        """Return exit code, output and errors."""
        parser = argparse.ArgumentParser()
        manage_rules.register(parser.add_subparsers(required=True))
        args = parser.parse_args(words)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = args.run(self.conf, args)
        return code, out.getvalue(), err.getvalue()

    def printed(self, *words: str) -> str:
        code, out, err = self.manage(*words)
        self.assertEqual((0, ""), (code, err))
        return out

    def refused(self, *words: str) -> str:
        """Return the error of a command, which must be one line."""
        code, out, err = self.manage(*words)
        self.assertEqual((1, ""), (code, out))
        self.assertEqual(1, err.count("\n"), err)
        return err


class FilterCase(Commands, testtools.TestCase):
    def setUp(self):
        super().setUp()
        sqlite = self.useFixture(SQLite())
        self.conf, self.database = sqlite.conf, sqlite.database

    def keep(self, *happenings: StoredEvent) -> None:
        self.database.run(events.insert, happenings)

    def replay(self, content: str, since: str = "2000-01-01") -> dict[str, Any]:
        path = self.file("filters.yaml", content)
        return json.loads(self.printed("filter", "replay", "--since", since, "--json", path))

    def test_empty_database_has_no_differences(self):
        path = self.file("filters.yaml", FILTERS)
        out = self.printed("filter", "replay", path)
        self.assertEqual("compared 0 events: 0 would be decided differently", out.splitlines()[-1])

    def test_same_decisions_are_only_counted(self):
        self.keep(*map(happened, range(5)))
        found = self.replay(FILTERS)
        self.assertEqual((5, 0, []), (found["compared"], found["different"], found["differences"]))

    def test_differences_are_listed_with_examples(self):
        self.keep(
            *(happened(n, type="reboot", detail="", action=RECORD, rule="old") for n in range(7)),
            happened(9, severity=WARNING),
            happened(10),
        )
        found = self.replay(FILTERS)
        self.assertEqual((9, 8, 7), (found["compared"], found["different"], found["other_action"]))
        often, once = found["differences"]
        self.assertEqual((7, 3), (often["count"], len(often["examples"])))
        self.assertEqual({"name": "old", "action": RECORD, "detail": CRITICAL}, often["old"])
        self.assertEqual({"name": "quiet", "action": "ignore", "detail": INFO}, often["new"])
        self.assertEqual("reboot", often["examples"][0]["cause"])
        self.assertEqual((1, WARNING), (once["count"], once["old"]["detail"]))
        self.assertIn("rules that made decisions but are not in the file: old", found["notes"])

    def test_text_output_lists_differences(self):
        one = happened(type="reboot", detail="", action=RECORD, rule="o\x1b[2Jld")
        self.keep(one)
        path = self.file("filters.yaml", FILTERS)
        lines = self.printed("filter", "replay", "--since", "2000-01-01", path).splitlines()
        self.assertEqual("1 x  was: record, by o?[2Jld (critical)", lines[0])
        self.assertEqual("     now: ignore, by quiet (info)", lines[1])
        self.assertIn(one.event.event_id, lines[2])
        self.assertEqual(
            "compared 1 events: 1 would be decided differently, 1 of them with another action",
            lines[-1],
        )

    def test_since_limits_the_events(self):
        now = self.database.now()
        ages = (1, 3600, 2 * DAY, 8 * DAY)
        self.keep(*(happened(occurred_at=now - age * SECOND) for age in ages))
        for since, expected in (("30m", 1), ("1h", 1), ("3d", 3), ("2w", 4)):
            self.assertEqual(expected, self.replay(FILTERS, since)["compared"], since)
        path = self.file("filters.yaml", FILTERS)
        self.assertIn("compared 3 events", self.printed("filter", "replay", path))

    def test_rate_counts_each_host_from_before_since(self):
        errors = {"type": "io_error", "detail": "report", "action": RECORD, "rule": "once"}
        errors |= {"severity": INFO, "attributes": {"device": "vda"}}
        self.keep(
            *(happened(n * SECOND, host="compute-1", **errors) for n in range(3)),
            *(happened(n * SECOND, host="compute-2", **errors) for n in range(2)),
        )
        found = self.replay(RATE, offline_db.format_time(NOON + 2 * SECOND))
        self.assertEqual((1, 1), (found["compared"], found["different"]))
        (difference,) = found["differences"]
        self.assertEqual("often", difference["new"]["name"])
        self.assertEqual("compute-1", difference["examples"][0]["host"])
        self.assertTrue(any("rate (often)" in note for note in found["notes"]))

    def test_large_replay_uses_bounded_memory(self):
        def some(first: int) -> list[StoredEvent]:
            hosts = ("compute-1", "compute-2", "compute-3")
            return [
                happened(n, host=hosts[n % 3], type="reboot", action=RECORD, rule=f"r{n % 7}")
                for n in range(first, first + 1000)
            ]

        for first in range(0, MANY, 1000):
            self.keep(*some(first))
        path = self.file("filters.yaml", FILTERS)
        words = ("filter", "replay", "--since", "2000-01-01", "--json", path)
        self.printed(*words)  # The first run imports and compiles, which must not count.
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        found = json.loads(self.printed(*words))
        _, highest = tracemalloc.get_traced_memory()
        self.assertEqual((MANY, MANY), (found["compared"], found["different"]))
        self.assertEqual(7, len(found["differences"]))
        self.assertEqual(MANY, sum(difference["count"] for difference in found["differences"]))
        self.assertLess(highest, MAX_BYTES)

    def test_scan_returns_each_event_once_for_any_page_size(self):
        moments = [NOON, NOON, NOON, NOON + 1, NOON + 1, NOON + 2]
        self.keep(*(happened(occurred_at=at) for at in moments))
        for size in range(1, 8):
            found = list(scan.events(self.database, "compute-1", 0, size))
            self.assertEqual(moments, [stored.event.occurred_at for stored in found])
            self.assertEqual(6, len({stored.event.event_id for stored in found}))

    def test_scan_omits_events_stored_meanwhile(self):
        self.keep(happened(1), happened(2))
        found = scan.events(self.database, "compute-1", 0, 1)
        next(found)
        self.keep(happened(3))
        self.assertEqual(1, len(list(found)))

    # -- errors --------------------------------------------------------------------------------
    def test_invalid_since_is_rejected(self):
        path = self.file("filters.yaml", FILTERS)
        for since in ("yesterday", "7", "7y", "", "2026-13-01"):
            err = self.refused("filter", "replay", "--since", since, path)
            self.assertIn(f"--since: {since!r} is neither", err)

    def test_invalid_file_is_rejected(self):
        path = self.file("filters.yaml", "version: 1\nrules: 5\n")
        self.assertIn(f"{path}:2", self.refused("filter", "replay", path))
        self.assertIn("cannot read", self.refused("policy", "replay", "/no/such/file"))

    def test_missing_database_is_reported(self):
        path = self.file("filters.yaml", FILTERS)
        nowhere = self.useFixture(fixtures.TempDir()).path
        self.conf.set_override("connection", f"sqlite:///{nowhere}/none", "database")
        self.assertIn("vmmonitor-manage db sync", self.refused("filter", "replay", path))
        with unittest.mock.patch("importlib.util.find_spec", return_value=None):
            self.assertIn("not installed", self.refused("filter", "replay", path))


class PolicyCase(Commands, base.EngineCase):
    """The incidents of an engine."""

    def write(self, *rows: dict[str, Any]) -> str:
        return self.load(*rows).path

    def opened(self, count: int = 1, **fields: Any) -> None:
        for number in range(count):
            uuid = f"{base.UUID[:-4]}{number:04}"
            self.store(delivery(uuid=uuid, **fields))

    def replay(self, *rows: dict[str, Any]) -> dict[str, Any]:
        path = self.write(*rows)
        words = ("policy", "replay", "--since", "2000-01-01", "--json", path)
        return json.loads(self.printed(*words))

    def test_same_policy_is_no_difference(self):
        self.opened(3)
        found = self.replay(policy())
        self.assertEqual((3, 0, []), (found["compared"], found["different"], found["differences"]))

    def test_other_policy_is_a_difference(self):
        self.opened(3)
        found = self.replay(policy("gentle", hold=5, steps=[]))
        self.assertEqual((3, 3), (found["different"], found["other_action"]))
        (difference,) = found["differences"]
        self.assertEqual(
            {"name": "restart", "action": "recover", "detail": "hold 0 s; fake 3 x"},
            difference["old"],
        )
        self.assertEqual(
            {"name": "gentle", "action": "leave", "detail": "hold 5 s"}, difference["new"]
        )
        self.assertIn("incident_id", difference["examples"][0])
        self.assertIn("policies that applied but are not in the file: restart", found["notes"])

    def test_missing_policy_is_a_difference(self):
        self.opened()
        (difference,) = self.replay(policy(match={"type": "watchdog"}))["differences"]
        self.assertEqual(("", "leave"), (difference["new"]["name"], difference["new"]["action"]))

    def test_same_policy_with_other_steps_is_a_difference(self):
        self.opened()
        changed = policy(hold=2, steps=[step(attempts=5), step("webhook")])
        found = self.replay(changed)
        (difference,) = found["differences"]
        self.assertEqual("hold 0.0, step 1 attempts 3, step 2 none", difference["old"]["detail"])
        self.assertEqual(
            "hold 2.0, step 1 attempts 5, step 2 webhook", difference["new"]["detail"]
        )
        self.assertEqual((1, 0), (found["different"], found["other_action"]))

    def test_last_event_that_selected_policy_is_used(self):
        self.policies = self.load(
            policy("io", {"type": "io_error"}, hold=60),
            policy("stop", {"type": "lifecycle.stopped"}),
        )
        self.store(delivery("io_error/pause"))
        self.store(delivery())
        found = self.replay(policy("stop", {"type": "lifecycle.stopped"}))
        self.assertEqual((1, 0), (found["compared"], found["different"]))

    def test_incident_without_plan_is_compared_by_policy_name(self):
        self.opened(2)
        with self.database.writer() as tx:
            tx.exec_driver_sql("UPDATE timeline_entries SET data = '{}' WHERE kind = 'hold'")
        self.assertEqual(0, self.replay(policy(hold=9))["different"])
        found = self.replay(policy("other"))
        self.assertEqual((2, 0), (found["different"], found["other_action"]))
        self.assertTrue(any(note.startswith("of 2 incidents only") for note in found["notes"]))

    def test_incident_without_event_is_not_compared(self):
        self.opened(2)
        with self.database.writer() as tx:
            tx.exec_driver_sql("DELETE FROM events")
        found = self.replay(policy())
        self.assertEqual(0, found["compared"])
        self.assertTrue(any(note.startswith("2 more incidents") for note in found["notes"]))

    # -- explain -------------------------------------------------------------------------------
    def explain(self, *rows: dict[str, Any]) -> str:
        path = self.write(*rows)
        return self.printed("policy", "explain", self.incident().incident_id, "--file", path)

    def test_explain_incident_with_same_policy(self):
        self.store(delivery())
        self.decide(IT_FAILED)
        out = self.explain(policy("lab", {"host": "lab"}), policy())
        for line in (
            "incident of instance web on host compute-1, opened 2023-11-14T22:13:20.000Z, "
            "recovering\n",
            "lifecycle.stopped/failed from libvirt, by ",
            "  lab: no, host = 'lab' fails",
            "  restart: matches\n-> restart: hold 0 s\n   step 1: fake, attempts 3",
            "the incident got the same policy: restart\n",
            "   [recovery] verdict_retry_interval = 10.0: ",
        ):
            self.assertIn(line, out)

    def test_explain_incident_with_other_policy(self):
        self.store(delivery())
        out = self.explain(policy("lab", {"host": "lab"}))
        self.assertIn("-> no policy: the incident becomes unhandled\n", out)
        self.assertIn(
            "the incident got another policy: recover, by restart (hold 0 s; fake 3 x)\n", out
        )
        self.assertIn("policy restart is not in the file\n", out)

    def test_explain_unknown_incident_is_rejected(self):
        path = self.write(policy())
        err = self.refused("policy", "explain", samples.new_id(), "--file", path)
        self.assertIn("Not found", err)

    def test_explain_incident_without_timeline_is_rejected(self):
        self.store(delivery())
        with self.database.writer() as tx:
            tx.exec_driver_sql("DELETE FROM timeline_entries")
        path = self.write(policy())
        ident = self.incident().incident_id
        self.assertIn(
            "the event that selected", self.refused("policy", "explain", ident, "--file", path)
        )

    def test_explain_incident_of_host_is_rejected(self):
        incident = samples.incident(kind="host")
        line = TimelineEntry(
            incident_id=incident.incident_id, at=NOON, kind="decision", message="late"
        )
        with self.database.writer() as tx:
            incidents.insert(tx, [incident])
            timeline_entries.insert(tx, [line])
        path = self.write(policy())
        err = self.refused("policy", "explain", incident.incident_id, "--file", path)
        self.assertIn("only to incidents of instances", err)
