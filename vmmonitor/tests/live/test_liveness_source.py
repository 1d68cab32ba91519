# SPDX-License-Identifier: Apache-2.0
"""Test the liveness source on real QEMU processes and guests that hang."""

import os
import signal
import subprocess
import sys
import time

from vmmonitor.testing import deadline
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.faulty_disk import FaultyDisk, FullDisk
from vmmonitor.tests.live.libvirt_base import fill
from vmmonitor.tests.live.liveness_base import (
    DEADLINE,
    INTERVAL,
    LATE,
    WINDOW,
    LivenessTest,
)
from vmmonitor.tests.promises import shows

STOPPED = "liveness.hung/stopped"
MONITOR = "liveness.hung/monitor"
ALIVE_AGAIN = "liveness.recovered/hung"
SUSPECT = "liveness.stalled/suspect"
FAILED = "liveness.stalled/failed"
PAUSED = "liveness.paused/ioerror"
FULL = "liveness.disk_error/no_space"

#: Holds a process, as a debugger does, until its own stdin ends.
DEBUGGER = """
import ctypes, os, sys
ATTACH, DETACH = 16, 17
libc, pid = ctypes.CDLL(None), int(sys.argv[1])
tasks = [int(task) for task in os.listdir(f"/proc/{pid}/task")]
for task in tasks:
    libc.ptrace(ATTACH, task, 0, 0)
    os.waitpid(task, 0x40000000)
print("held", flush=True)
sys.stdin.read()
for task in tasks:
    libc.ptrace(DETACH, task, 0, 0)
"""


class HungTest(LivenessTest):
    def stop(self, guest):
        """Stop a guest's QEMU until ``go_on`` or the end of the test; return its pid."""
        pid = guest.kill(signal.SIGSTOP)
        self.addCleanup(self.go_on, pid)
        return pid

    def go_on(self, pid):
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            return

    def test_hung_qemu_that_continues_is_reported_and_cleared(self):
        source, observed = self.liveness(self.hypervisor())
        guest = self.guest()
        self.measured(source, guest, INTERVAL)
        began = time.monotonic()
        pid = self.stop(guest)
        event = self.wait_for_causes(observed, guest, STOPPED)
        took = time.monotonic() - began
        self.assertGreater(took, DEADLINE - INTERVAL)
        self.assertLess(took, INTERVAL + DEADLINE + LATE)
        self.assertEqual(("liveness", guest.name), (event.source, event.instance.name))
        self.assertIn("stopped", event.attributes["signals"])
        self.assertGreater(event.attributes["lasted_s"], DEADLINE - INTERVAL)
        self.rounds(source, 4)
        self.go_on(pid)
        event = self.wait_for_causes(observed, guest, STOPPED, ALIVE_AGAIN)
        self.assertEqual("stopped", event.attributes["was"])
        self.measured(source, guest, WINDOW)
        self.assertEqual([STOPPED, ALIVE_AGAIN], observed.causes(guest.uuid))

    def test_hung_qemu_that_is_killed_is_reported_once(self):
        source, observed = self.liveness(self.hypervisor())
        guest = self.guest()
        self.measured(source, guest, INTERVAL)
        self.stop(guest)
        self.wait_for_causes(observed, guest, STOPPED)
        guest.kill()
        deadline.eventually(lambda: guest.uuid not in source._watched, LATE, "forgotten")
        self.assertEqual([STOPPED], observed.causes(guest.uuid))

    def test_unresponsive_monitor_is_reported(self):
        source, observed = self.liveness(self.hypervisor())
        guest = self.guest()
        self.measured(source, guest, INTERVAL)
        with subprocess.Popen(
            [sys.executable, "-c", DEBUGGER, str(guest.pid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as debugger:
            self.assertEqual("held\n", debugger.stdout.readline())
            event = self.wait_for_causes(observed, guest, MONITOR)
            self.assertEqual(["monitor"], event.attributes["signals"])
            debugger.stdin.close()
        self.wait_for_causes(observed, guest, MONITOR, ALIVE_AGAIN)

    def test_other_instances_during_a_hang_are_checked(self):
        source, observed = self.liveness(self.hypervisor())
        stuck, other = [self.guest(), self.guest()], self.guest()
        self.measured(source, other, INTERVAL)
        for guest in stuck:
            self.stop(guest)
        for guest in stuck:
            self.wait_for_causes(observed, guest, STOPPED)
        self.measured(source, other, WINDOW)
        other.order("H")
        self.wait_for_causes(observed, other, SUSPECT)

    def test_libvirtd_restart_during_a_hang_repeats_no_report(self):
        own = self.useFixture(Hypervisor())
        self.hypervisor = lambda: own
        source, observed = self.liveness(own)
        guest, other = self.guest(), self.guest()
        self.measured(source, guest, INTERVAL)
        pid = self.stop(guest)
        self.wait_for_causes(observed, guest, STOPPED)
        own.kill()
        self.wait(lambda: observed.reachable()[-1] is False, "unreachable")
        own.start()
        self.wait(lambda: observed.reachable()[-1] is True, "reachable again")
        self.measured(source, other, WINDOW)
        self.assertEqual([STOPPED], observed.causes(guest.uuid))
        self.go_on(pid)
        self.wait_for_causes(observed, guest, STOPPED, ALIVE_AGAIN)
        self.assertEqual([], observed.causes(other.uuid))

    def test_agent_restart_during_a_hang_repeats_no_report(self):
        source, observed = self.liveness(self.hypervisor())
        guest, other = self.guest(), self.guest()
        self.measured(source, guest, INTERVAL)
        pids = [self.stop(guest), self.stop(other)]
        self.wait_for_causes(observed, guest, STOPPED)
        self.wait_for_causes(observed, other, STOPPED)
        source.stop()
        self.go_on(pids[1])
        source, observed = self.liveness(self.hypervisor())
        self.wait_for_causes(observed, other, ALIVE_AGAIN)
        self.measured(source, other, WINDOW)
        self.assertEqual([], observed.causes(guest.uuid))
        self.go_on(pids[0])
        self.wait_for_causes(observed, guest, ALIVE_AGAIN)


@shows("P5")
class StalledTest(LivenessTest):
    def with_habit(self, source, observed):
        """Return a guest that has read its disk in several rounds."""
        faulty = self.useFixture(FaultyDisk(self.hypervisor()))
        guest = self.guest(disks=[faulty.disk("report")])
        self.measured(source, guest, INTERVAL)
        for _ in range(4):
            self.assertEqual("o", guest.order("R", timeout=20))
            self.rounds(source, 2)
        return guest

    def test_halted_guest_is_suspect(self):
        source, observed = self.liveness(self.hypervisor())
        guest, idle = self.guest(), self.guest()
        self.measured(source, guest, WINDOW)
        guest.order("H")
        event = self.wait_for_causes(observed, guest, SUSPECT)
        self.assertEqual(["cpu"], event.attributes["signals"])
        self.assertLess(event.attributes["cpu_time_s"], 0.1)
        self.assertEqual([], observed.causes(idle.uuid))
        self.domain(guest, lambda found: found.reset())
        self.wait_for_causes(observed, guest, SUSPECT, "liveness.cleared/stalled")

    def test_halted_guest_with_earlier_disk_use_is_failed(self):
        source, observed = self.liveness(self.hypervisor())
        guest = self.with_habit(source, observed)
        guest.order("H")
        deadline.eventually(lambda: FAILED in observed.causes(guest.uuid), LATE, "failed")
        event = self.events_of(observed, guest)[-1]
        self.assertEqual(["cpu", "io"], event.attributes["signals"])
        before = observed.causes(guest.uuid)
        self.rounds(source, 4)
        self.domain(guest, lambda found: found.reset())
        self.wait_for_causes(observed, guest, *before, "liveness.recovered/stalled")

    def test_spinning_guest_without_exit_counters_is_at_most_suspect(self):
        source, observed = self.liveness(self.hypervisor(), interval=1.0)
        guest = self.with_habit(source, observed)
        guest.order("J")
        event = self.wait_for_causes(observed, guest, SUSPECT)
        self.assertEqual(["io"], event.attributes["signals"])
        self.assertGreater(event.attributes["cpu_time_s"], 0)
        guest.kill()
        deadline.eventually(lambda: guest.uuid not in source._watched, LATE, "forgotten")
        self.assertEqual([SUSPECT], observed.causes(guest.uuid))


class StorageTest(LivenessTest):
    def test_full_disk_without_libvirt_event_is_reported(self):
        full = self.useFixture(FullDisk(self.hypervisor()))
        guest = self.guest(disks=[full.disk()])
        source, observed = self.liveness(self.hypervisor(), follows=False)
        fill(guest)
        deadline.eventually(lambda: len(observed.causes(guest.uuid)) > 1, LATE, "events reported")
        self.assertEqual({PAUSED, FULL}, set(observed.causes(guest.uuid)))
        [error] = [
            one for one in self.events_of(observed, guest) if one.type == "liveness.disk_error"
        ]
        self.assertEqual("vdb", error.attributes["device"])
        self.rounds(source, 4)
        self.assertEqual(2, len(observed.causes(guest.uuid)))
        full.grow()
        self.domain(guest, lambda found: found.resume())
        deadline.eventually(lambda: len(observed.causes(guest.uuid)) > 3, LATE, f"over {observed}")
        self.assertEqual(
            {"liveness.cleared/paused", "liveness.cleared/disk_error"},
            set(observed.causes(guest.uuid)[2:]),
        )

    def test_full_disk_reported_by_libvirt_reports_no_pause(self):
        full = self.useFixture(FullDisk(self.hypervisor()))
        guest = self.guest(disks=[full.disk()])
        source, observed = self.liveness(self.hypervisor())
        self.measured(source, guest, INTERVAL)
        fill(guest)
        self.wait_for_causes(observed, guest, FULL)
        self.rounds(source, 4)
        self.assertEqual([FULL], observed.causes(guest.uuid))
