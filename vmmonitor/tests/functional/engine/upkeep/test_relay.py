# SPDX-License-Identifier: Apache-2.0
"""From a change of an incident to its notification: nothing is lost, nothing waits for it."""

import threading
from typing import Any

from vmmonitor.db import incidents, outbox, session
from vmmonitor.engine.upkeep import relay as engine_outbox
from vmmonitor.engine.upkeep.relay import OutboxRelay
from vmmonitor.model.errors import Retriable
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.model.notification import Notification
from vmmonitor.model.states import IncidentState
from vmmonitor.rpc import payloads
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.contract.outbox_contract import notification
from vmmonitor.tests.functional.engine.base import FAIL, RUNS, EngineCase, delivery

DATA = "vmmonitor_object.data"


class Broker:
    """Keeps what it is sent; raises if it is away."""

    def __init__(self) -> None:
        self.taken: list[Notification] = []
        self.tries = 0
        self.is_away = False
        self.full_after = 1 << 30

    def send(self, sent: Notification) -> None:
        self.tries += 1
        if self.is_away or len(self.taken) >= self.full_after:
            raise Retriable("nobody answers")
        self.taken.append(sent)

    def words(self) -> list[str]:
        return [one.event_type.removeprefix("vmmonitor.") for one in self.taken]

    def ids(self) -> list[str]:
        return [one.payload[DATA]["notification_id"] for one in self.taken]


class OutboxCase(EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.conf.set_override("enabled", True, "notifications")
        self.broker = Broker()

    def writing(self, database: Any = None) -> OutboxRelay:
        """An outbox that writes, and sends when a test says so."""
        made = OutboxRelay(self.conf, database or self.database, lambda conf: self.broker)
        made._sender = self.broker
        (database or self.database).outbox = made._writer
        return made

    def running(self) -> OutboxRelay:
        """An outbox whose thread runs."""
        made = OutboxRelay(self.conf, self.database, lambda conf: self.broker)
        made.start()
        self.addCleanup(made.stop, 10)
        return made

    def another(self) -> session.Database:
        made = session.Database(self.conf)
        made.now = self.database.now
        self.addCleanup(made.dispose)
        return made

    def waiting(self) -> list[str]:
        with self.database.reader() as tx:
            found = outbox.waiting(tx)
        return [one.event_type.removeprefix("vmmonitor.") for one in found]


class TestWriting(OutboxCase):
    """What is written when something changes."""

    def test_nothing_while_it_is_off(self):
        self.conf.set_override("enabled", False, "notifications")
        self.running().stop(10)
        self.store(delivery())
        self.decide()
        self.assertEqual([], self.waiting())
        self.assertNotIn("outbox-relay", [thread.name for thread in threading.enumerate()])

    def test_the_way_to_an_instance_that_runs(self):
        self.writing()
        self.store(delivery())
        self.finish(self.decide())
        self.store(delivery(RUNS, occurred_at=samples.NOON + 1))
        self.assertEqual(
            [
                "incident.pending",
                "incident.recovering",
                "recovery.requested",
                "recovery.running",
                "recovery.waiting",
                "recovery.succeeded",
                "incident.resolved",
            ],
            self.waiting(),
        )

    def test_the_way_to_a_failure(self):
        self.policies = self.load(self.one_attempt())
        self.writing()
        self.store(delivery())
        self.finish(self.decide(), FAIL)
        self.assertEqual(["recovery.failed", "incident.unrecovered"], self.waiting()[-2:])

    def one_attempt(self) -> dict[str, Any]:
        return {
            "name": "once",
            "match": {"source": "libvirt"},
            "hold": 0,
            "steps": [{"driver": "fake", "attempts": 1}],
        }

    def test_what_was_planned(self):
        self.writing()
        self.store(delivery())
        self.decide(Verdict(kind=VerdictKind.PLANNED, reason="nova is at work on it"))
        self.assertEqual(["incident.pending", "incident.ignored"], self.waiting())

    def test_a_recovery_that_changes_alone_tells_whose_instance_it_is(self):
        self.writing()
        self.store(delivery())
        claim = self.decide()
        self.later(1000)
        self.claim_or_finish()
        with self.database.reader() as tx:
            last = outbox.waiting(tx)[-1]
        self.assertEqual("vmmonitor.recovery.updated", last.event_type)
        self.assertEqual("web", last.payload[DATA]["instance_name"])
        self.assertEqual(claim.recovery.recovery_id, last.payload[DATA]["recovery_id"])

    def test_a_host_that_nobody_watches(self):
        self.writing()
        host = samples.incident(
            kind="host",
            instance=samples.instance(uuid=""),
            cause="agent.late",
            state=IncidentState.UNHANDLED,
        )
        self.database.run(incidents.insert, [host])
        self.assertEqual(["incident.unhandled"], self.waiting())

    def test_what_was_rolled_back_is_told_to_nobody(self):
        self.writing()
        with self.assertRaises(ZeroDivisionError), self.database.writer() as tx:
            incidents.insert(tx, [samples.incident()])
            raise ZeroDivisionError
        self.assertEqual([], self.waiting())

    def test_a_mistake_in_a_payload_keeps_nothing_from_being_recovered(self):
        self.writing()
        self.patch(payloads, "notification", lambda *_: 1 / 0)
        self.store(delivery())
        self.assertIsNotNone(self.decide())
        self.assertEqual([], self.waiting())


class TestSending(OutboxCase):
    """What becomes of what was written."""

    def test_it_is_sent_in_order_and_gone(self):
        sending = self.writing()
        self.store(delivery())
        self.decide()
        written = self.waiting()
        self.assertFalse(sending.send())
        self.assertEqual(written, self.broker.words())
        self.assertEqual([], self.waiting())
        self.assertFalse(sending.send())

    def test_who_dies_between_sending_and_deleting_has_it_sent_twice_and_never_not(self):
        dying, living = self.writing(), self.writing(self.another())
        self.store(delivery())
        self.patch(outbox, "settle", lambda *_: 1 / 0)
        self.assertRaises(ZeroDivisionError, dying.send)
        self.patch(outbox, "settle", SETTLE)
        self.assertFalse(living.send())
        self.assertEqual(1, len(self.broker.taken))
        self.later(engine_outbox.LEASE)
        living.send()
        self.assertEqual(["incident.pending"] * 2, self.broker.words())
        self.assertEqual(1, len(set(self.broker.ids())))
        self.assertEqual([], self.waiting())

    def test_what_a_broker_refuses_waits_in_its_place(self):
        sending = self.writing()
        self.store(delivery())
        self.decide()
        written = self.waiting()
        self.broker.full_after = 2
        self.assertRaises(Retriable, sending.send)
        self.assertEqual(written[2:], self.waiting())
        self.broker.full_after = 1 << 30
        # At once, and by anybody: no lease is left behind.
        self.writing(self.another()).send()
        self.assertEqual(written, self.broker.words())

    def test_it_stops_sending_before_others_begin(self):
        sending = self.writing()
        self.store(delivery())
        self.patch(engine_outbox, "LEASE", 0.0)
        self.assertTrue(sending.send())
        self.assertEqual(([], ["incident.pending"]), (self.broker.words(), self.waiting()))

    def test_more_than_a_batch(self):
        sending = self.writing()
        self.patch(engine_outbox, "BATCH", 3)
        ids = [f"incident-{number}" for number in range(5)]
        self.database.run(outbox.insert, [notification(one) for one in ids])
        self.assertEqual([True, False], [sending.send() for _ in range(2)])
        self.assertEqual(ids, [one.incident_id for one in self.broker.taken])


class TestBounds(OutboxCase):
    def test_the_oldest_beyond_what_may_wait_are_dropped_and_counted(self):
        self.conf.set_override("keep", 3, "notifications")
        self.patch(engine_outbox, "DROP_CHUNK", 2)
        made = self.writing()
        self.database.run(outbox.insert, [notification(one, self.clock) for one in "abcdefgh"])
        made.drop()
        self.assertEqual((5, 3), (made.dropped, len(self.waiting())))
        # Not again at once: it counts the rows.
        self.database.run(outbox.insert, [notification("i", self.clock)])
        made.drop()
        self.assertEqual((5, 4), (made.dropped, len(self.waiting())))

    def test_what_has_waited_for_too_long_is_dropped_and_counted(self):
        self.conf.set_override("keep_seconds", 60, "notifications")
        made = self.writing()
        self.store(delivery())
        self.later(60)
        self.decide()
        self.later(1)
        made.drop()
        self.assertEqual(1, made.dropped)
        self.assertEqual("incident.recovering", self.waiting()[0])


class TestThread(OutboxCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(engine_outbox, "BACKOFF", (0.01, 0.05))

    def test_a_change_is_told_soon_and_in_its_order(self):
        self.patch(engine_outbox, "INTERVAL", 3600.0)
        self.running()
        self.recoveries()
        self.store(delivery())
        eventually(lambda: self.broker.words()[:1] == ["incident.pending"])
        eventually(lambda: self.attempted() and self.broker.words()[-1:] == ["recovery.waiting"])
        self.assertEqual(5, len(self.broker.taken))

    def test_while_the_broker_is_away_instances_are_recovered_all_the_same(self):
        self.broker.is_away = True
        self.running()
        self.recoveries()
        self.store(delivery())
        eventually(lambda: self.attempted() == [("fake", 0, 1, "waiting")])
        self.store(delivery(RUNS, occurred_at=samples.NOON + 1))
        self.eventually_in(IncidentState.RESOLVED)
        eventually(lambda: self.broker.tries > 2, what="it is tried again and again")
        self.assertEqual([], self.broker.taken)
        self.broker.is_away = False
        eventually(lambda: len(self.broker.taken) == 7)
        eventually(lambda: not self.waiting())
        self.assertEqual("incident.resolved", self.broker.words()[-1])

    def test_what_an_engine_that_is_gone_has_left_is_sent(self):
        self.database.run(outbox.insert, [notification("a")])
        self.conf.set_override("keep_seconds", 1 << 40, "notifications")
        self.running()
        eventually(lambda: self.broker.words() == ["incident.open"])

    def test_a_mistake_does_not_end_the_thread(self):
        answers = [ZeroDivisionError("a bug")]
        take = self.broker.send

        def send(sent: Notification) -> None:
            if answers:
                raise answers.pop()
            take(sent)

        self.broker.send = send
        self.running()
        self.store(delivery())
        eventually(lambda: self.broker.words() == ["incident.pending"])

    def test_a_stop_leaves_the_rest_to_others(self):
        going, taken = threading.Event(), threading.Event()
        take = self.broker.send

        def send(sent: Notification) -> None:
            taken.set()
            going.wait(30)
            take(sent)

        self.broker.send = send
        made = self.running()
        self.database.run(outbox.insert, [notification(one, self.clock) for one in "ab"])
        made._writer.written()
        self.assertTrue(taken.wait(30))
        made.stop(0.01)
        going.set()
        made.stop(30)
        self.assertFalse(made._thread._thread.is_alive())
        self.assertEqual(["a"], [one.incident_id for one in self.broker.taken])
        self.assertEqual(["incident.open"], self.waiting())


SETTLE = outbox.settle
