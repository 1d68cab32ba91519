# SPDX-License-Identifier: Apache-2.0
"""From a change of an incident to its notification."""

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
    """Keeps the notifications; raises during an outage."""

    def __init__(self) -> None:
        self.taken: list[Notification] = []
        self.tries = 0
        self.is_away = False
        self.full_after = 1 << 30

    def send(self, sent: Notification) -> None:
        self.tries += 1
        if self.is_away or len(self.taken) >= self.full_after:
            raise Retriable("no answer")
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
        """Return a relay without a thread."""
        made = OutboxRelay(self.conf, database or self.database, lambda conf: self.broker)
        made._sender = self.broker
        (database or self.database).outbox = made._writer
        return made

    def running(self) -> OutboxRelay:
        """Return a relay with a running thread."""
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
    """The notifications that a change writes to the outbox."""

    def test_disabled_notifications_write_nothing(self):
        self.conf.set_override("enabled", False, "notifications")
        self.running().stop(10)
        self.store(delivery())
        self.decide()
        self.assertEqual([], self.waiting())
        self.assertNotIn("outbox-relay", [thread.name for thread in threading.enumerate()])

    def test_successful_recovery_writes_each_change(self):
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

    def test_unsuccessful_recovery_writes_each_change(self):
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

    def test_planned_stop_writes_each_change(self):
        self.writing()
        self.store(delivery())
        self.decide(Verdict(kind=VerdictKind.PLANNED, reason="nova is working on the server"))
        self.assertEqual(["incident.pending", "incident.ignored"], self.waiting())

    def test_change_of_recovery_contains_its_instance(self):
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

    def test_host_incident_writes_notification(self):
        self.writing()
        host = samples.incident(
            kind="host",
            instance=samples.instance(uuid=""),
            cause="agent.late",
            state=IncidentState.UNHANDLED,
        )
        self.database.run(incidents.insert, [host])
        self.assertEqual(["incident.unhandled"], self.waiting())

    def test_transaction_rolled_back_writes_nothing(self):
        self.writing()
        with self.assertRaises(ZeroDivisionError), self.database.writer() as tx:
            incidents.insert(tx, [samples.incident()])
            raise ZeroDivisionError
        self.assertEqual([], self.waiting())

    def test_payload_error_does_not_prevent_recovery(self):
        self.writing()
        self.patch(payloads, "notification", lambda *_: 1 / 0)
        self.store(delivery())
        self.assertIsNotNone(self.decide())
        self.assertEqual([], self.waiting())


class TestSending(OutboxCase):
    """The relay sends and deletes the rows of the outbox."""

    def test_send_deletes_sent_notifications(self):
        sending = self.writing()
        self.store(delivery())
        self.decide()
        written = self.waiting()
        self.assertFalse(sending.send())
        self.assertEqual(written, self.broker.words())
        self.assertEqual([], self.waiting())
        self.assertFalse(sending.send())

    def test_engine_killed_after_send_causes_second_copy(self):
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

    def test_notification_refused_by_broker_keeps_its_place(self):
        sending = self.writing()
        self.store(delivery())
        self.decide()
        written = self.waiting()
        self.broker.full_after = 2
        self.assertRaises(Retriable, sending.send)
        self.assertEqual(written[2:], self.waiting())
        self.broker.full_after = 1 << 30
        # Another engine can send it at once: the lease is released.
        self.writing(self.another()).send()
        self.assertEqual(written, self.broker.words())

    def test_send_stops_before_lease_ends(self):
        sending = self.writing()
        self.store(delivery())
        self.patch(engine_outbox, "LEASE", 0.0)
        self.assertTrue(sending.send())
        self.assertEqual(([], ["incident.pending"]), (self.broker.words(), self.waiting()))

    def test_send_with_more_than_batch_reports_more(self):
        sending = self.writing()
        self.patch(engine_outbox, "BATCH", 3)
        ids = [f"incident-{number}" for number in range(5)]
        self.database.run(outbox.insert, [notification(one) for one in ids])
        self.assertEqual([True, False], [sending.send() for _ in range(2)])
        self.assertEqual(ids, [one.incident_id for one in self.broker.taken])


class TestBounds(OutboxCase):
    def test_drop_beyond_keep_drops_oldest(self):
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

    def test_drop_beyond_keep_seconds_drops_oldest(self):
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

    def test_thread_sends_changes_in_order(self):
        self.patch(engine_outbox, "INTERVAL", 3600.0)
        self.running()
        self.recoveries()
        self.store(delivery())
        eventually(lambda: self.broker.words()[:1] == ["incident.pending"])
        eventually(lambda: self.attempted() and self.broker.words()[-1:] == ["recovery.waiting"])
        self.assertEqual(5, len(self.broker.taken))

    def test_broker_outage_does_not_delay_recovery(self):
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

    def test_rows_of_stopped_engine_are_sent(self):
        self.database.run(outbox.insert, [notification("a")])
        self.conf.set_override("keep_seconds", 1 << 40, "notifications")
        self.running()
        eventually(lambda: self.broker.words() == ["incident.open"])

    def test_thread_continues_after_unexpected_error(self):
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

    def test_stop_leaves_unsent_notifications(self):
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
