# SPDX-License-Identifier: Apache-2.0
"""Every fault that libvirt tells of, in the order in which it tells it."""

import testtools
from oslo_config import cfg

from vmmonitor.expectation.libvirt import LibvirtExpectation
from vmmonitor.model.event import Event
from vmmonitor.model.incident import FAILED, GONE, PLANNED, UNKNOWN, Verdict
from vmmonitor.testing import builders

BY_HOST = "lifecycle.stopped/shutdown by host"
DESTROYED = "lifecycle.shutdown/host lifecycle.stopped/destroyed"
IO_PAUSE = "io_error/pause io_error_reason/pause lifecycle.suspended/ioerror"

#: What happens: (the events, oldest first; the verdict).
FAULTS = {
    "qemu is killed or crashes": ("lifecycle.stopped/failed", FAILED),
    "qemu gets SIGTERM": (f"lifecycle.shutdown/host {BY_HOST}", FAILED),
    "the guest powers itself off": (
        "lifecycle.shutdown/guest lifecycle.stopped/shutdown",
        PLANNED,
    ),
    "the guest resets itself": ("reboot reboot", UNKNOWN),
    "destroy": (DESTROYED, PLANNED),
    "it failed, and reconciliation found that": ("reconcile.not_running/failed", FAILED),
    "it was destroyed, and reconciliation found that": (
        "reconcile.not_running/destroyed",
        PLANNED,
    ),
    "it is gone without a trace": ("reconcile.missing", UNKNOWN),
    "it was destroyed after it was missed": (f"reconcile.missing {DESTROYED}", PLANNED),
    "destroy, half told": ("lifecycle.shutdown/host", UNKNOWN),
    "suspend": ("lifecycle.suspended/paused lifecycle.suspended/paused", PLANNED),
    "suspend, found later": ("lifecycle.suspended/user", PLANNED),
    "save": (
        "lifecycle.suspended/paused migration_iteration job_completed/save "
        "lifecycle.stopped/saved",
        PLANNED,
    ),
    "snapshot": ("lifecycle.suspended/snapshot", PLANNED),
    "back to a stopped snapshot": ("lifecycle.stopped/from_snapshot", PLANNED),
    "back to a paused snapshot": ("lifecycle.suspended/from_snapshot", PLANNED),
    "the guest sleeps": ("lifecycle.pmsuspended/memory", PLANNED),
    "migration, under way": ("migration_iteration lifecycle.suspended/migrated", PLANNED),
    "migration, source": (
        "migration_iteration lifecycle.suspended/migrated lifecycle.stopped/migrated "
        "job_completed/migration_out",
        PLANNED,
    ),
    "migration, target": ("lifecycle.started/migrated lifecycle.resumed/migrated", UNKNOWN),
    "post-copy broke off": ("lifecycle.suspended/postcopy_failed", UNKNOWN),
    "panic, preserve": ("lifecycle.suspended/paused lifecycle.crashed/panicked", FAILED),
    "panic, destroy": ("lifecycle.crashed/panicked lifecycle.stopped/crashed", FAILED),
    "panic, restart": (
        "lifecycle.crashed/panicked reboot lifecycle.resumed/unpaused reboot",
        UNKNOWN,
    ),
    "panic, kdump": ("lifecycle.crashed/crashloaded", UNKNOWN),
    "crash, found later": ("lifecycle.crashed/unknown", FAILED),
    "watchdog, reset": ("watchdog/reset reboot reboot", FAILED),
    "watchdog, poweroff": ("watchdog/poweroff lifecycle.stopped/failed", FAILED),
    "watchdog, none": ("watchdog/none", FAILED),
    "watchdog, pause": ("watchdog/pause lifecycle.suspended/watchdog", FAILED),
    "disk error, stop": (IO_PAUSE, FAILED),
    "disk error, stop, no name": ("lifecycle.suspended/ioerror", FAILED),
    "disk error, report": ("io_error/report io_error_reason/report", FAILED),
    "disk error, report, no name": ("block_io_error/report", FAILED),
    "libvirt could not resume it": ("lifecycle.suspended/api_error", FAILED),
    "the daemon gave it up": ("lifecycle.stopped/daemon", FAILED),
    "gone while nobody watched": ("lifecycle.stopped/vanished", UNKNOWN),
    "stopped, nobody knows why": ("lifecycle.stopped/unknown", UNKNOWN),
    "newer than this table": ("lifecycle.stopped/unknown-9", UNKNOWN),
    "qemu hangs": ("liveness.hung/monitor", FAILED),
    "qemu hangs, a detail of tomorrow": ("liveness.hung/new", FAILED),
    "qemu hung": ("liveness.hung/stopped liveness.recovered", UNKNOWN),
    "qemu hung, told otherwise": ("liveness.hung/stopped liveness.cleared/hung", UNKNOWN),
    "the guest stalls, qemu answers again": (
        "liveness.stalled/failed liveness.hung/monitor liveness.cleared/hung",
        FAILED,
    ),
    "qemu hangs, something else ended": ("liveness.hung/zombie liveness.cleared/paused", FAILED),
    "the guest stalls": ("liveness.stalled/suspect liveness.stalled/failed", FAILED),
    "the guest may stall": ("liveness.stalled/suspect", UNKNOWN),
    "the guest stalled": ("liveness.stalled/failed liveness.recovered", UNKNOWN),
    "found paused by a disk error": ("liveness.paused/ioerror", FAILED),
    "found paused by its watchdog": ("liveness.paused/watchdog", FAILED),
    "found paused after post-copy": ("liveness.paused/postcopy_failed", UNKNOWN),
    "found paused by somebody": ("liveness.paused/user", PLANNED),
    "another kind of event": ("memory_failure/fatal", UNKNOWN),
    "nothing at all": ("", UNKNOWN),
}

#: The same, with the end of the process, which is told without a cause.
ENDS = {
    "the process ended": ("process.exited", UNKNOWN),
    "it ended after a start": ("lifecycle.started/booted process.exited", UNKNOWN),
    "it ended while paused": (f"{IO_PAUSE} process.exited", UNKNOWN),
    "it ended, then why": ("process.exited lifecycle.stopped/failed", FAILED),
    "it ended, then why, and it was planned": (f"process.exited {DESTROYED}", PLANNED),
    "it ended, and why was stamped earlier": ("lifecycle.stopped/daemon process.exited", FAILED),
    "it was started since": (
        "lifecycle.stopped/failed lifecycle.started/booted process.exited",
        UNKNOWN,
    ),
    "it ended, then a symptom": ("process.exited watchdog/reset", UNKNOWN),
}

#: The same, where the order decides.
ORDERS = {
    "hung and paused, answers again": (
        "lifecycle.suspended/ioerror liveness.hung/monitor liveness.recovered",
        FAILED,
    ),
    "paused, then resumed, then hung": (
        "liveness.paused/ioerror lifecycle.resumed/unpaused liveness.hung/monitor",
        FAILED,
    ),
    "hung, then started anew": ("liveness.hung/monitor lifecycle.started/booted", UNKNOWN),
    "hung, then destroyed": (f"liveness.hung/monitor {DESTROYED}", PLANNED),
    "hung while its guest asked for a reset": ("watchdog/reset liveness.hung/stopped", FAILED),
    "hung, with another symptom": ("watchdog/reset liveness.hung/x liveness.recovered", FAILED),
    "destroyed after its failure": (f"lifecycle.crashed/panicked {DESTROYED}", PLANNED),
    "destroyed while paused by its disk": (f"{IO_PAUSE} {DESTROYED}", PLANNED),
    "paused by somebody, then a late disk error": (
        "lifecycle.suspended/paused io_error/report",
        PLANNED,
    ),
    "failed after a planned stop and start": (
        f"{DESTROYED} lifecycle.started/booted lifecycle.stopped/failed",
        FAILED,
    ),
    "resumed, and the disk fails again": (
        f"{IO_PAUSE} lifecycle.resumed/unpaused io_error/report",
        FAILED,
    ),
    "resumed, and all is well": (f"{IO_PAUSE} lifecycle.resumed/unpaused", UNKNOWN),
    "recovered": ("lifecycle.stopped/failed recovery.running", UNKNOWN),
    "deleted": (f"{DESTROYED} lifecycle.undefined/removed", GONE),
    "deleted after its failure": (
        "lifecycle.stopped/failed lifecycle.undefined/removed",
        GONE,
    ),
    "deleted when nobody watched it stop": (
        "lifecycle.stopped/vanished lifecycle.undefined/removed",
        GONE,
    ),
    "defined anew": (
        "lifecycle.stopped/failed lifecycle.undefined/removed lifecycle.defined/added",
        FAILED,
    ),
    "renamed": ("lifecycle.stopped/failed lifecycle.undefined/renamed", FAILED),
    "undefined while it runs": ("watchdog/reset lifecycle.undefined/removed", FAILED),
    "undefined while it is paused": (f"{IO_PAUSE} lifecycle.undefined/removed", FAILED),
    "undefined, then killed": (
        "lifecycle.undefined/removed lifecycle.stopped/failed",
        FAILED,
    ),
}


def _events(story: str) -> list[Event]:
    told = story.replace(BY_HOST, "by-host").split()
    return [_by_host() if word == "by-host" else builders.event(word) for word in told]


def _by_host() -> Event:
    return builders.event("lifecycle.stopped/shutdown", attributes={"shutdown_by": "host"})


class TestLibvirtExpectation(testtools.TestCase):
    def judge(self, events: list[Event]) -> Verdict:
        return LibvirtExpectation(cfg.ConfigOpts()).judge(builders.incident(), events)

    def check(self, stories: dict[str, tuple[str, str]]) -> None:
        expected = {what: word for what, (_, word) in stories.items()}
        judged = {what: self.judge(_events(story)).word for what, (story, _) in stories.items()}
        self.assertEqual(expected, judged)

    def test_each_fault(self):
        self.check(FAULTS)

    def test_the_newest_word_decides(self):
        self.check(ORDERS)

    def test_the_end_of_the_process(self):
        self.check(ENDS)

    def test_the_end_of_a_process_that_was_told_before_tells_nothing(self):
        told = _events("lifecycle.stopped/destroyed process.exited")
        told[1] = builders.event("process.exited", attributes={"follows": told[0].cause})
        self.assertEqual(PLANNED, self.judge(told).word)
        replaced = builders.event("process.exited", attributes={"replaced": True})
        self.assertEqual(FAILED, self.judge([*_events("watchdog/reset"), replaced]).word)

    def test_one_that_never_arrived_is_not_started_here(self):
        died = builders.event("lifecycle.stopped/failed", attributes={"was_arriving": True})
        verdict = self.judge([died])
        self.assertEqual(PLANNED, verdict.word)
        self.assertIn("before it ran here", verdict.reason)

    def test_a_shutdown_by_the_guest_names_itself(self):
        by_guest = builders.event(
            "lifecycle.stopped/shutdown", attributes={"shutdown_by": "guest"}
        )
        self.assertEqual(PLANNED, self.judge([by_guest]).word)

    def test_a_late_word_from_the_old_host_excuses_nothing(self):
        late = builders.event("lifecycle.stopped/migrated", host="compute-2")
        self.assertEqual(
            FAILED, self.judge([builders.event("lifecycle.stopped/failed"), late]).word
        )
        self.assertEqual(UNKNOWN, self.judge([late]).word)

    def test_a_symptom_goes_with_an_instance_that_was_migrated(self):
        moved = [
            builders.event("watchdog/reset", host="compute-0"),
            builders.event("lifecycle.suspended/migrated", host="compute-0"),
            builders.event("lifecycle.started/migrated"),
            builders.event("lifecycle.resumed/migrated"),
            builders.event("lifecycle.stopped/migrated", host="compute-0"),
        ]
        verdict = self.judge(moved)
        self.assertEqual((FAILED, True), (verdict.word, "watchdog" in verdict.reason))
        self.assertEqual(UNKNOWN, self.judge(moved[1:]).word)
        self.assertEqual(
            PLANNED, self.judge([*moved, builders.event("lifecycle.stopped/destroyed")]).word
        )

    def test_reasons_are_for_a_person(self):
        self.assertEqual(
            "libvirt said lifecycle.stopped/shutdown by host: its process was told to end by "
            "something on the host other than libvirt",
            self.judge([_by_host()]).reason,
        )
        self.assertIn(
            "while nobody watched", self.judge(_events("lifecycle.stopped/vanished")).reason
        )
        self.assertEqual("nothing is known from its host: not conclusive", self.judge([]).reason)
        self.assertEqual(
            "libvirt said memory_failure/fatal: not conclusive",
            self.judge(_events("memory_failure/fatal")).reason,
        )
