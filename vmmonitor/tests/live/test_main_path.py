# SPDX-License-Identifier: Apache-2.0
"""Test the way of a failure from a real guest to its recovery, through every process."""

import json
import re
import signal

import fixtures

from vmmonitor.model.states import IncidentState
from vmmonitor.testing.guest import NovaMetadata
from vmmonitor.tests.fixtures.faulty_disk import FullDisk
from vmmonitor.tests.fixtures.services import MariaDB, PostgreSQL
from vmmonitor.tests.fixtures.shared import shared
from vmmonitor.tests.live.base import DIED, WholeTest

#: As shipped, with shorter times.
RESUME = """
version: 1
policies:
- name: storage
  match:
  - {type: lifecycle.suspended, detail: ioerror}
  - {type: io_error, detail: pause}
  hold: 0.5
  steps:
  - driver: libvirt
    attempts: -1
    timeout: 10
    wait_for: running
    wait: 10
    backoff: {initial: 0.5, factor: 1, max: 0.5, jitter: 0}
"""


class MainPath:
    """Tests that run on every database."""

    server = MariaDB

    def setUp(self):
        super().setUp()
        self.deploy(connection=shared(self.server).create())

    def run_all(self, **options):
        """Start an engine and an agent."""
        self.start(self.deployment.engine(options=options))
        self.watched()

    def test_killed_guest_is_recovered(self):
        self.run_all()
        nova = NovaMetadata(name="web-1")
        guest = self.guest(nova=nova, defined=True)
        guest.kill(signal.SIGKILL)
        self.recovered(guest)
        (stored,) = self.deployment.events(guest.uuid, "lifecycle.stopped")
        event = stored.event
        self.assertIn(event.cause, DIED)
        self.assertEqual("node-1", event.host)
        self.assertEqual(
            ("web-1", guest.name), (event.instance.name, event.instance.hypervisor_name)
        )
        self.assertEqual(nova.project_id, event.instance.project_id)
        self.assertEqual(nova.flavor, event.instance.flavor)
        self.assertEqual("incident", stored.decision.action)
        (incident,) = self.deployment.incidents(guest.uuid)
        self.assertEqual(incident.incident_id, stored.incident_id)
        moments = (event.occurred_at, stored.spooled_at, stored.sent_at)
        self.assertEqual(sorted(moments), list(moments))
        (recovery,) = self.deployment.recoveries(incident.incident_id)
        self.assertEqual(("libvirt", 1), (recovery.driver, recovery.attempt))


class TestOnMariaDB(MainPath, WholeTest):
    def test_transient_guest_is_created_again(self):
        self.run_all()
        guest = self.guest(nova=NovaMetadata(name="web-2"))
        guest.kill(signal.SIGKILL)
        self.recovered(guest)
        # The definition of the created domain still contains its owner.
        guest.kill(signal.SIGKILL)
        self.wait(lambda: self.states(guest) == [IncidentState.RESOLVED] * 2, "not resolved twice")
        stops = self.deployment.events(guest.uuid, "lifecycle.stopped")
        self.assertEqual(["web-2"] * 2, [stop.event.instance.name for stop in stops])

    def test_planned_stops_are_ignored(self):
        self.run_all()
        destroyed, powered_off, suspended = self.guests(3, defined=True)
        with self.hypervisor().connection() as connection:
            connection.lookupByUUIDString(destroyed.uuid).destroy()
            connection.lookupByUUIDString(suspended.uuid).suspend()
        powered_off.order("S")
        expected = {
            destroyed: "lifecycle.stopped/destroyed",
            powered_off: "lifecycle.stopped/shutdown",
            suspended: "lifecycle.suspended/paused",
        }
        for guest, cause in expected.items():
            self.wait(lambda g=guest, c=cause: c in self.deployment.causes(g.uuid), cause)
        self.quiet()
        for guest, cause in expected.items():
            # An incident may have been pending from the end of the process until libvirt's event.
            self.assertLessEqual(set(self.states(guest)), {IncidentState.IGNORED}, cause)
            causes = [one.event.cause for one in self.deployment.events(guest.uuid)]
            self.assertEqual(1, causes.count("lifecycle.started/booted"))
        self.assertEqual("shutoff", destroyed.state())
        self.assertEqual("shutoff", powered_off.state())
        self.assertEqual("paused", suspended.state())

    def test_guest_that_its_owner_paused_is_not_started(self):
        self.run_all()
        guest = self.guest(defined=True)
        with self.hypervisor().connection() as connection:
            connection.lookupByUUIDString(guest.uuid).suspend()
        pause = "lifecycle.suspended/paused"
        self.wait(lambda: pause in self.deployment.causes(guest.uuid), "the pause is not stored")
        guest.kill(signal.SIGKILL)
        self.wait(lambda: self.states(guest) == [IncidentState.UNHANDLED], "it is not unhandled")
        self.assertEqual("shutoff", guest.state())

    def test_panicked_guest_is_reset(self):
        self.run_all()
        guest = self.guest(on_crash="preserve")
        guest.order("P")
        self.recovered(guest)
        self.assertIn("lifecycle.crashed/panicked", self.deployment.causes(guest.uuid))

    def test_guest_on_full_disk_is_resumed_after_repair(self):
        self.run_all(**self.policies(RESUME))
        disk = self.useFixture(FullDisk(self.hypervisor()))
        guest = self.guest(disks=[disk.disk()], defined=True)
        while guest.order("D", timeout=1) == "o":
            pass
        self.wait(lambda: self.attempts(guest) >= 3, "no retries")
        self.assertEqual([IncidentState.RECOVERING], self.states(guest))
        disk.grow()
        self.recovered(guest)
        self.assertIn("lifecycle.suspended/ioerror", self.deployment.causes(guest.uuid))

    def attempts(self, guest):
        return sum(
            len(self.deployment.recoveries(incident.incident_id))
            for incident in self.deployment.incidents(guest.uuid)
        )

    def test_timeline_is_shown_by_client(self):
        self.run_all()
        guest = self.guest(defined=True, nova=NovaMetadata(name="web-3"))
        guest.kill(signal.SIGKILL)
        self.recovered(guest)
        (incident,) = self.deployment.incidents(guest.uuid)
        url = self.deployment.serve_api()
        self.check_timeline(url, incident)
        listed = json.loads(self.deployment.command(url, "incident", "list", "-f", "json"))
        self.assertIn(incident.incident_id, json.dumps(listed))

    def check_timeline(self, url, incident):
        shown = self.deployment.command(url, "incident", "show", incident.incident_id)
        lines = [
            "since the report of libvirt",
            incident.cause,
            "rule died, action incident",
            "no hold",
            "asked the host's events whether it failed or was stopped on purpose",
            f"libvirt reported {incident.cause}",
            "calling the driver",
            "it was started and runs",
            "recovering -> resolved",
        ]
        flat = " ".join(shown.split())
        for line in lines:
            self.assertIn(line, flat)


class TestOnPostgreSQL(MainPath, WholeTest):
    server = PostgreSQL


class TestStandalone(WholeTest):
    """Test all services in one process, with SQLite."""

    def test_standalone_recovers_killed_guest(self):
        directory = self.useFixture(fixtures.TempDir()).path
        deployment = self.deploy("fake://", f"sqlite:///{directory}/vmmonitor.db")
        standalone = self.watched(deployment.standalone(self.hypervisor()))
        guest = self.guest(defined=True)
        guest.kill(signal.SIGKILL)
        self.recovered(guest)
        (cause,) = self.stops(guest)
        self.assertIn(cause, DIED)
        url = re.search(r"http://\S+", standalone.log()).group()
        (incident,) = deployment.incidents(guest.uuid)
        self.assertIn(incident.incident_id, deployment.command(url, "incident", "list"))
        socket = re.search(r"unix://\S+", standalone.log()).group()
        self.assertIn(incident.incident_id, deployment.command(socket, "incident", "list"))
        self.assertEqual(0, standalone.stop())
        self.assertEqual("", standalone.output())
