# SPDX-License-Identifier: Apache-2.0
"""The counter of QEMU processes fails a test if two copies of an instance ran."""

import contextlib
import json
import os
import socket
import time
import unittest
import uuid

import testtools

from vmmonitor.testing.copies import OneCopy, TwoCopies, counter
from vmmonitor.testing.guest import Guest, boot_sector
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.testing.processes import Processes, program, wait_until
from vmmonitor.tests.fixtures.fake_qemu import FakeQemus
from vmmonitor.tests.fixtures.network_disks import NetworkDisks
from vmmonitor.tests.fixtures.shared import shared
from vmmonitor.tests.live.libvirt_base import migrate
from vmmonitor.tests.promises import shows

PATIENCE_S = 60.0
#: Longer than the counter needs to see that a guest runs, in seconds.
RUNS_S = 3.0
#: Maximum share of a core for the sampling, on a machine with many other processes.
MAX_CPU = 0.15


@shows("P11")
class TwoHostsTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.source = shared(Hypervisor)
        self.target = self.useFixture(Hypervisor())
        self.disk = self.useFixture(NetworkDisks()).create()

    def test_second_process_fails_the_test_of_its_guest(self):
        source, target, disk = self.source, self.target, self.disk

        class Harm(testtools.TestCase):
            def test_harm(self):
                guest = self.useFixture(Guest(source, boot=disk))
                with target.connection() as there:
                    there.createXML(guest.xml).destroy()

        result = unittest.TestResult()
        Harm("test_harm").run(result)
        ((_, text),) = result.failures
        self.assertIn(TwoCopies.__name__, text)
        self.assertIn("a process was started to run the guest while another one existed", text)
        self.assertEqual(2, text.count(" started in /tmp/vm-"))

    def test_migration_there_and_back_passes(self):
        guest = self.useFixture(Guest(self.source, boot=self.disk))
        for source, target in ((self.source, self.target), (self.target, self.source)):
            with source.connection() as here:
                migrate(here.lookupByUUIDString(guest.uuid), target)
            with target.connection() as there:
                self.assertTrue(there.lookupByUUIDString(guest.uuid).isActive())
        found = counter().report(guest.uuid)
        self.assertEqual([False, True, True], [process["incoming"] for process in found.processes])
        found.check()

    def test_restart_on_another_host_passes(self):
        guest = self.useFixture(Guest(self.source, boot=self.disk))
        guest.kill()
        wait_until(lambda: guest.pid() is None, PATIENCE_S, "not down")
        with self.target.connection() as there:
            there.createXML(guest.xml)
            there.lookupByUUIDString(guest.uuid).destroy()
        self.assertEqual(2, len(counter().report(guest.uuid).processes))


class Qemu:
    """A QEMU without libvirt; its monitor obeys the test."""

    def __init__(self, processes, image, instance_uuid, *arguments):
        monitor = os.path.join(processes.path, f"{uuid.uuid4().hex[:8]}.monitor")
        command = [program("qemu-system-x86_64"), "-machine", "pc", "-m", "16", "-display", "none"]
        command += ["-name", "guest=test,debug-threads=on", "-uuid", instance_uuid]
        command += ["-nodefaults", "-qmp", f"unix:{monitor},server=on,wait=off"]
        command += ["-drive", f"file={image},format=raw,file.locking=off,if=ide"]
        self.pid = processes.start([*command, *arguments])
        wait_until(lambda: os.path.exists(monitor), PATIENCE_S, "no monitor")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(monitor)
        self._lines = self._socket.makefile("r")
        self._lines.readline()
        self.call("qmp_capabilities")

    def call(self, command, **arguments):
        """Execute a command of the monitor; return its result."""
        order = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(order).encode() + b"\n")
        for line in self._lines:
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']}")
        raise ConnectionResetError("QEMU has ended")

    def migrates(self):
        """Return the state of its outgoing migration."""
        return self.call("query-migrate").get("status")

    def close(self):
        """Close the monitor."""
        self._lines.close()
        self._socket.close()


@shows("P11")
class MigrationTest(testtools.TestCase):
    """Test each stage of a live migration, which libvirt would pass too quickly."""

    def setUp(self):
        super().setUp()
        self.processes = self.useFixture(Processes())
        self.instance = str(uuid.uuid4())
        counter().watch(self.instance)
        self.addCleanup(counter().forget, self.instance)
        self.image = os.path.join(self.processes.path, "boot.img")
        with open(self.image, "wb") as image:
            image.write(boot_sector().ljust(1024 * 1024, b"\0"))
        os.chmod(self.image, 0o666)
        self.source = self.qemu()
        wait_until(
            lambda: counter().report(self.instance).processes, PATIENCE_S, "the source is not seen"
        )
        self.target = self.qemu("-incoming", "defer")
        self.channel = os.path.join(self.processes.path, "migration")

    def qemu(self, *arguments):
        """Start a QEMU of the instance."""
        qemu = Qemu(self.processes, self.image, self.instance, *arguments)
        self.addCleanup(qemu.close)
        return qemu

    def overlaps(self):
        """Return the reasons of the overlaps counted until now."""
        return [one["why"] for one in counter().report(self.instance).overlaps]

    def begin(self):
        """Begin a migration that does not end before ``complete``."""
        self.source.call("migrate-set-parameters", **{"max-bandwidth": 4096})
        self.target.call("migrate-incoming", uri=f"unix:{self.channel}")
        self.source.call("migrate", uri=f"unix:{self.channel}")
        wait_until(lambda: self.source.migrates() == "active", PATIENCE_S, "not active")

    def complete(self):
        """Let the migration end."""
        self.source.call("migrate-set-parameters", **{"max-bandwidth": 1 << 30})
        wait_until(lambda: self.source.migrates() == "completed", PATIENCE_S, "not completed")

    def test_waiting_target_is_not_a_copy(self):
        self.begin()
        time.sleep(RUNS_S)
        self.assertEqual([], self.overlaps())
        self.assertEqual(2, len(counter().report(self.instance).processes))

    def test_paused_source_after_migration_is_not_a_copy(self):
        self.begin()
        self.complete()
        time.sleep(RUNS_S)
        self.assertEqual([], self.overlaps())

    def test_source_that_continues_after_migration_is_a_copy(self):
        self.begin()
        self.complete()
        wait_until(
            lambda: self.target.call("query-status")["status"] == "running", PATIENCE_S, "paused"
        )
        time.sleep(RUNS_S)
        self.source.call("cont")
        wait_until(self.overlaps, PATIENCE_S, "not counted")
        self.assertEqual(
            ["the source of a migration ran after its target had run"], self.overlaps()
        )


class CounterTest(testtools.TestCase):
    def test_process_that_only_looks_like_qemu_is_not_counted(self):
        guest = self.useFixture(Guest(shared(Hypervisor)))
        self.useFixture(FakeQemus()).start(guest.uuid, guest.uuid)
        time.sleep(0.5)
        (process,) = counter().report(guest.uuid).processes
        self.assertEqual(guest.pid(), process["pid"])

    def test_sampling_costs_little(self):
        self.useFixture(OneCopy(str(uuid.uuid4())))
        time.sleep(0.5)
        before, began = self.cpu_time(), time.monotonic()
        time.sleep(3)
        used = (self.cpu_time() - before) / (time.monotonic() - began)
        self.assertLess(used, MAX_CPU)

    def cpu_time(self):
        """Return the CPU time of the sampling process, in seconds."""
        with open(f"/proc/{counter().pid}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9

    def test_ended_sampler_fails_the_test(self):
        made = type(counter())()
        made.close()
        with contextlib.suppress(BrokenPipeError, ValueError):
            self.assertRaises(RuntimeError, made.report, str(uuid.uuid4()))
