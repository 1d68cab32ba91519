# SPDX-License-Identifier: Apache-2.0
"""Test the settings of a failed server: recovery, priority, and maintenance of its host."""

from typing import Any

from vmmonitor.model.errors import Retriable
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.tests.unit.expectation.test_nova import NovaCase, server


class MetadataTest(NovaCase):
    def word(self, metadata: Any) -> str:
        return self.judge(server(metadata=metadata)).kind

    def test_metadata_can_disable_recovery(self):
        for said in ("False", "false", "no", "0", "off"):
            self.assertEqual(VerdictKind.PLANNED, self.word({"HA_Enabled": said}))
        for metadata in ({"HA_Enabled": "True"}, {"HA_Enabled": "whatever"}, {}, None, []):
            self.assertEqual(VerdictKind.FAILED, self.word(metadata))

    def test_metadata_can_enable_recovery(self):
        self.conf.set_override("recover_by_default", False, "nova")
        self.assertEqual(VerdictKind.FAILED, self.word({"HA_Enabled": "True"}))
        for metadata in ({"HA_Enabled": "False"}, {"HA_Enabled": "whatever"}, {}, None):
            self.assertEqual(VerdictKind.PLANNED, self.word(metadata))

    def test_metadata_key_is_configurable(self):
        self.conf.set_override("metadata_key", "recover", "nova")
        self.assertEqual(VerdictKind.FAILED, self.word({"HA_Enabled": "False"}))
        self.assertEqual(VerdictKind.PLANNED, self.word({"recover": "False"}))
        self.conf.set_override("metadata_key", "", "nova")
        self.assertEqual(VerdictKind.FAILED, self.word({"": "False", "recover": "False"}))


class PriorityTest(NovaCase):
    def said(self, word: Any) -> Verdict:
        return self.judge(server(metadata={"vmmonitor:priority": word}))

    def test_priority_is_read_from_metadata(self):
        for word, number in (("100", 100), ("-100", -100), ("+7", 7), (" 5 ", 5), (12, 12)):
            verdict = self.said(word)
            self.assertEqual((VerdictKind.FAILED, number), (verdict.kind, verdict.priority))
            self.assertIn(f"; its priority is {number}", verdict.reason)

    def test_invalid_priority_counts_as_zero_with_a_warning(self):
        for word in ("101", "-101", "high", "", "1e2", "7.5", "9" * 255, [], {"a": 1}):
            verdict = self.said(word)
            self.assertEqual((VerdictKind.FAILED, 0), (verdict.kind, verdict.priority), word)
            self.assertIn("its metadata has vmmonitor:priority = ", verdict.reason)
            self.assertIn("counts as 0", verdict.reason)
            self.assertLess(len(verdict.reason), 350)

    def test_missing_priority_is_zero(self):
        self.assertEqual(0, self.judge(server()).priority)
        self.assertNotIn("priority", self.judge(server()).reason)
        self.conf.set_override("priority_key", "", "nova")
        self.assertEqual(0, self.said("7").priority)

    def test_priority_key_is_configurable(self):
        self.conf.set_override("priority_key", "weight", "nova")
        self.assertEqual(9, self.judge(server(metadata={"weight": "9"})).priority)


class MaintenanceTest(NovaCase):
    def service(self, status: str = "disabled", reason: Any = None, **changes: Any) -> None:
        self.nova.service = {"status": status, "disabled_reason": reason, **changes}

    def judge_at(self, host_status: Any, *causes: str) -> Verdict:
        return self.judge(server(host_status=host_status), *causes)

    def test_disabled_host_mutes_the_verdict(self):
        self.service(reason="new memory")
        verdict = self.judge_at("MAINTENANCE")
        self.assert_word(
            VerdictKind.MUTED, verdict, "nova-compute on compute-1 is disabled (new memory)"
        )
        self.assertIn("libvirt reported lifecycle.stopped/failed", verdict.reason)

    def test_maintenance_is_cached(self):
        self.service()
        self.judge_at("MAINTENANCE")
        self.judge_at("MAINTENANCE")
        self.assertEqual(1, self.nova.asked.count("compute-1"))

    def test_unknown_host_status_reads_the_service(self):
        self.service()
        for status in ("DOWN", None, "", ["UP"]):
            self.assert_word(VerdictKind.MUTED, self.judge_at(status), "maintenance")

    def test_host_that_is_down_does_not_mute(self):
        self.service("enabled", state="down", forced_down=True)
        self.assert_word(VerdictKind.FAILED, self.judge_at("DOWN"))
        self.assert_word(VerdictKind.FAILED, self.judge_at("UNKNOWN"))

    def test_host_that_is_up_needs_no_request(self):
        self.service()
        self.assert_word(VerdictKind.FAILED, self.judge_at("UP"))
        self.assertNotIn("compute-1", self.nova.asked)

    def test_host_disabled_by_vmmonitor_does_not_mute(self):
        self.service(reason="vmmonitor: io_error/pause, incident 1")
        self.assert_word(VerdictKind.FAILED, self.judge_at("MAINTENANCE"))

    def test_maintenance_is_ignored_if_configured(self):
        self.service()
        self.conf.set_override("respect_disabled", False, "nova")
        self.assert_word(VerdictKind.FAILED, self.judge_at("MAINTENANCE"))

    def test_planned_verdict_is_not_muted(self):
        self.service()
        self.assert_word(
            VerdictKind.PLANNED, self.judge_at("MAINTENANCE", "lifecycle.stopped/destroyed")
        )

    def test_unavailable_service_makes_the_verdict_unknown(self):
        self.nova.service = Retriable("HTTP status 500")
        self.assert_word(VerdictKind.UNKNOWN, self.judge_at("MAINTENANCE"), "500")
        self.nova.service = None
        self.assert_word(VerdictKind.FAILED, self.judge_at("MAINTENANCE"))
