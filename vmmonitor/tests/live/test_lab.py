# SPDX-License-Identifier: Apache-2.0
"""Test the fixtures of the live tests, and that they leave no process or file."""

import os
import subprocess
import sys
import time

import fixtures
import kombu
import libvirt
import sqlalchemy
import testtools

from vmmonitor.testing import processes
from vmmonitor.testing.guest import Guest, NovaMetadata
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.fixtures import listeners
from vmmonitor.tests.fixtures.faulty_disk import FaultyDisk, FullDisk
from vmmonitor.tests.fixtures.services import Database, MariaDB, PostgreSQL, RabbitMQ
from vmmonitor.tests.fixtures.shared import shared

ENDED_S = 5.0

# Prints each lifecycle event with the time of its callback. A process of its own: libvirt's
# event loop can be registered only once in a process, and other tests need it.
WATCH = """
import libvirt, sys, time
libvirt.virEventRegisterDefaultImpl()
connection = libvirt.openReadOnly(sys.argv[1])
def on_event(connection, domain, event, detail, opaque):
    print(domain.name(), event, detail, time.time(), flush=True)
connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, on_event, None)
print("ready", flush=True)
while True:
    libvirt.virEventRunDefaultImpl()
"""

# Prints the directory and the processes of a host with a guest, then waits to be killed.
HOST = """
import time
from vmmonitor.testing import guest, hypervisor
host = hypervisor.Hypervisor()
host.setUp()
guest.Guest(host).setUp()
print(host.path, *host.processes.pids(), flush=True)
time.sleep(600)
"""

# Prints the directory and the processes of a shared server after a forked child has ended.
SERVER = """
import os, sys
from vmmonitor.tests.fixtures import services, shared
server = shared.shared(services.PostgreSQL)
if os.fork() == 0:
    sys.exit()
os.wait()
server.create()
print(server.processes.path, *server.processes.pids(), flush=True)
"""


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Return a Python process that runs ``script``, with line-buffered output."""
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def gone(path: str, pids: list[int]) -> bool:
    """Return whether a directory and all processes are gone."""
    return not any(os.path.exists(name) for name in [path, *(f"/proc/{pid}" for pid in pids)])


class LabTest(testtools.TestCase):
    """Base class with waits and checks for leftovers."""

    def becomes(self, expected, read, timeout=ENDED_S):
        """Wait until ``read()`` returns the expected value."""
        processes.wait_until(lambda: read() == expected, timeout, f"never {expected!r}")


class GuestTest(LabTest):
    def guest(self, *args, **kwargs) -> Guest:
        return self.useFixture(Guest(shared(Hypervisor), *args, **kwargs))

    def test_guest_answers(self):
        guest = self.guest()
        self.assertEqual("k", guest.order("?"))
        self.assertEqual("running", guest.state())
        with open(f"/proc/{guest.pid()}/cmdline") as command:
            self.assertIn(guest.name, command.read())

    def test_guest_started_by_another_client_answers(self):
        guest = self.guest()
        guest.kill()
        self.becomes("absent", guest.state)
        self.assertFalse(guest.ping(0.2))
        with guest.hypervisor.connection() as connection:
            connection.createXML(guest.xml)
        self.assertTrue(guest.ping(10))

    def test_defined_guest_stays_after_its_end(self):
        guest = self.guest(defined=True)
        guest.order("S")
        self.becomes("shutoff", guest.state)
        guest.start()
        self.assertTrue(guest.ping(0.5))

    def test_guest_panic_ends_qemu(self):
        for on_crash, state in (("destroy", "absent"), ("preserve", "crashed")):
            guest = self.guest(on_crash=on_crash)
            guest.order("P")
            self.becomes(state, guest.state)

    def test_guest_survives_crash_kernel(self):
        guest = self.guest()
        self.assertEqual("L", guest.order("L"))
        self.assertTrue(guest.ping(1))

    def test_guest_watchdog_fires(self):
        guest = self.guest(watchdog="pause")
        guest.order("W")
        self.becomes("paused", guest.state)

    def test_guest_reboots(self):
        guest = self.guest()
        pid = guest.pid()
        guest.order("B")
        self.assertTrue(guest.ping(10))
        self.assertEqual(pid, guest.pid())

    def test_guest_hangs_and_spins(self):
        for letter in "HJ":
            guest = self.guest()
            guest.order(letter)
            self.assertFalse(guest.ping(0.5))
            self.assertEqual("running", guest.state())

    def test_guest_has_nova_metadata(self):
        guest = self.guest(nova=NovaMetadata(name="<web & db>"), started=False, defined=True)
        with guest.hypervisor.connection() as connection:
            metadata = connection.lookupByName(guest.name).metadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                "http://openstack.org/xmlns/libvirt/nova/1.1",
            )
        self.assertIn("&lt;web &amp; db&gt;", metadata)

    def test_faulty_disk_fails_and_heals(self):
        disk = self.useFixture(FaultyDisk(shared(Hypervisor)))
        guest = self.guest(disks=[disk.disk(error_policy="report")])
        self.assertEqual(["o", "o"], [guest.order("D"), guest.order("R")])
        disk.fail()
        self.assertEqual(["e", "e"], [guest.order("D"), guest.order("R")])
        disk.heal()
        self.assertEqual("o", guest.order("D"))

    def test_full_disk_fails_and_grows(self):
        disk = self.useFixture(FullDisk(shared(Hypervisor)))
        guest = self.guest(disks=[disk.disk()])
        while guest.order("D", timeout=1) == "o":
            continue
        self.becomes("paused", guest.state)
        disk.grow()
        with guest.hypervisor.connection() as connection:
            connection.lookupByName(guest.name).resume()
        self.assertTrue(guest.ping(5))
        self.assertEqual("o", guest.order("D"))


class HypervisorTest(LabTest):
    def test_killed_guest_is_reported_at_once(self):
        hypervisor = shared(Hypervisor)
        guest = self.useFixture(Guest(hypervisor))
        watch = python(WATCH, hypervisor.uri)
        self.addCleanup(watch.communicate)
        self.addCleanup(watch.kill)
        self.assertEqual("ready\n", watch.stdout.readline())
        killed_at = time.time()
        guest.kill()
        name, event, detail, reported_at = watch.stdout.readline().split()
        self.assertEqual(guest.name, name)
        self.assertEqual(libvirt.VIR_DOMAIN_EVENT_STOPPED, int(event))
        self.assertEqual(libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED, int(detail))
        self.assertLess(float(reported_at) - killed_at, 1)

    def test_two_hypervisors_are_separate_hosts(self):
        first, second = shared(Hypervisor), self.useFixture(Hypervisor())
        guest = self.useFixture(Guest(second))
        with first.connection() as one, second.connection() as other:
            self.assertNotIn(guest.name, [domain.name() for domain in one.listAllDomains()])
            self.assertIn(guest.name, [domain.name() for domain in other.listAllDomains()])
            self.assertIn(first.host_uuid, one.getCapabilities())
            self.assertIn(second.host_uuid, other.getCapabilities())

    def test_guests_survive_libvirtd(self):
        hypervisor = self.useFixture(Hypervisor())
        guest = self.useFixture(Guest(hypervisor))
        pid = guest.pid()
        hypervisor.restart()
        self.assertEqual(("running", pid), (guest.state(), guest.pid()))
        hypervisor.kill()
        self.assertRaises(libvirt.libvirtError, guest.state)
        self.assertTrue(guest.ping(1))
        hypervisor.start()
        self.assertEqual(("running", pid), (guest.state(), guest.pid()))

    def test_hypervisor_cleanup_leaves_nothing(self):
        hypervisor = Hypervisor()
        with hypervisor:
            guest = Guest(hypervisor)
            guest.setUp()
            path, pids = hypervisor.path, hypervisor.processes.pids()
            self.assertIn(guest.pid(), pids)
            self.assertIn(hypervisor.pid, pids)
        self.assertTrue(gone(path, pids))
        guest.cleanUp()

    def test_hypervisor_of_killed_owner_leaves_nothing(self):
        owner = python(HOST)
        path, *pids = owner.stdout.readline().split()
        self.assertGreater(len(pids), 2)
        owner.kill()
        owner.communicate()
        self.becomes(True, lambda: gone(path, pids))


class ServiceTest(LabTest):
    def test_rabbitmq_restart_keeps_messages(self):
        rabbit = self.useFixture(RabbitMQ())
        address = rabbit.url.replace("rabbit:", "amqp:")
        options = {"confirm_publish": True}
        with kombu.Connection(address, transport_options=options) as connection:
            connection.SimpleQueue("kept").put({"kept": True})
        rabbit.kill()
        self.assertRaises(OSError, kombu.Connection(address, connect_timeout=1).connect)
        rabbit.restart()
        with kombu.Connection(address) as connection:
            message = connection.SimpleQueue("kept").get(timeout=10)
            self.assertEqual({"kept": True}, message.payload)
            message.ack()

    def test_two_rabbitmqs_run_together(self):
        first = shared(RabbitMQ)
        with RabbitMQ() as second:
            path, pids = second.processes.path, second.processes.pids()
            for rabbit in (first, second):
                with kombu.Connection(rabbit.url.replace("rabbit:", "amqp:")) as connection:
                    queue = connection.SimpleQueue("mine")
                    queue.put(rabbit.url)
                    self.assertEqual(rabbit.url, queue.get(timeout=10).payload)
        self.assertTrue(gone(path, pids))

    def test_services_listen_on_the_loopback_interface_only(self):
        ports = set()
        for kind in (RabbitMQ, MariaDB, PostgreSQL, Hypervisor):
            service = self.useFixture(kind())
            pids = service.processes.pids()
            with self.subTest(kind=kind.__name__):
                self.assertEqual({}, listeners.list_public_addresses(pids))
            ports |= set().union(*listeners.list_addresses(pids).values())
        # The broker, its distribution and epmd: the sockets are found at all.
        self.assertGreaterEqual(len(ports), 3)

    def test_mariadb_restart_keeps_rows(self):
        self._keeps_rows(self.useFixture(MariaDB()))

    def test_mariadb_commit_is_durable(self):
        engine = self._engine(shared(MariaDB).url)
        with engine.connect() as connection:
            setting = sqlalchemy.text("SELECT @@innodb_flush_log_at_trx_commit")
            self.assertEqual(1, connection.scalar(setting))

    def test_postgresql_restart_keeps_rows(self):
        self._keeps_rows(self.useFixture(PostgreSQL()))

    def test_postgresql_commit_is_durable(self):
        engine = self._engine(shared(PostgreSQL).url)
        with engine.connect() as connection:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                self.assertEqual("on", connection.scalar(sqlalchemy.text(f"SHOW {setting}")))

    def test_shared_service_ends_only_with_its_process(self):
        output = python(SERVER).communicate()[0]
        path, *pids = output.split()
        self.assertGreater(len(pids), 2)
        self.assertTrue(gone(path, pids))

    def _engine(self, url: str) -> sqlalchemy.Engine:
        engine = sqlalchemy.create_engine(url)
        self.addCleanup(engine.dispose)
        return engine

    def _keeps_rows(self, database: Database) -> None:
        engine = self._engine(database.create())
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE kept (n INTEGER PRIMARY KEY)"))
            connection.execute(sqlalchemy.text("INSERT INTO kept VALUES (7)"))
        database.kill()
        engine.dispose()
        self.assertRaises(sqlalchemy.exc.OperationalError, engine.connect)
        database.restart()
        with engine.connect() as connection:
            self.assertEqual(7, connection.scalar(sqlalchemy.text("SELECT n FROM kept")))


class MissingProgramTest(testtools.TestCase):
    def test_missing_program_error_names_package(self):
        self.useFixture(fixtures.EnvironmentVariable("PATH", "/nonexistent"))
        self.useFixture(fixtures.MonkeyPatch(f"{processes.__name__}.SBIN", "/nonexistent"))
        error = self.assertRaises(processes.MissingProgram, processes.program, "virtlogd")
        self.assertEqual("virtlogd is not installed: apt-get install libvirt-daemon", str(error))
