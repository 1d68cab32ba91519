# SPDX-License-Identifier: Apache-2.0
"""Test that each failure is stored and recovered once when a part of vmmonitor is killed."""

import concurrent.futures
import os
import signal
import time
import uuid

import oslo_messaging

from vmmonitor.db import incidents
from vmmonitor.model.event import CRITICAL, INCIDENT, RECORD, Decision
from vmmonitor.model.instance import Instance
from vmmonitor.model.receipt import ReceiptStatus
from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.rpc import engine_api, event_wire, transport
from vmmonitor.testing import builders, reaper
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.receiver import Receiver
from vmmonitor.tests.fixtures.services import MariaDB, RabbitMQ
from vmmonitor.tests.live.base import DIED, DIED_LOGGED, LOG_ONLY, PATIENCE_S, RESTART, WholeTest
from vmmonitor.tests.promises import shows

GUESTS = 6
#: Interval of the kills of guests, and minimum time without a part, in seconds.
PACE_S = 0.3
AWAY_S = 1.0
LEASE_S = 2
#: One driver call, without a wait for the instance.
CALL = """
version: 1
policies:
- name: call
  match: {}
  hold: 0
  steps:
  - {driver: webhook, attempts: 3, timeout: 60, wait_for: nothing}
"""
#: Nothing is recovered before the test ends the hold.
HELD = RESTART.replace("hold: 0", "hold: 600").replace("timeout: 5", "timeout: 20")


class Deaths(WholeTest):
    def kill_all(self, guests, die, revive):
        """Kill guests one by one; call ``die`` after the second and ``revive`` before the last."""
        for number, guest in enumerate(guests):
            if number == 2:
                die()
            if number == len(guests) - 1:
                time.sleep(AWAY_S)
                revive()
            guest.kill()
            time.sleep(PACE_S)

    def check_stored(self, guests):
        """Check that each failure was stored once and opened one incident."""
        for guest in guests:
            self.wait(lambda g=guest: self.stops(g), f"the end of {guest.name} is not stored")
        self.quiet()
        for guest in guests:
            self.assertEqual(1, len(self.stops(guest)), self.stops(guest))
            self.assertEqual(1, len(self.states(guest)), self.states(guest))

    def check_recovered(self, guests, boots=2):
        """Check that each failure was stored once and recovered once.

        :param boots: number of starts of each guest.
        """
        for guest in guests:
            self.recovered(guest)
        self.quiet()
        for guest in guests:
            self.assertEqual(1, len(self.stops(guest)), self.stops(guest))
            self.assertEqual([IncidentState.RESOLVED], self.states(guest))
            starts = self.deployment.events(guest.uuid, "lifecycle.started")
            self.assertEqual(boots, len(starts), guest.name)


@shows("P1")
class TestAgent(Deaths):
    def test_agent_killed_during_failures_loses_none(self):
        self.deploy()
        self.start(self.deployment.engine(options=self.policies(LOG_ONLY)))
        agent = self.watched()
        guests = [*self.guests(GUESTS, defined=True), self.guest()]
        transient = guests.pop()
        self.kill_all(
            [*guests[:3], transient, *guests[3:]], agent.kill, lambda: self.watched(agent)
        )
        self.check_stored([*guests, transient])
        self.assertEqual(["lifecycle.stopped/vanished"], self.stops(transient))
        for guest in guests:
            self.assertIn(self.stops(guest)[0], DIED)

    def test_guest_killed_without_agent_is_recovered_after_start(self):
        self.deploy()
        self.start(self.deployment.engine(options=self.policies(RESTART)))
        agent = self.watched()
        (guest,) = self.guests(1, defined=True)
        self.wait(lambda: self.deployment.events(guest.uuid, "lifecycle.started"), "not started")
        agent.kill()
        guest.kill()
        self.wait(lambda: guest.state() == "shutoff", "not down")
        self.watched(agent)
        self.check_recovered([guest])


@shows("P1")
class TestEngine(Deaths):
    def test_engine_killed_during_failures_recovers_all(self):
        self.deploy()
        engine = self.start(self.deployment.engine(options=self.policies(RESTART)))
        self.watched()
        guests = self.guests(GUESTS, defined=True)
        self.kill_all(guests, engine.kill, lambda: self.start(engine))
        self.check_recovered(guests)

    def test_engine_worker_killed_during_failures_recovers_all(self):
        """The parent process starts a new worker."""
        self.deploy()
        engine = self.start(self.deployment.engine(options=self.policies(RESTART)))
        self.watched()
        guests = self.guests(3, defined=True)

        def die():
            (worker,) = reaper.descendants(engine.pid)
            os.kill(worker, signal.SIGKILL)

        self.kill_all(guests, die, lambda: None)
        self.check_recovered(guests)


@shows("P1")
class TestRabbitMQ(Deaths):
    def test_rabbitmq_killed_during_failures_recovers_all(self):
        rabbitmq = self.useFixture(RabbitMQ())
        self.deploy(bus=rabbitmq.url)
        self.start(self.deployment.engine(options=self.policies(RESTART)))
        self.watched()
        guests = self.guests(GUESTS, defined=True)
        self.kill_all(guests, rabbitmq.kill, rabbitmq.restart)
        self.check_recovered(guests)

    def test_rabbitmq_absent_at_start_recovers_later(self):
        """A host starts before the broker after a complete outage."""
        rabbitmq = self.useFixture(RabbitMQ())
        self.deploy(bus=rabbitmq.url)
        rabbitmq.kill()
        engine = self.deployment.engine(options=self.policies(RESTART))
        engine.start()
        agent = self.deployment.agent(self.hypervisor())
        agent.start("Source libvirt is connected")
        (guest,) = self.guests(1, defined=True)
        guest.kill()
        agent.wait_for(DIED_LOGGED)
        for program in (agent, engine):
            self.assertEqual(0, program.stop(), program.name)
        engine.start()
        agent.start()
        rabbitmq.restart()
        self.check_recovered([guest])


@shows("P1")
class TestMariaDB(Deaths):
    def test_mariadb_killed_during_failures_recovers_all(self):
        mariadb = self.useFixture(MariaDB())
        self.deploy(connection=mariadb.create())
        self.start(self.deployment.engine(options=self.policies(RESTART)))
        self.watched()
        guests = self.guests(GUESTS, defined=True)
        self.kill_all(guests, mariadb.kill, mariadb.restart)
        self.check_recovered(guests)

    def test_mariadb_absent_at_start_ends_engine(self):
        mariadb = self.useFixture(MariaDB())
        self.deploy(connection=mariadb.create())
        mariadb.kill()
        engine = self.deployment.engine()
        engine.start()
        self.assertEqual(1, engine.ended(60))
        (line,) = engine.output().splitlines()
        self.assertIn("vmmonitor-engine: The database cannot be reached", line)


@shows("P1")
class TestLibvirtd(Deaths):
    def hypervisor(self):
        return self.own

    def test_libvirtd_killed_during_failures_recovers_all(self):
        self.own = self.useFixture(Hypervisor())
        self.deploy()
        self.start(self.deployment.engine(options=self.policies(RESTART)))
        self.watched()
        guests = self.guests(GUESTS, defined=True)
        self.kill_all(guests, self.own.kill, self.own.start)
        self.check_recovered(guests)

    def test_libvirtd_killed_with_transient_guests_loses_none(self):
        self.own = self.useFixture(Hypervisor())
        self.deploy()
        self.start(self.deployment.engine(options=self.policies(LOG_ONLY)))
        self.watched()
        guests = self.guests(4)
        self.kill_all(guests, self.own.kill, self.own.start)
        self.check_stored(guests)


@shows("P3")
class TestTwoEngines(WholeTest):
    def setUp(self):
        super().setUp()
        self.receiver = self.useFixture(Receiver())
        self.deploy(options={"webhook": {"url": self.receiver.url, "timeout": 60}})
        options = self.policies(CALL)
        options["recovery"]["lease"] = LEASE_S
        self.engines = [
            self.deployment.engine(name, options=options) for name in ("engine-1", "engine-2")
        ]

    def events(self, number):
        """Return the deliveries of the stops of ``number`` instances."""
        decision = Decision(action=INCIDENT, severity=CRITICAL, rule="died")
        now = time.time_ns() // 1000
        return [
            event_wire.write_delivery(
                builders.event(
                    "lifecycle.stopped/failed",
                    event_id=str(uuid.uuid4()),
                    instance=Instance(uuid=str(uuid.uuid4())),
                    occurred_at=now,
                ),
                decision,
                now,
            )
            for _ in range(number)
        ]

    def send(self, engine, deliveries):
        """Send a batch to one engine; return its receipts."""
        bus = transport.new(self.deployment.conf, self.deployment.bus)
        self.addCleanup(bus.cleanup)
        target = oslo_messaging.Target(
            topic=transport.ENGINE_TOPIC, server=engine.name, version=engine_api.VERSION
        )
        client = oslo_messaging.get_rpc_client(bus, target)
        batch = event_wire.write_batch(builders.HOST, time.time_ns() // 1000, deliveries)
        answer = client.call({}, "report_events", batch=batch)
        return [receipt.status for receipt in event_wire.read_receipts(answer, len(deliveries))]

    def test_batch_sent_to_two_engines_is_stored_once(self):
        for engine in self.engines:
            self.start(engine)
        for _ in range(5):
            deliveries = self.events(4)
            with concurrent.futures.ThreadPoolExecutor() as pool:
                words = list(pool.map(lambda e, d=deliveries: self.send(e, d), self.engines))
            for pair in zip(*words, strict=True):
                self.assertEqual({ReceiptStatus.STORED, ReceiptStatus.DUPLICATE}, set(pair))
            self.check_called_once(deliveries)

    def check_called_once(self, deliveries):
        for delivery in deliveries:
            instance = delivery["instance"]["uuid"]
            self.assertEqual(1, len(self.deployment.events(instance)))
            (incident,) = self.deployment.incidents(instance)
            self.wait(lambda i=incident: self.is_done(i), "not recovered")
            (call,) = [one for one in self.receiver.received if instance.encode() in one.body]

    def is_done(self, incident):
        done = self.deployment.recoveries(incident.incident_id)
        return [recovery.state for recovery in done] == [RecoveryState.SUCCEEDED]

    def test_killed_engine_is_replaced_by_second(self):
        self.receiver.answer = lambda _: self.receiver.over.wait(PATIENCE_S)
        first, second = self.engines
        self.start(first)
        deliveries = self.events(1)
        self.send(first, deliveries)
        self.wait(lambda: self.receiver.received, "not called")
        self.start(second)
        self.receiver.answer = self.receiver.reply
        first.kill()
        began = time.monotonic()
        (incident,) = self.deployment.incidents(deliveries[0]["instance"]["uuid"])
        self.wait(lambda: self.is_done(incident), "not taken over")
        self.assertLess(time.monotonic() - began, LEASE_S + 5)
        self.quiet()
        calls = [one.body for one in self.receiver.received]
        self.assertEqual(2, len(calls))
        self.assertEqual(calls[0], calls[1])
        self.assertTrue(self.is_done(incident))
        messages = [step.message for step in self.deployment.steps(incident.incident_id)]
        self.assertEqual(1, sum("taken over" in message for message in messages), messages)

    def test_running_instance_is_not_recovered_by_second_engine(self):
        self.receiver.answer = lambda _: self.receiver.over.wait(PATIENCE_S)
        first, second = self.engines
        self.start(first)
        (failure,) = self.events(1)
        self.send(first, [failure])
        self.wait(lambda: self.receiver.received, "not called")
        self.start(second)
        started = failure | {"event_id": str(uuid.uuid4()), "type": "lifecycle.started"}
        started["decision"] = failure["decision"] | {"action": RECORD}
        self.send(second, [started])
        first.kill()
        instance = failure["instance"]["uuid"]
        self.wait(
            lambda: (
                [one.state for one in self.deployment.incidents(instance)]
                == [IncidentState.RESOLVED]
            ),
            "not resolved",
        )
        (incident,) = self.deployment.incidents(instance)
        self.assertTrue(self.is_done(incident))
        self.assertEqual(1, len(self.receiver.received))


@shows("P3")
class TestTakeOver(Deaths):
    def test_takeover_starts_guest_once(self):
        """The engine is killed while the agent has its request; another engine repeats it."""
        self.deploy()
        options = self.policies(HELD)
        options["recovery"]["lease"] = LEASE_S
        first = self.start(self.deployment.engine("engine-1", options=options))
        agent = self.watched()
        (guest,) = self.guests(1, defined=True)
        guest.kill()
        self.wait(lambda: self.stops(guest), "not stored")
        agent.send(signal.SIGSTOP)
        self.end_hold(guest)
        self.wait(
            lambda: self.states(guest) == [IncidentState.RECOVERING], "the agent is not asked"
        )
        first.kill()
        self.start(self.deployment.engine("engine-2", options=options))
        self.wait(lambda: self.is_taken_over(guest), "not taken over")
        agent.send(signal.SIGCONT)
        self.check_recovered([guest])

    def end_hold(self, guest):
        """Make the incident due. A hold by time could end before the agent is suspended."""
        (incident,) = self.deployment.incidents(guest.uuid)
        database = self.deployment.database
        now = database.now()
        database.run(incidents.reschedule, incident, now, "the test ends the hold", now)

    def is_taken_over(self, guest):
        (incident,) = self.deployment.incidents(guest.uuid)
        steps = self.deployment.steps(incident.incident_id)
        return any("taken over" in step.message for step in steps)
