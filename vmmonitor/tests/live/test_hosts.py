# SPDX-License-Identifier: Apache-2.0
"""A host speaks only for its own instances; everything is real, and messages are not signed."""

import os
import signal
import threading
import time

from vmmonitor import conf as configuration
from vmmonitor.model.agent import AgentReport
from vmmonitor.model.event import CRITICAL, INCIDENT, RECORD, Decision, Event
from vmmonitor.model.instance import RUNNING, Instance, Seen
from vmmonitor.rpc import event_wire, transport
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.testing.guest import Guest
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.network_disks import NetworkDisks
from vmmonitor.tests.functional.db.samples import new_id
from vmmonitor.tests.live import base
from vmmonitor.tests.live.libvirt_base import migrate
from vmmonitor.tests.promises import shows

#: Allows the agent to start guests, and reports often.
OPTIONS = {"agent": {"allow_recovery": True, "report_interval": 1}}


class HostileHost:
    """An account on the broker that speaks under its own name only."""

    NAME = "compute-9"

    def __init__(self, bus: str) -> None:
        self._transport = transport.new(configuration.new([], files=[]), bus)
        self._engine = EngineAPI(self._transport)

    def send(self, uuid: str, cause: str, action: str = RECORD, **fields) -> list[str]:
        """Send an event; return the words of its receipt."""
        kind, _, detail = cause.partition("/")
        event = Event(
            event_id=new_id(),
            host=self.NAME,
            instance=Instance(uuid=uuid, name="victim"),
            source=fields.pop("source", "libvirt"),
            type=kind,
            detail=detail,
            occurred_at=time.time_ns() // 1000,
            attributes=fields,
        )
        decision = Decision(action=action, severity=CRITICAL, rule="forged")
        form = event_wire.write_delivery(event, decision, event.occurred_at)
        receipts = self._engine.report_events(self.NAME, event.occurred_at, [form], 10)
        return [f"{receipt.status} {receipt.reason}" for receipt in receipts]

    def claim(self, uuid: str) -> None:
        """Report that the instance runs here, by an inventory and a report."""
        seen = Seen(instance=Instance(uuid=uuid, name="victim"), state=RUNNING, run_id=1)
        self._engine.report_inventory(self.NAME, "ab", [seen], 10)
        report = AgentReport(
            host=self.NAME,
            state="up",
            reason="",
            version="1",
            sent_at=time.time_ns() // 1000,
            started_at=1,
            interval=10.0,
            spool_depth=0,
            spool_refused=0,
            last_event_at=0,
            filter_checksum="",
            inventory_digest="ab",
            instances=1,
        )
        self._engine.report_agent(report, 10)

    def close(self) -> None:
        self._transport.cleanup()


@shows("P12")
class ForeignWordsTest(base.WholeTest):
    """Each of the four ways to suppress the recovery of another host's instance fails."""

    def setUp(self):
        super().setUp()
        self.deploy(options={"reconcile": {"interval": 1, "hold": 1}})
        policies = self.policies(base.RESTART.replace("match: {}", "match: {source: libvirt}"))
        self.start(self.deployment.engine(options=policies))
        self.watched(options=OPTIONS)
        self.victim = self.guest(defined=True)
        uuid = self.victim.uuid
        # A claim that begins before the owner's inventory shows the instance is believed.
        self.wait(lambda: self.deployment.shows_running(uuid), "not in the inventory")
        self.thief = HostileHost(self.deployment.bus)
        self.addCleanup(self.thief.close)

    def test_no_word_of_another_host_suppresses_a_recovery(self):
        uuid, stop = self.victim.uuid, threading.Event()
        refused = self.thief.send(uuid, "nova.power_off/start", by_user="its owner")
        self.assertIn("refused foreign_source", refused[0])
        refused = self.thief.send(uuid, "reconcile.agrees", source="reconcile")
        self.assertIn("refused foreign_source", refused[0])
        self.thief.send(uuid, "process.exited", INCIDENT)
        self.thief.claim(uuid)

        def lie():
            while not stop.wait(0.2):
                self.thief.send(uuid, "lifecycle.resumed/unpaused")
                self.thief.send(uuid, "lifecycle.resumed/migrated")

        liar = threading.Thread(target=lie)
        liar.start()
        self.addCleanup(liar.join)
        self.addCleanup(stop.set)
        before = self.victim.pid()
        os.kill(before, signal.SIGKILL)
        self.wait(lambda: self.victim.pid() not in (None, before), "it was not recovered")
        stop.set()
        self.wait(lambda: "resolved" in self.states(self.victim), "its incident is not resolved")
        hosts = {one.host for one in self.deployment.incidents(uuid)}
        self.assertEqual({"node-1"}, hosts)
        foreign = [
            one for one in self.deployment.events(uuid) if one.event.host == self.thief.NAME
        ]
        self.assertEqual({None}, {one.incident_id for one in foreign if not _by_engine(one)})


def _by_engine(stored) -> bool:
    return stored.event.source in ("engine", "reconcile")


class TwoHostsTest(base.WholeTest):
    def setUp(self):
        super().setUp()
        self.deploy()
        self.start(self.deployment.engine(options=self.policies(base.RESTART)))
        self.hosts = [self.hypervisor(), self.useFixture(Hypervisor())]

    def agents(self, *options):
        """Start an agent on each host; return the programs."""
        made = [
            self.deployment.agent(host, f"node-{number}", options=given)
            for number, (host, given) in enumerate(zip(self.hosts, options, strict=True), 1)
        ]
        for agent in made:
            self.watched(agent)
        return made

    @shows("P11")
    def test_crash_after_migration_is_recovered_on_the_new_host(self):
        here, there = self.hosts
        self.agents(OPTIONS, OPTIONS)
        guest = self.useFixture(Guest(here, boot=self.useFixture(NetworkDisks()).create()))
        self.created.append(guest)
        self.wait(lambda: "lifecycle.started/booted" in self.causes(guest), "no start")
        with here.connection() as connection:
            migrate(connection.lookupByUUIDString(guest.uuid), there)
        arrival = {"lifecycle.stopped/migrated", "lifecycle.resumed/migrated"}
        self.wait(lambda: arrival <= set(self.causes(guest)), "no arrival")
        moved = there.qemu_pid(guest.name)
        os.kill(moved, signal.SIGKILL)
        self.wait(lambda: there.qemu_pid(guest.name) not in (None, moved), "it stays down")
        self.assertIsNone(here.qemu_pid(guest.name))
        hosts = {one.host for one in self.deployment.incidents(guest.uuid)}
        self.assertEqual({"node-2"}, hosts)

    def causes(self, guest):
        return self.deployment.causes(guest.uuid)

    def test_two_agents_with_one_name_are_reported_and_stop_recoveries(self):
        machines = [self.deployment.file(f"machine-{n}", f"{n}" * 32) for n in (1, 2)]
        options = [
            {
                "DEFAULT": {"host": "node-1"},
                "agent": {**OPTIONS["agent"], "machine_id_file": machine},
            }
            for machine in machines
        ]
        self.agents(*options)
        conflict = "two machines report under this name"
        self.wait(lambda: self.conflict() == conflict, "no conflict of the agent")
        self.wait(
            lambda: "host.conflict" in [one.cause for one in self.deployment.incidents("")],
            "no incident of the host",
        )
        guest = self.guest(defined=True)
        self.wait(lambda: self.deployment.causes(guest.uuid), "no start")
        guest.kill()
        self.wait(
            lambda: any("two machines" in one.reason for one in self.incidents(guest)),
            "the recovery is not stopped",
        )
        self.assertNotIn("ignored", self.states(guest))
        self.wait(lambda: guest.pid() is None, "it was started")

    def conflict(self):
        return self.deployment.agent_conflict("node-1")

    def incidents(self, guest):
        return self.deployment.incidents(guest.uuid)


class SpoolLockTest(base.WholeTest):
    def test_second_agent_on_one_spool_ends_with_the_reason(self):
        self.deploy()
        first = self.watched()
        second = self.deployment.agent(self.hypervisor(), "node-1")
        second.start()
        self.wait(lambda: "uses the spool" in second.output(), "the second agent is not refused")
        self.assertIn(f"another agent (process {first.pid})", second.output())
