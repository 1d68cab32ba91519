# SPDX-License-Identifier: Apache-2.0
"""Test the verdict on the events of each fault that libvirt reports."""

import testtools
from oslo_config import cfg

from vmmonitor.expectation.libvirt import LibvirtExpectation
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.testing import builders

BY_HOST = "lifecycle.stopped/shutdown by host"
DESTROYED = "lifecycle.shutdown/host lifecycle.stopped/destroyed"
IO_PAUSE = "io_error/pause io_error_reason/pause lifecycle.suspended/ioerror"

#: Name -> (events, oldest first; verdict).
FAULTS = {
    "qemu is killed or crashes": ("lifecycle.stopped/failed", VerdictKind.FAILED),
    "qemu gets SIGTERM": (f"lifecycle.shutdown/host {BY_HOST}", VerdictKind.FAILED),
    "the guest powers itself off": (
        "lifecycle.shutdown/guest lifecycle.stopped/shutdown",
        VerdictKind.PLANNED,
    ),
    "the guest resets itself": ("reboot reboot", VerdictKind.UNKNOWN),
    "destroy": (DESTROYED, VerdictKind.PLANNED),
    "it failed, and reconciliation found that": (
        "reconcile.not_running/failed",
        VerdictKind.FAILED,
    ),
    "it was destroyed, and reconciliation found that": (
        "reconcile.not_running/destroyed",
        VerdictKind.PLANNED,
    ),
    "it is missing without an event": ("reconcile.missing", VerdictKind.UNKNOWN),
    "it was destroyed after it was missed": (
        f"reconcile.missing {DESTROYED}",
        VerdictKind.PLANNED,
    ),
    "destroy, its first event only": ("lifecycle.shutdown/host", VerdictKind.UNKNOWN),
    "destroy, during its start after a failure": (
        "process.exited lifecycle.stopped/failed lifecycle.shutdown/host control_error",
        VerdictKind.UNKNOWN,
    ),
    "killed again, after a start that was ended": (
        "lifecycle.stopped/failed lifecycle.shutdown/host lifecycle.started/booted "
        "lifecycle.stopped/failed",
        VerdictKind.FAILED,
    ),
    "suspend": ("lifecycle.suspended/paused lifecycle.suspended/paused", VerdictKind.PLANNED),
    "suspend, found later": ("lifecycle.suspended/user", VerdictKind.PLANNED),
    "save": (
        "lifecycle.suspended/paused migration_iteration job_completed/save "
        "lifecycle.stopped/saved",
        VerdictKind.PLANNED,
    ),
    "snapshot": ("lifecycle.suspended/snapshot", VerdictKind.PLANNED),
    "back to a stopped snapshot": ("lifecycle.stopped/from_snapshot", VerdictKind.PLANNED),
    "back to a paused snapshot": ("lifecycle.suspended/from_snapshot", VerdictKind.PLANNED),
    "the guest sleeps": ("lifecycle.pmsuspended/memory", VerdictKind.PLANNED),
    "migration, under way": (
        "migration_iteration lifecycle.suspended/migrated",
        VerdictKind.PLANNED,
    ),
    "migration, source": (
        "migration_iteration lifecycle.suspended/migrated lifecycle.stopped/migrated "
        "job_completed/migration_out",
        VerdictKind.PLANNED,
    ),
    "migration, target": (
        "lifecycle.started/migrated lifecycle.resumed/migrated",
        VerdictKind.UNKNOWN,
    ),
    "post-copy broke off": ("lifecycle.suspended/postcopy_failed", VerdictKind.UNKNOWN),
    "panic, preserve": (
        "lifecycle.suspended/paused lifecycle.crashed/panicked",
        VerdictKind.FAILED,
    ),
    "panic, destroy": ("lifecycle.crashed/panicked lifecycle.stopped/crashed", VerdictKind.FAILED),
    "panic, restart": (
        "lifecycle.crashed/panicked reboot lifecycle.resumed/unpaused reboot",
        VerdictKind.UNKNOWN,
    ),
    "panic, kdump": ("lifecycle.crashed/crashloaded", VerdictKind.UNKNOWN),
    "crash, found later": ("lifecycle.crashed/unknown", VerdictKind.FAILED),
    "watchdog, reset": ("watchdog/reset reboot reboot", VerdictKind.FAILED),
    "watchdog, poweroff": ("watchdog/poweroff lifecycle.stopped/failed", VerdictKind.FAILED),
    "watchdog, none": ("watchdog/none", VerdictKind.FAILED),
    "watchdog, pause": ("watchdog/pause lifecycle.suspended/watchdog", VerdictKind.FAILED),
    "disk error, stop": (IO_PAUSE, VerdictKind.FAILED),
    "disk error, stop, no name": ("lifecycle.suspended/ioerror", VerdictKind.FAILED),
    "disk error, report": ("io_error/report io_error_reason/report", VerdictKind.FAILED),
    "disk error, report, no name": ("block_io_error/report", VerdictKind.FAILED),
    "libvirt could not resume it": ("lifecycle.suspended/api_error", VerdictKind.FAILED),
    "stopped by the daemon": ("lifecycle.stopped/daemon", VerdictKind.FAILED),
    "vanished while not monitored": ("lifecycle.stopped/vanished", VerdictKind.UNKNOWN),
    "stopped for an unknown reason": ("lifecycle.stopped/unknown", VerdictKind.UNKNOWN),
    "an unknown detail": ("lifecycle.stopped/unknown-9", VerdictKind.UNKNOWN),
    "qemu hangs": ("liveness.hung/monitor", VerdictKind.FAILED),
    "qemu hangs, with an unknown detail": ("liveness.hung/new", VerdictKind.FAILED),
    "qemu hung": ("liveness.hung/stopped liveness.recovered", VerdictKind.UNKNOWN),
    "qemu hung, and the finding was cleared": (
        "liveness.hung/stopped liveness.cleared/hung",
        VerdictKind.UNKNOWN,
    ),
    "the guest stalls, qemu responds again": (
        "liveness.stalled/failed liveness.hung/monitor liveness.cleared/hung",
        VerdictKind.FAILED,
    ),
    "qemu hangs, something else ended": (
        "liveness.hung/zombie liveness.cleared/paused",
        VerdictKind.FAILED,
    ),
    "the guest stalls": ("liveness.stalled/suspect liveness.stalled/failed", VerdictKind.FAILED),
    "the guest may stall": ("liveness.stalled/suspect", VerdictKind.UNKNOWN),
    "the guest stalled": ("liveness.stalled/failed liveness.recovered", VerdictKind.UNKNOWN),
    "found paused by a disk error": ("liveness.paused/ioerror", VerdictKind.FAILED),
    "found paused by its watchdog": ("liveness.paused/watchdog", VerdictKind.FAILED),
    "found paused after post-copy": ("liveness.paused/postcopy_failed", VerdictKind.UNKNOWN),
    "found paused by a user": ("liveness.paused/user", VerdictKind.PLANNED),
    "another kind of event": ("memory_failure/fatal", VerdictKind.UNKNOWN),
    "nothing at all": ("", VerdictKind.UNKNOWN),
}

#: The same with the end of the process, which has no cause.
ENDS = {
    "the process ended": ("process.exited", VerdictKind.UNKNOWN),
    "it ended after a start": ("lifecycle.started/booted process.exited", VerdictKind.UNKNOWN),
    "it ended while paused": (f"{IO_PAUSE} process.exited", VerdictKind.UNKNOWN),
    "it ended, then why": ("process.exited lifecycle.stopped/failed", VerdictKind.FAILED),
    "it ended, then why, and it was planned": (f"process.exited {DESTROYED}", VerdictKind.PLANNED),
    "it ended, and why was stamped earlier": (
        "lifecycle.stopped/daemon process.exited",
        VerdictKind.FAILED,
    ),
    "it was started since": (
        "lifecycle.stopped/failed lifecycle.started/booted process.exited",
        VerdictKind.UNKNOWN,
    ),
    "it ended, then a symptom": ("process.exited watchdog/reset", VerdictKind.UNKNOWN),
}

#: The same for events whose order decides.
ORDERS = {
    "hung and paused, responds again": (
        "lifecycle.suspended/ioerror liveness.hung/monitor liveness.recovered",
        VerdictKind.FAILED,
    ),
    "paused, then resumed, then hung": (
        "liveness.paused/ioerror lifecycle.resumed/unpaused liveness.hung/monitor",
        VerdictKind.FAILED,
    ),
    "hung, then started again": (
        "liveness.hung/monitor lifecycle.started/booted",
        VerdictKind.UNKNOWN,
    ),
    "hung, then destroyed": (f"liveness.hung/monitor {DESTROYED}", VerdictKind.PLANNED),
    "hung while its guest asked for a reset": (
        "watchdog/reset liveness.hung/stopped",
        VerdictKind.FAILED,
    ),
    "hung, with another symptom": (
        "watchdog/reset liveness.hung/x liveness.recovered",
        VerdictKind.FAILED,
    ),
    "destroyed after its failure": (
        f"lifecycle.crashed/panicked {DESTROYED}",
        VerdictKind.PLANNED,
    ),
    "destroyed while paused by its disk": (f"{IO_PAUSE} {DESTROYED}", VerdictKind.PLANNED),
    "paused by a user, then a late disk error": (
        "lifecycle.suspended/paused io_error/report",
        VerdictKind.PLANNED,
    ),
    "failed after a planned stop and start": (
        f"{DESTROYED} lifecycle.started/booted lifecycle.stopped/failed",
        VerdictKind.FAILED,
    ),
    "resumed, and the disk fails again": (
        f"{IO_PAUSE} lifecycle.resumed/unpaused io_error/report",
        VerdictKind.FAILED,
    ),
    "resumed, and all is well": (f"{IO_PAUSE} lifecycle.resumed/unpaused", VerdictKind.UNKNOWN),
    "recovered": ("lifecycle.stopped/failed recovery.running", VerdictKind.UNKNOWN),
    "deleted": (f"{DESTROYED} lifecycle.undefined/removed", VerdictKind.GONE),
    "deleted after its failure": (
        "lifecycle.stopped/failed lifecycle.undefined/removed",
        VerdictKind.GONE,
    ),
    "deleted after it vanished": (
        "lifecycle.stopped/vanished lifecycle.undefined/removed",
        VerdictKind.GONE,
    ),
    "defined again": (
        "lifecycle.stopped/failed lifecycle.undefined/removed lifecycle.defined/added",
        VerdictKind.FAILED,
    ),
    "renamed": ("lifecycle.stopped/failed lifecycle.undefined/renamed", VerdictKind.FAILED),
    "undefined while it runs": ("watchdog/reset lifecycle.undefined/removed", VerdictKind.FAILED),
    "undefined while it is paused": (
        f"{IO_PAUSE} lifecycle.undefined/removed",
        VerdictKind.FAILED,
    ),
    "undefined, then killed": (
        "lifecycle.undefined/removed lifecycle.stopped/failed",
        VerdictKind.FAILED,
    ),
}


def _events(story: str) -> list[Event]:
    words = story.replace(BY_HOST, "by-host").split()
    return [_by_host() if word == "by-host" else builders.event(word) for word in words]


def _by_host() -> Event:
    return builders.event("lifecycle.stopped/shutdown", attributes={"shutdown_by": "host"})


class TestLibvirtExpectation(testtools.TestCase):
    def judge(self, events: list[Event]) -> Verdict:
        return LibvirtExpectation(cfg.ConfigOpts()).judge(builders.incident(), events)

    def check(self, stories: dict[str, tuple[str, str]]) -> None:
        expected = {what: word for what, (_, word) in stories.items()}
        judged = {what: self.judge(_events(story)).kind for what, (story, _) in stories.items()}
        self.assertEqual(expected, judged)

    def test_fault_has_the_expected_verdict(self):
        self.check(FAULTS)

    def test_newest_event_decides(self):
        self.check(ORDERS)

    def test_process_exit_has_the_expected_verdict(self):
        self.check(ENDS)

    def test_explained_process_exit_does_not_decide(self):
        events = _events("lifecycle.stopped/destroyed process.exited")
        events[1] = builders.event("process.exited", attributes={"follows": events[0].cause})
        self.assertEqual(VerdictKind.PLANNED, self.judge(events).kind)
        replaced = builders.event("process.exited", attributes={"replaced": True})
        self.assertEqual(
            VerdictKind.FAILED, self.judge([*_events("watchdog/reset"), replaced]).kind
        )

    def test_failed_arrival_is_planned(self):
        died = builders.event("lifecycle.stopped/failed", attributes={"was_arriving": True})
        verdict = self.judge([died])
        self.assertEqual(VerdictKind.PLANNED, verdict.kind)
        self.assertIn("before it ran here", verdict.reason)

    def judge_paused(self, pause: str, cause: str = "lifecycle.stopped/failed") -> str:
        event = builders.event(cause, attributes={"was_paused": pause})
        return self.judge([event]).kind

    def test_instance_that_was_paused_on_purpose_is_left_to_an_operator(self):
        """A recovery would let it run, which its owner did not want."""
        for pause in ("paused", "user", "restored", "from_snapshot"):
            self.assertEqual(VerdictKind.MANUAL, self.judge_paused(pause))
            planned = self.judge_paused(pause, "lifecycle.stopped/destroyed")
            self.assertEqual(VerdictKind.PLANNED, planned)
            unknown = self.judge_paused(pause, "lifecycle.stopped/vanished")
            self.assertEqual(VerdictKind.UNKNOWN, unknown)

    def test_instance_that_was_paused_by_a_failure_is_failed(self):
        for pause in ("ioerror", "watchdog", "crashed", "api_error", "migration", "starting_up"):
            self.assertEqual(VerdictKind.FAILED, self.judge_paused(pause))

    def test_shutdown_by_the_guest_is_planned(self):
        by_guest = builders.event(
            "lifecycle.stopped/shutdown", attributes={"shutdown_by": "guest"}
        )
        self.assertEqual(VerdictKind.PLANNED, self.judge([by_guest]).kind)

    def test_late_event_of_the_source_host_does_not_decide(self):
        late = builders.event("lifecycle.stopped/migrated", host="compute-2")
        self.assertEqual(
            VerdictKind.FAILED, self.judge([builders.event("lifecycle.stopped/failed"), late]).kind
        )
        self.assertEqual(VerdictKind.UNKNOWN, self.judge([late]).kind)

    def test_symptom_counts_after_a_migration(self):
        moved = [
            builders.event("watchdog/reset", host="compute-0"),
            builders.event("lifecycle.suspended/migrated", host="compute-0"),
            builders.event("lifecycle.started/migrated"),
            builders.event("lifecycle.resumed/migrated"),
            builders.event("lifecycle.stopped/migrated", host="compute-0"),
        ]
        verdict = self.judge(moved)
        self.assertEqual((VerdictKind.FAILED, True), (verdict.kind, "watchdog" in verdict.reason))
        self.assertEqual(VerdictKind.UNKNOWN, self.judge(moved[1:]).kind)
        self.assertEqual(
            VerdictKind.PLANNED,
            self.judge([*moved, builders.event("lifecycle.stopped/destroyed")]).kind,
        )

    def test_verdict_has_a_readable_reason(self):
        self.assertEqual(
            "libvirt reported lifecycle.stopped/shutdown by host: a process on the host other "
            "than libvirt ended its process",
            self.judge([_by_host()]).reason,
        )
        self.assertIn(
            "while its host was not monitored",
            self.judge(_events("lifecycle.stopped/vanished")).reason,
        )
        self.assertEqual("its host reported nothing: not conclusive", self.judge([]).reason)
        self.assertEqual(
            "libvirt reported memory_failure/fatal: not conclusive",
            self.judge(_events("memory_failure/fatal")).reason,
        )
