# SPDX-License-Identifier: Apache-2.0
"""Test the effect of nova's operations on verdicts."""

import unittest

from oslo_config import cfg

from vmmonitor.expectation import operations
from vmmonitor.expectation.libvirt import LibvirtExpectation
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.testing import builders
from vmmonitor.testing.builders import AT

SECOND = 1_000_000
BY = {"by_user": "alice"}
IT_FAILED = Verdict(kind=VerdictKind.FAILED, reason="libvirt reported that it failed")
INCONCLUSIVE = Verdict(kind=VerdictKind.UNKNOWN, reason="not conclusive")

#: Name -> nova's events with their time in seconds before (-) or after the incident was opened,
#: the verdict after FAILED, and the verdict after UNKNOWN; None for no change.
STORIES = {
    "nothing": ("", None, None),
    "powering off": ("-1 power_off/start", VerdictKind.UNKNOWN, VerdictKind.PLANNED),
    "powered off": (
        "-3 power_off/start -1 power_off/end",
        VerdictKind.PLANNED,
        VerdictKind.PLANNED,
    ),
    "powered off while the host's event was in transit": (
        "-3 power_off/start 1 power_off/end",
        VerdictKind.PLANNED,
        VerdictKind.PLANNED,
    ),
    "powered off and on again": (
        "-30 power_off/start -20 power_off/end -10 power_on/start -9 power_on/end",
        None,
        None,
    ),
    "powered off, which failed": ("-3 power_off/start -1 power_off/error", None, None),
    "powered off, whose end never came": ("-601 power_off/start", None, None),
    "deleting": ("-2 delete/start -1 shutdown/start", VerdictKind.UNKNOWN, VerdictKind.PLANNED),
    "deleted": (
        "-3 delete/start -2 shutdown/end -1 delete/end",
        VerdictKind.PLANNED,
        VerdictKind.PLANNED,
    ),
    "deleted later, by a user": ("5 delete/start", VerdictKind.UNKNOWN, VerdictKind.PLANNED),
    "paused": ("-9 pause/start -8 pause/end", VerdictKind.MANUAL, VerdictKind.UNKNOWN),
    "paused, and unpaused": ("-9 pause/start -8 pause/end -7 unpause/end", None, None),
    "rescued": ("-9 rescue/start -3 rescue/end", VerdictKind.MANUAL, VerdictKind.UNKNOWN),
    "shelved": (
        "-9 shelve/start -8 shelve/end -7 shelve_offload/end",
        VerdictKind.PLANNED,
        VerdictKind.PLANNED,
    ),
    "suspended": ("-9 suspend/start -8 suspend/end", VerdictKind.PLANNED, VerdictKind.PLANNED),
    "a dump was requested": (
        "-1 trigger_crash_dump/start",
        VerdictKind.UNKNOWN,
        VerdictKind.PLANNED,
    ),
    "rebooting": ("-1 reboot/start", VerdictKind.UNKNOWN, VerdictKind.UNKNOWN),
    "rebooted": ("-3 reboot/start -1 reboot/end", None, None),
    "a reboot that failed": ("-3 reboot/start -1 reboot/error", None, None),
    "a reboot that failed, as nova 34 reports it": (
        "-3 reboot/start -1 error/exception",
        None,
        None,
    ),
    "a reboot that ended in error": ("-3 reboot/start -1 error/state", None, None),
    "a reboot of long ago": ("-900 reboot/start", None, None),
    "migrating": (
        "-9 live_migration_pre/start -8 live_migration_pre/end",
        VerdictKind.UNKNOWN,
        VerdictKind.UNKNOWN,
    ),
    "migrated": (
        "-9 live_migration_pre/start -8 live_migration_pre/end -1 live_migration_post/end",
        None,
        None,
    ),
    "a preparation that failed": (
        "-9 live_migration_pre/start -8 live_migration_pre/error",
        None,
        None,
    ),
    "powering off, while something else fails": (
        "-3 power_off/start -2 volume_attach/error",
        VerdictKind.UNKNOWN,
        VerdictKind.PLANNED,
    ),
    "a migration that failed": (
        "-9 live_migration_pre/start -8 live_migration_pre/end -1 live_migration_rollback/start",
        None,
        None,
    ),
    "only the end of a preparation": ("-8 live_migration_pre/end", None, None),
    "resizing": (
        "-9 resize_prep/start -8 resize_prep/end -7 resize/start",
        VerdictKind.UNKNOWN,
        VerdictKind.UNKNOWN,
    ),
    "resizing, after the transfer": (
        "-7 resize/start -2 resize/end",
        VerdictKind.UNKNOWN,
        VerdictKind.UNKNOWN,
    ),
    "resizing, from the start": (
        "-9 resize_prep/start -8 resize_prep/end -7 resize/start -2 resize/end",
        VerdictKind.UNKNOWN,
        VerdictKind.UNKNOWN,
    ),
    "resized": ("-7 resize/start -2 resize_finish/end", None, None),
    "a snapshot": ("-7 snapshot/start", VerdictKind.UNKNOWN, VerdictKind.UNKNOWN),
    "something new": ("-7 teleport/start", None, None),
    "locked": ("-7 lock", None, None),
    "out of order": ("-1 power_on/end -9 power_off/start -8 power_off/end", None, None),
}


def nova_events(story: str, **attributes: str) -> list[Event]:
    """Return nova's events of a story, which has pairs of time and name."""
    words = story.split()
    return [
        builders.event(
            f"nova.{name}",
            source="nova_notifications",
            occurred_at=AT + int(at) * SECOND,
            attributes=attributes or BY,
        )
        for at, name in zip(words[::2], words[1::2], strict=True)
    ]


class OperationsTest(unittest.TestCase):
    def test_operation_changes_the_verdict_as_expected(self):
        for name, (story, failed, unclear) in STORIES.items():
            events = nova_events(story)
            for given, wanted in ((IT_FAILED, failed), (INCONCLUSIVE, unclear)):
                with self.subTest(name, given=given.kind):
                    ended = [*events, builders.event("lifecycle.stopped/unknown")]
                    verdict = operations.judge(builders.incident(), ended, given)
                    self.assertEqual(wanted or given.kind, verdict.kind, verdict.reason)
                    if wanted is None:
                        self.assertIs(given, verdict)

    def test_operation_without_a_user_does_not_count(self):
        """nova stops an instance that it finds dead, as a consequence of the failure."""
        for story in ("-1 power_off/start", "-3 power_off/start -1 power_off/end"):
            events = nova_events(story, request_id="req-1")
            self.assertIs(IT_FAILED, operations.judge(builders.incident(), events, IT_FAILED))

    def test_restart_without_a_user_ends_an_operation(self):
        events = [
            *nova_events("-9 power_off/start -8 power_off/end"),
            *nova_events("-7 reboot/start", x="y"),
        ]
        self.assertIsNone(operations.current_operation(builders.incident(), events))

    def test_only_a_stop_is_part_of_an_operation(self):
        for cause in ("lifecycle.suspended/postcopy_failed", "memory_failure/fatal"):
            events = [*nova_events("-1 live_migration_pre/start"), builders.event(cause)]
            verdict = operations.judge(builders.incident(), events, INCONCLUSIVE)
            self.assertEqual(VerdictKind.UNKNOWN, verdict.kind, cause)

    def test_verdict_contains_operation_and_user(self):
        events = nova_events("-3 power_off/start -1 power_off/end")
        verdict = operations.judge(builders.incident(), events, IT_FAILED)
        self.assertEqual("nova has finished powering it off, requested by alice", verdict.reason)
        verdict = operations.judge(builders.incident(), nova_events("-1 reboot/start"), IT_FAILED)
        self.assertIn("libvirt reported that it failed; nova is rebooting it", verdict.reason)

    def test_planned_and_gone_verdicts_are_unchanged(self):
        for word in (VerdictKind.PLANNED, VerdictKind.GONE):
            given = Verdict(kind=word, reason="")
            self.assertIs(
                given, operations.judge(builders.incident(), nova_events("-1 reboot/start"), given)
            )

    def test_running_instance_ends_a_finished_operation(self):
        events = nova_events("-9 power_off/start -8 power_off/end")
        events.append(builders.event("lifecycle.started/booted", occurred_at=AT - SECOND))
        self.assertIsNone(operations.current_operation(builders.incident(), events))

    def test_running_instance_keeps_an_unfinished_operation(self):
        events = nova_events("-9 power_off/start")
        events.append(builders.event("lifecycle.resumed/unpaused", occurred_at=AT - SECOND))
        self.assertIsNotNone(operations.current_operation(builders.incident(), events))


class LibvirtTest(unittest.TestCase):
    def judge(self, *events: Event) -> str:
        return LibvirtExpectation(cfg.ConfigOpts()).judge(builders.incident(), events).kind

    def test_libvirt_expectation_takes_operations_into_account(self):
        died = builders.event("lifecycle.stopped/failed")
        self.assertEqual(VerdictKind.FAILED, self.judge(died))
        stopping = nova_events("-1 power_off/start")
        self.assertEqual(VerdictKind.UNKNOWN, self.judge(*stopping, died))
        stopped = nova_events("-1 power_off/start 1 power_off/end")
        self.assertEqual(VerdictKind.PLANNED, self.judge(*stopped, died))
        self.assertEqual(VerdictKind.UNKNOWN, self.judge(*nova_events("-1 reboot/start"), died))
        self.assertEqual(
            VerdictKind.FAILED, self.judge(*nova_events("-2 reboot/start -1 reboot/error"), died)
        )
        gone = builders.event("process.exited")
        self.assertEqual(VerdictKind.PLANNED, self.judge(*stopping, gone))
        self.assertEqual(VerdictKind.UNKNOWN, self.judge(*nova_events("-1 reboot/start"), gone))
