# SPDX-License-Identifier: Apache-2.0
"""Test the libvirt source with real faults of real guests and of libvirtd."""

import dataclasses
import itertools
import os
import signal
import time

import fixtures

from vmmonitor.model.event import RawEvent, Reachability, SourceSnapshot
from vmmonitor.testing.guest import NovaMetadata
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.faulty_disk import FaultyDisk, FullDisk
from vmmonitor.tests.functional.sources import base
from vmmonitor.tests.live.libvirt_base import LiveTest, fill, migrate

#: Time for unexpected events to appear, in seconds.
QUIET_S = 0.3
STARTED = "lifecycle.started/booted"
IO_PAUSE = ["io_error/pause", "io_error_reason/pause", "lifecycle.suspended/ioerror"]


def without_repeats(causes):
    """Return the causes without repetitions, because libvirt may report an event twice."""
    return [cause for cause, _ in itertools.groupby(causes)]


class EventsTest(LiveTest):
    """Test the exact events of each fault, in order."""

    def setUp(self):
        super().setUp()
        _, self.observed = self.watch(self.hypervisor())

    def check_events(self, expected, do, state, besides=(), **kwargs):
        """Check the events of a new guest after ``do(guest)``; return them.

        :param besides: causes that may be reported too.
        """
        guest = self.guest(**kwargs)
        self.wait(lambda: STARTED in self.observed.causes(guest.uuid), "started")
        before = len(self.observed.causes(guest.uuid))

        def causes():
            causes = self.observed.causes(guest.uuid)[before:]
            return without_repeats(cause for cause in causes if cause not in besides)

        do(guest)
        self.wait(lambda: len(causes()) >= len(expected), expected)
        time.sleep(QUIET_S)
        self.assertEqual(expected, causes())
        self.assertEqual(state, guest.state())
        return [e for e in self.observed.of(RawEvent) if e.instance.uuid == guest.uuid][before:]

    def test_start_is_reported(self):
        nova = NovaMetadata(name="web-1")
        guest = self.guest(nova=nova)
        self.wait(lambda: STARTED in self.observed.causes(guest.uuid), "started")
        self.assertEqual(["lifecycle.resumed/unpaused", STARTED], self.observed.causes(guest.uuid))
        started = self.observed.of(RawEvent)[-1]
        self.assertEqual(("web-1", guest.name), self.names(started.instance))
        self.assertEqual(nova.project_id, started.instance.project_id)
        self.assertEqual(nova.user_id, started.instance.user_id)
        self.assertEqual(nova.flavor, started.instance.flavor)
        self.assertEqual(("running", False), (started.seen.state, started.seen.persistent))

    def names(self, instance):
        return instance.name, instance.hypervisor_name

    def test_kill_is_reported(self):
        for number in (signal.SIGKILL, signal.SIGSEGV):
            for defined, state in ((False, "absent"), (True, "shutoff")):
                self.check_events(
                    ["lifecycle.stopped/failed"],
                    lambda guest, number=number: guest.kill(number),
                    state,
                    defined=defined,
                )

    def test_sigterm_is_reported(self):
        expected = ["lifecycle.shutdown/host", "lifecycle.stopped/shutdown"]
        self.check_events(expected, lambda guest: guest.kill(signal.SIGTERM), "absent")

    def test_power_off_is_reported(self):
        expected = ["lifecycle.shutdown/guest", "lifecycle.stopped/shutdown"]
        self.check_events(expected, lambda guest: guest.order("S"), "absent")

    def test_destroy_is_reported(self):
        expected = ["lifecycle.shutdown/host", "lifecycle.stopped/destroyed"]
        self.check_events(
            expected, lambda guest: self.domain(guest, lambda d: d.destroy()), "absent"
        )

    def test_reset_is_reported(self):
        self.check_events(["reboot"], lambda guest: guest.order("B"), "running")
        self.check_events(
            ["reboot"], lambda guest: self.domain(guest, lambda d: d.reset()), "running"
        )

    def test_suspend_and_resume_are_reported(self):
        self.check_events(
            ["lifecycle.suspended/paused", "lifecycle.resumed/unpaused"],
            lambda guest: self.domain(guest, lambda d: (d.suspend(), d.resume())),
            "running",
        )

    def test_save_is_reported(self):
        events = self.check_events(
            [
                "lifecycle.suspended/paused",
                "migration_iteration",
                "job_completed/save",
                "lifecycle.stopped/saved",
            ],
            lambda guest: self.domain(guest, lambda d: d.save(f"{guest.serial}.saved")),
            "absent",
        )
        self.assertEqual({"iteration": 1}, events[1].attributes)
        self.assertIn("time_elapsed", events[-2].attributes)

    def test_panic_is_reported(self):
        for on_crash, more, state in (
            ("preserve", [], "crashed"),
            ("destroy", ["lifecycle.stopped/crashed"], "absent"),
            ("restart", ["reboot", "lifecycle.resumed/unpaused", "reboot"], "running"),
        ):
            self.check_events(
                ["lifecycle.crashed/panicked", *more],
                lambda guest: guest.order("P"),
                state,
                besides=["lifecycle.suspended/paused"],
                on_crash=on_crash,
            )

    def test_crash_kernel_is_reported(self):
        self.check_events(
            ["lifecycle.crashed/crashloaded"], lambda guest: guest.order("L"), "running"
        )

    def test_watchdog_is_reported(self):
        for action, more, state in (
            ("reset", ["reboot"], "running"),
            ("poweroff", ["lifecycle.stopped/failed"], "absent"),
            ("shutdown", [], "running"),
            ("none", [], "running"),
            ("inject-nmi", [], "running"),
            ("pause", ["lifecycle.suspended/watchdog"], "paused"),
        ):
            self.check_events(
                [f"watchdog/{action}", *more],
                lambda guest: guest.order("W"),
                state,
                watchdog=action,
            )

    def test_full_disk_is_reported(self):
        for policy in (None, "stop"):
            full = self.useFixture(FullDisk(self.hypervisor()))
            events = self.check_events(IO_PAUSE, fill, "paused", disks=[full.disk(policy)])
            disk = {"path": full.disk().path, "device": "virtio-disk1"}
            self.assertEqual(disk, events[0].attributes)
            self.assertEqual({**disk, "reason": "enospc"}, events[1].attributes)

    def test_disk_error_with_stop_policy_is_reported(self):
        faulty = self.useFixture(FaultyDisk(self.hypervisor()))
        events = self.check_events(
            IO_PAUSE, lambda guest: write(guest, faulty), "paused", disks=[faulty.disk("stop")]
        )
        self.assertEqual({"path": "disk", "device": "virtio-disk1"}, events[0].attributes)

    def test_disk_error_with_report_policy_is_reported(self):
        faulty = self.useFixture(FaultyDisk(self.hypervisor()))
        events = self.check_events(
            ["io_error/report", "io_error_reason/report"],
            lambda guest: write(guest, faulty),
            "running",
            disks=[faulty.disk("report")],
        )
        self.assertEqual("virtio-disk1", events[0].attributes["device"])

    def test_disk_error_without_source_name_is_reported(self):
        faulty = self.useFixture(FaultyDisk(self.hypervisor()))
        self.check_events(
            ["lifecycle.suspended/ioerror"],
            lambda guest: write(guest, faulty),
            "paused",
            disks=[faulty.disk("stop", name=None)],
        )

    def test_running_guest_without_event_reports_nothing(self):
        self.check_events([], lambda guest: guest.order("H"), "running")
        self.check_events([], lambda guest: guest.order("J"), "running")


def write(guest, faulty):
    """Write to a failing disk."""
    faulty.fail()
    guest.order("D", timeout=1)


class MigrationTest(LiveTest):
    def test_migration_is_reported_by_both_hosts(self):
        target = self.useFixture(Hypervisor())
        _, here = self.watch(self.hypervisor())
        _, there = self.watch(target)
        guest = self.guest(nova=NovaMetadata())
        self.wait(lambda: STARTED in here.causes(guest.uuid), "started")
        before = len(here.causes(guest.uuid))
        self.domain(guest, lambda found: migrate(found, target))
        self.wait(lambda: "job_completed/migration_out" in here.causes(guest.uuid), "away")
        left = [cause for cause in here.causes(guest.uuid)[before:] if cause[:4] == "life"]
        self.assertEqual(["lifecycle.suspended/migrated", "lifecycle.stopped/migrated"], left)
        self.wait(lambda: "lifecycle.resumed/migrated" in there.causes(guest.uuid), "arrived")
        arrived = without_repeats(there.causes(guest.uuid))
        self.assertEqual(["lifecycle.started/migrated", "lifecycle.resumed/migrated"], arrived)
        resumed = there.of(RawEvent)[-1]
        self.assertEqual(("running", guest.uuid), (resumed.seen.state, resumed.instance.uuid))
        self.assertEqual("server-1", resumed.instance.name)


class ReachabilityTest(LiveTest):
    """Test libvirtd that is killed, restarts and hangs; the guests continue to run."""

    def setUp(self):
        super().setUp()
        self.own = self.useFixture(Hypervisor())

    def hypervisor(self):
        return self.own

    def test_libvirtd_kill_is_reported_and_reconnected(self):
        guests = [self.guest(), self.guest(), self.guest(defined=True)]
        _, observed = self.watch(self.own)
        self.own.kill()
        self.wait(lambda: observed.reachable() == [True, False], "not reachable")
        self.assertEqual("libvirt closed the connection", observed[-1].reason)
        guests[1].kill()
        guests[2].kill()
        self.own.start()
        self.wait(lambda: observed.reachable() == [True, False, True], "reachable again")
        self.assertEqual(["start", "reconnect"], observed.listings())
        listing, reachable = observed[-2:]
        self.assertIsInstance(listing, SourceSnapshot)
        self.assertIsInstance(reachable, Reachability)
        seen = {one.instance.uuid: one for one in listing.seen}
        self.assertEqual({guests[0].uuid, guests[2].uuid}, set(seen))
        self.assertEqual("running", seen[guests[0].uuid].state)
        self.assertEqual("shutoff", seen[guests[2].uuid].state)
        first = {one.instance.uuid: one for one in observed.of(SourceSnapshot)[0].seen}
        before, after = first[guests[0].uuid], seen[guests[0].uuid]
        # libvirtd writes a default of its XML differently after it has read it again.
        self.assertEqual(
            dataclasses.replace(before, definition=""), dataclasses.replace(after, definition="")
        )

    def test_events_during_libvirtd_start_are_not_lost(self):
        # A guest that dies just then may end with a control_error only, or with no event at all.
        self.useFixture(
            fixtures.MonkeyPatch("vmmonitor.sources.libvirt.source.RESYNC_DELAYS", (0.5, 3.0))
        )
        guests = [self.guest() for _ in range(4)]
        _, observed = self.watch(self.own)
        self.own.kill()
        self.own.start()
        for guest in guests:
            guest.kill()

        def is_reported(guest):
            listed = {one.instance.uuid for one in observed.of(SourceSnapshot)[-1].seen}
            return (
                observed.causes(guest.uuid)[-1:] == ["lifecycle.stopped/failed"]
                or guest.uuid not in listed
            )

        self.wait(lambda: all(is_reported(guest) for guest in guests), "all events reported")

    def test_old_connection_is_closed(self):
        _, observed = self.watch(self.own)
        before = len(os.listdir("/proc/self/fd"))
        for count in range(1, 5):
            self.own.kill()
            self.own.start()
            self.wait(lambda count=count: observed.reachable().count(True) == count + 1, "again")
        guest = self.guest()
        self.wait(lambda: STARTED in observed.causes(guest.uuid), "started")
        self.assertEqual(1, observed.causes(guest.uuid).count(STARTED))
        self.wait(lambda: len(os.listdir("/proc/self/fd")) <= before, "closed")

    def test_hung_libvirtd_is_reported(self):
        guest = self.guest()
        _, observed = self.watch(self.own, keepalive_interval=1, keepalive_count=1)
        os.kill(self.own.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, self.own.pid, signal.SIGCONT)
        self.wait(lambda: observed.reachable() == [True, False], "not reachable")
        self.assertEqual("libvirt stopped answering", observed[-1].reason)
        guest.kill()
        os.kill(self.own.pid, signal.SIGCONT)
        self.wait(lambda: observed.reachable() == [True, False, True], "reachable again")

    def test_hung_libvirtd_at_start_is_reported(self):
        self.useFixture(
            fixtures.MonkeyPatch(
                "vmmonitor.sources.libvirt.reconnecting.LISTENER_STOP_TIMEOUT", 0.5
            )
        )
        os.kill(self.own.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, self.own.pid, signal.SIGCONT)
        source, observed = self.source(uri=self.own.uri, keepalive_interval=1, keepalive_count=1)
        self.wait(lambda: observed.reachable() == [False], "not reachable")
        self.assertIn("has not answered", observed[0].reason)
        source.stop()
        os.kill(self.own.pid, signal.SIGCONT)
        self.wait(lambda: "libvirt-source" not in base.threads(), "ended")

    def test_read_only_connection_is_sufficient(self):
        _, observed = self.watch(self.own, read_only=True)
        guest = self.guest(nova=NovaMetadata())
        self.wait(lambda: STARTED in observed.causes(guest.uuid), "started")
        seen = observed.of(RawEvent)[-1].seen
        self.assertEqual(("server-1", "running"), (seen.instance.name, seen.state))
        self.assertIn(guest.uuid, seen.definition)
        guest.kill()
        self.wait(lambda: "lifecycle.stopped/failed" in observed.causes(guest.uuid), "stopped")
