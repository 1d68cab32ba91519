# SPDX-License-Identifier: Apache-2.0
"""Test the process source on real guests, together with the libvirt source."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time

from vmmonitor.model.event import RawEvent
from vmmonitor.sources.process import ProcessSource
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.functional.sources import base
from vmmonitor.tests.live.libvirt_base import LiveTest, migrate
from vmmonitor.tests.promises import shows

EXITED = "process.exited"
FAILED = "lifecycle.stopped/failed"
#: Time for unexpected events to appear, in seconds.
QUIET_S = 0.3

#: Watches one instance without any privilege; prints when it does, and the event's attributes.
UNPRIVILEGED = """
import json, os, sys, threading
from vmmonitor.model.event import RawEvent, SourceSnapshot
from vmmonitor.model.instance import Instance, QemuOwner, Seen
from vmmonitor.sources.process import ProcessSource

exited = threading.Event()

def observe(one):
    if isinstance(one, RawEvent):
        print(json.dumps(dict(one.attributes)), flush=True)
        exited.set()

source = ProcessSource(None, observe)
instance = Instance(uuid=sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65533, 65533, 65533)
    os.setresuid(65533, 65533, 65533)
source.start()
source.follow(SourceSnapshot(
    source="libvirt",
    started_at=1,
    why="start",
    seen=(Seen(instance=instance, state="running"),),
    owner=QemuOwner(uids=frozenset({int(sys.argv[2])})),
))
while not source._watched:
    exited.wait(0.01)
print("watching", flush=True)
exited.wait(20)
source.stop()
"""


class ProcessTest(LiveTest):
    def watch_processes(self, hypervisor):
        """Start a process source that follows libvirt; return the source and the observations."""
        observed = base.Observed()
        processes = ProcessSource(base.new_conf(), observed.append)

        def observe(one):
            observed.append(one)
            processes.follow(one)

        self.source(observe, uri=hypervisor.uri)
        self.addCleanup(processes.stop)
        processes.start()
        self.wait(lambda: observed.reachable() == [True, True], "reachable")
        return processes, observed

    def watched(self, processes, guest):
        """Wait until the guest's current QEMU is monitored; return its pid."""
        pid = guest.pid()

        def is_watched():
            process = processes._watched.get(guest.uuid)
            return process and process.pid == pid

        self.wait(is_watched, f"watched {pid}")
        return pid

    def exits(self, observed, guest):
        """Return the pids of the guest's reported exits."""
        return [
            event.attributes["pid"]
            for event in observed.of(RawEvent)
            if event.instance.uuid == guest.uuid and event.type == EXITED
        ]

    def times(self, observed, guest):
        """Return cause -> time of the guest's events, in microseconds."""
        return {
            f"{event.type}/{event.detail}".rstrip("/"): event.occurred_at
            for event in observed.of(RawEvent)
            if event.instance.uuid == guest.uuid
        }


class KillTest(ProcessTest):
    def test_killed_process_is_reported_before_libvirt(self):
        processes, observed = self.watch_processes(self.hypervisor())
        took, ahead = [], []
        for _ in range(3):
            guest = self.guest()
            pid = self.watched(processes, guest)
            killed_at = time.time_ns() // 1000
            guest.kill(signal.SIGKILL)
            self.wait(lambda guest=guest: FAILED in observed.causes(guest.uuid), "failed")
            self.assertEqual([pid], self.exits(observed, guest))
            times = self.times(observed, guest)
            took.append(times[EXITED] - killed_at)
            ahead.append(times[FAILED] - times[EXITED])
        self.assertLess(statistics.median(took), 50_000)
        self.assertGreater(statistics.median(ahead), 0)

    def test_process_started_before_source_is_reported(self):
        guest = self.guest()
        processes, observed = self.watch_processes(self.hypervisor())
        pid = self.watched(processes, guest)
        time.sleep(1)
        guest.kill(signal.SIGSEGV)
        self.wait(lambda: self.exits(observed, guest) == [pid], "exited")
        event = next(one for one in observed.of(RawEvent) if one.type == EXITED)
        self.assertTrue(1 <= event.attributes["ran_for_s"] < 60, event.attributes)

    def test_unprivileged_source_reports_exit(self):
        guest = self.guest()
        pid = guest.pid()
        with subprocess.Popen(
            [sys.executable, "-c", UNPRIVILEGED, guest.uuid, str(os.stat(f"/proc/{pid}").st_uid)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        ) as watcher:
            self.addCleanup(watcher.kill)
            self.assertEqual("watching\n", watcher.stdout.readline())
            guest.kill()
            self.assertEqual(pid, json.loads(watcher.stdout.readline())["pid"])


@shows("P4")
class PlannedTest(ProcessTest):
    def test_destroyed_and_restarted_process_is_reported(self):
        processes, observed = self.watch_processes(self.hypervisor())
        guest = self.guest(defined=True)
        first = self.watched(processes, guest)
        self.domain(guest, lambda found: found.destroy())
        self.wait(lambda: "lifecycle.stopped/destroyed" in observed.causes(guest.uuid), "gone")
        self.wait(lambda: self.exits(observed, guest) == [first], "exited")
        guest.start()
        second = self.watched(processes, guest)
        self.domain(guest, lambda found: (found.suspend(), found.resume(), found.reset()))
        self.assertTrue(guest.ping(20), "it does not answer after the reset")
        guest.order("S")
        self.wait(lambda: "lifecycle.stopped/shutdown" in observed.causes(guest.uuid), "off")
        time.sleep(QUIET_S)
        self.assertEqual([first, second], self.exits(observed, guest))

    def test_migrated_process_is_reported(self):
        target = self.useFixture(Hypervisor())
        here, observed_here = self.watch_processes(self.hypervisor())
        there, observed_there = self.watch_processes(target)
        guest = self.guest()
        first = self.watched(here, guest)
        self.domain(guest, lambda found: migrate(found, target))
        second = target.qemu_pid(guest.name)
        self.wait(lambda: self.exits(observed_here, guest) == [first], "left")
        self.wait(lambda: guest.uuid in there._watched, "arrived")
        time.sleep(QUIET_S)
        self.assertEqual([], self.exits(observed_there, guest))
        os.kill(second, signal.SIGKILL)
        self.wait(lambda: self.exits(observed_there, guest) == [second], "exited there")
        self.assertEqual([first], self.exits(observed_here, guest))


class WithoutLibvirtTest(ProcessTest):
    def test_killed_process_without_libvirtd_is_reported(self):
        own = self.useFixture(Hypervisor())
        self.hypervisor = lambda: own
        guests = [self.guest(), self.guest()]
        processes, observed = self.watch_processes(own)
        pids = [self.watched(processes, guest) for guest in guests]
        own.kill()
        guests[0].kill()
        self.wait(lambda: self.exits(observed, guests[0]) == [pids[0]], "exited")
        self.assertNotIn(FAILED, observed.causes(guests[0].uuid))
        own.start()
        self.wait(lambda: len(observed.listings()) == 2, "listed again")
        guests[1].kill()
        self.wait(lambda: self.exits(observed, guests[1]) == [pids[1]], "exited")
        self.assertEqual([pids[0]], self.exits(observed, guests[0]))
