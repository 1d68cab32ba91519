# SPDX-License-Identifier: Apache-2.0
"""What makes of a failure one to recover, one that comes first, or one to leave for now."""

from typing import Any

from vmmonitor.model.errors import Retriable
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.tests.unit.expectation.test_nova import NovaCase, server


class MetadataTest(NovaCase):
    def word(self, metadata: Any) -> str:
        return self.judge(server(metadata=metadata)).kind

    def test_out_by_metadata(self):
        for said in ("False", "false", "no", "0", "off"):
            self.assertEqual(VerdictKind.PLANNED, self.word({"HA_Enabled": said}))
        for metadata in ({"HA_Enabled": "True"}, {"HA_Enabled": "whatever"}, {}, None, []):
            self.assertEqual(VerdictKind.FAILED, self.word(metadata))

    def test_in_by_metadata(self):
        self.conf.set_override("recover_by_default", False, "nova")
        self.assertEqual(VerdictKind.FAILED, self.word({"HA_Enabled": "True"}))
        for metadata in ({"HA_Enabled": "False"}, {"HA_Enabled": "whatever"}, {}, None):
            self.assertEqual(VerdictKind.PLANNED, self.word(metadata))

    def test_another_key_or_none(self):
        self.conf.set_override("metadata_key", "recover", "nova")
        self.assertEqual(VerdictKind.FAILED, self.word({"HA_Enabled": "False"}))
        self.assertEqual(VerdictKind.PLANNED, self.word({"recover": "False"}))
        self.conf.set_override("metadata_key", "", "nova")
        self.assertEqual(VerdictKind.FAILED, self.word({"": "False", "recover": "False"}))


class PriorityTest(NovaCase):
    def said(self, word: Any) -> Verdict:
        return self.judge(server(metadata={"vmmonitor:priority": word}))

    def test_a_number(self):
        for word, number in (("100", 100), ("-100", -100), ("+7", 7), (" 5 ", 5), (12, 12)):
            verdict = self.said(word)
            self.assertEqual((VerdictKind.FAILED, number), (verdict.kind, verdict.priority))
            self.assertIn(f"; its priority is {number}", verdict.reason)

    def test_nonsense_counts_as_nothing_and_is_told(self):
        for word in ("101", "-101", "high", "", "1e2", "7.5", "9" * 255, [], {"a": 1}):
            verdict = self.said(word)
            self.assertEqual((VerdictKind.FAILED, 0), (verdict.kind, verdict.priority), word)
            self.assertIn("its metadata says vmmonitor:priority = ", verdict.reason)
            self.assertIn("counts as 0", verdict.reason)
            self.assertLess(len(verdict.reason), 350)

    def test_nothing_is_said(self):
        self.assertEqual(0, self.judge(server()).priority)
        self.assertNotIn("priority", self.judge(server()).reason)
        self.conf.set_override("priority_key", "", "nova")
        self.assertEqual(0, self.said("7").priority)

    def test_another_key(self):
        self.conf.set_override("priority_key", "weight", "nova")
        self.assertEqual(9, self.judge(server(metadata={"weight": "9"})).priority)


class MaintenanceTest(NovaCase):
    def service(self, status: str = "disabled", reason: Any = None, **changes: Any) -> None:
        self.nova.service = {"status": status, "disabled_reason": reason, **changes}

    def judge_at(self, host_status: Any, *causes: str) -> Verdict:
        return self.judge(server(host_status=host_status), *causes)

    def test_a_host_that_is_disabled(self):
        self.service(reason="new memory")
        verdict = self.judge_at("MAINTENANCE")
        self.assert_word(
            VerdictKind.MUTED, verdict, "nova-compute on compute-1 is disabled (new memory)"
        )
        self.assertIn("libvirt said lifecycle.stopped/failed", verdict.reason)

    def test_it_is_known_for_a_moment(self):
        self.service()
        self.judge_at("MAINTENANCE")
        self.judge_at("MAINTENANCE")
        self.assertEqual(1, self.nova.asked.count("compute-1"))

    def test_what_hides_whether_it_is_disabled(self):
        self.service()
        for status in ("DOWN", None, "", ["UP"]):
            self.assert_word(VerdictKind.MUTED, self.judge_at(status), "maintenance")

    def test_a_host_that_is_down_is_in_no_maintenance(self):
        self.service("enabled", state="down", forced_down=True)
        self.assert_word(VerdictKind.FAILED, self.judge_at("DOWN"))
        self.assert_word(VerdictKind.FAILED, self.judge_at("UNKNOWN"))

    def test_a_host_that_works_is_not_asked_for(self):
        self.service()
        self.assert_word(VerdictKind.FAILED, self.judge_at("UP"))
        self.assertNotIn("compute-1", self.nova.asked)

    def test_one_that_we_disabled_ourselves(self):
        self.service(reason="vmmonitor: io_error/pause, incident 1")
        self.assert_word(VerdictKind.FAILED, self.judge_at("MAINTENANCE"))

    def test_it_need_not_matter(self):
        self.service()
        self.conf.set_override("respect_disabled", False, "nova")
        self.assert_word(VerdictKind.FAILED, self.judge_at("MAINTENANCE"))

    def test_only_failures_are_muted(self):
        self.service()
        self.assert_word(
            VerdictKind.PLANNED, self.judge_at("MAINTENANCE", "lifecycle.stopped/destroyed")
        )

    def test_nobody_knows(self):
        self.nova.service = Retriable("it answers 500")
        self.assert_word(VerdictKind.UNKNOWN, self.judge_at("MAINTENANCE"), "500")
        self.nova.service = None
        self.assert_word(VerdictKind.FAILED, self.judge_at("MAINTENANCE"))
