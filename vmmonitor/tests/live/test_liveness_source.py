# SPDX-License-Identifier: Apache-2.0
"""The liveness source on real QEMUs and real guests that hang."""

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
        """Stop a guest's QEMU until the test ends, or ``go_on``; returns its pid."""
        pid = guest.kill(signal.SIGSTOP)
        self.addCleanup(self.go_on, pid)
        return pid

    def go_on(self, pid):
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            return

    def test_hung_qemu_that_continues_is_reported_and_cleared(self):
        source, told = self.liveness(self.hypervisor())
        guest = self.guest()
        self.measured(source, guest, INTERVAL)
        began = time.monotonic()
        pid = self.stop(guest)
        event = self.eventually_told(told, guest, STOPPED)
        took = time.monotonic() - began
        self.assertGreater(took, DEADLINE - INTERVAL)
        self.assertLess(took, INTERVAL + DEADLINE + LATE)
        self.assertEqual(("liveness", guest.name), (event.source, event.instance.name))
        self.assertIn("stopped", event.attributes["signals"])
        self.assertGreater(event.attributes["lasted_s"], DEADLINE - INTERVAL)
        self.rounds(source, 4)
        self.go_on(pid)
        event = self.eventually_told(told, guest, STOPPED, ALIVE_AGAIN)
        self.assertEqual("stopped", event.attributes["was"])
        self.measured(source, guest, WINDOW)
        self.assertEqual([STOPPED, ALIVE_AGAIN], told.causes(guest.uuid))

    def test_hung_qemu_that_is_killed_is_reported_once(self):
        source, told = self.liveness(self.hypervisor())
        guest = self.guest()
        self.measured(source, guest, INTERVAL)
        self.stop(guest)
        self.eventually_told(told, guest, STOPPED)
        guest.kill()
        deadline.eventually(lambda: guest.uuid not in source._watched, LATE, "forgotten")
        self.assertEqual([STOPPED], told.causes(guest.uuid))

    def test_unresponsive_monitor_is_reported(self):
        source, told = self.liveness(self.hypervisor())
        guest = self.guest()
        self.measured(source, guest, INTERVAL)
        with subprocess.Popen(
            [sys.executable, "-c", DEBUGGER, str(guest.pid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as debugger:
            self.assertEqual("held\n", debugger.stdout.readline())
            event = self.eventually_told(told, guest, MONITOR)
            self.assertEqual(["monitor"], event.attributes["signals"])
            debugger.stdin.close()
        self.eventually_told(told, guest, MONITOR, ALIVE_AGAIN)

    def test_other_instances_during_a_hang_are_checked(self):
        source, told = self.liveness(self.hypervisor())
        stuck, other = [self.guest(), self.guest()], self.guest()
        self.measured(source, other, INTERVAL)
        for guest in stuck:
            self.stop(guest)
        for guest in stuck:
            self.eventually_told(told, guest, STOPPED)
        self.measured(source, other, WINDOW)
        other.order("H")
        self.eventually_told(told, other, SUSPECT)

    def test_libvirtd_restart_during_a_hang_repeats_no_report(self):
        own = self.useFixture(Hypervisor())
        self.hypervisor = lambda: own
        source, told = self.liveness(own)
        guest, other = self.guest(), self.guest()
        self.measured(source, guest, INTERVAL)
        pid = self.stop(guest)
        self.eventually_told(told, guest, STOPPED)
        own.kill()
        self.wait(lambda: told.reachable()[-1] is False, "unreachable")
        own.start()
        self.wait(lambda: told.reachable()[-1] is True, "reachable again")
        self.measured(source, other, WINDOW)
        self.assertEqual([STOPPED], told.causes(guest.uuid))
        self.go_on(pid)
        self.eventually_told(told, guest, STOPPED, ALIVE_AGAIN)
        self.assertEqual([], told.causes(other.uuid))

    def test_agent_restart_during_a_hang_repeats_no_report(self):
        source, told = self.liveness(self.hypervisor())
        guest, other = self.guest(), self.guest()
        self.measured(source, guest, INTERVAL)
        pids = [self.stop(guest), self.stop(other)]
        self.eventually_told(told, guest, STOPPED)
        self.eventually_told(told, other, STOPPED)
        source.stop()
        self.go_on(pids[1])
        source, told = self.liveness(self.hypervisor())
        self.eventually_told(told, other, ALIVE_AGAIN)
        self.measured(source, other, WINDOW)
        self.assertEqual([], told.causes(guest.uuid))
        self.go_on(pids[0])
        self.eventually_told(told, guest, ALIVE_AGAIN)


class StalledTest(LivenessTest):
    def with_habit(self, source, told):
        """A guest that has read its disk in several rounds; returns it."""
        faulty = self.useFixture(FaultyDisk(self.hypervisor()))
        guest = self.guest(disks=[faulty.disk("report")])
        self.measured(source, guest, INTERVAL)
        for _ in range(4):
            self.assertEqual("o", guest.order("R", timeout=20))
            self.rounds(source, 2)
        return guest

    def test_halted_guest_is_suspect(self):
        source, told = self.liveness(self.hypervisor())
        guest, idle = self.guest(), self.guest()
        self.measured(source, guest, WINDOW)
        guest.order("H")
        event = self.eventually_told(told, guest, SUSPECT)
        self.assertEqual(["cpu"], event.attributes["signals"])
        self.assertLess(event.attributes["cpu_time_s"], 0.1)
        self.assertEqual([], told.causes(idle.uuid))
        self.domain(guest, lambda found: found.reset())
        self.eventually_told(told, guest, SUSPECT, "liveness.cleared/stalled")

    def test_halted_guest_with_earlier_disk_use_is_failed(self):
        source, told = self.liveness(self.hypervisor())
        guest = self.with_habit(source, told)
        guest.order("H")
        deadline.eventually(lambda: FAILED in told.causes(guest.uuid), LATE, "failed")
        event = self.told(told, guest)[-1]
        self.assertEqual(["cpu", "io"], event.attributes["signals"])
        before = told.causes(guest.uuid)
        self.rounds(source, 4)
        self.domain(guest, lambda found: found.reset())
        self.eventually_told(told, guest, *before, "liveness.recovered/stalled")

    def test_spinning_guest_without_exit_counters_is_at_most_suspect(self):
        source, told = self.liveness(self.hypervisor(), interval=1.0)
        guest = self.with_habit(source, told)
        guest.order("J")
        event = self.eventually_told(told, guest, SUSPECT)
        self.assertEqual(["io"], event.attributes["signals"])
        self.assertGreater(event.attributes["cpu_time_s"], 0)
        guest.kill()
        deadline.eventually(lambda: guest.uuid not in source._watched, LATE, "forgotten")
        self.assertEqual([SUSPECT], told.causes(guest.uuid))


class StorageTest(LivenessTest):
    def test_full_disk_without_libvirt_event_is_reported(self):
        full = self.useFixture(FullDisk(self.hypervisor()))
        guest = self.guest(disks=[full.disk()])
        source, told = self.liveness(self.hypervisor(), follows=False)
        fill(guest)
        deadline.eventually(lambda: len(told.causes(guest.uuid)) > 1, LATE, "told")
        self.assertEqual({PAUSED, FULL}, set(told.causes(guest.uuid)))
        [error] = [one for one in self.told(told, guest) if one.type == "liveness.disk_error"]
        self.assertEqual("vdb", error.attributes["device"])
        self.rounds(source, 4)
        self.assertEqual(2, len(told.causes(guest.uuid)))
        full.grow()
        self.domain(guest, lambda found: found.resume())
        deadline.eventually(lambda: len(told.causes(guest.uuid)) > 3, LATE, f"over {told}")
        self.assertEqual(
            {"liveness.cleared/paused", "liveness.cleared/disk_error"},
            set(told.causes(guest.uuid)[2:]),
        )

    def test_full_disk_reported_by_libvirt_reports_no_pause(self):
        full = self.useFixture(FullDisk(self.hypervisor()))
        guest = self.guest(disks=[full.disk()])
        source, told = self.liveness(self.hypervisor())
        self.measured(source, guest, INTERVAL)
        fill(guest)
        self.eventually_told(told, guest, FULL)
        self.rounds(source, 4)
        self.assertEqual([FULL], told.causes(guest.uuid))
