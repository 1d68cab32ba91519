# SPDX-License-Identifier: Apache-2.0
"""Batches become rows and receipts: once each, in order, and none is lost."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import fixtures
import sqlalchemy as sa
from oslo_db import exception

from vmmonitor.db import connect, events, session
from vmmonitor.model import errors
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import RECORD
from vmmonitor.rpc import event_wire
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import RUNS, UUID, batch, delivery


def record(**fields) -> event_wire.Delivery:
    return delivery("reboot/info", uuid=samples.new_id(), **fields)


class ReceiptsTest(base.EngineCase):
    def test_stored_event_has_times_of_each_stage(self):
        self.clock += 7
        one = delivery()
        self.assertEqual(["stored"], self.store(one))
        (stored,) = self.events()
        self.assertEqual((one.event, one.decision), (stored.event, stored.decision))
        self.assertEqual(self.incident().incident_id, stored.incident_id)
        self.assertEqual(
            (samples.NOON, samples.NOON, self.clock, self.clock),
            (stored.spooled_at, stored.sent_at, stored.received_at, stored.stored_at),
        )

    def test_duplicate_event_gets_receipt_duplicate(self):
        one, other = record(), record()
        self.assertEqual(["stored", "duplicate"], self.store(one, one))
        self.assertEqual(["duplicate", "stored", "duplicate"], self.store(one, other, one))
        self.assertEqual(2, len(self.events()))

    def test_duplicate_event_does_not_change_event_count(self):
        failure, another = delivery(), delivery()
        self.store(failure, another)
        self.assertEqual(["duplicate", "duplicate"], self.store(failure, another))
        self.assertEqual(2, self.incident().event_count)

    def test_duplicate_of_resolved_failure_opens_no_incident(self):
        failure = delivery()
        self.store(failure)
        self.store(delivery(RUNS))
        self.assertEqual(["duplicate"], self.store(failure))
        (incident,) = self.incidents()
        self.assertEqual("resolved", incident.state)

    def test_unreadable_event_is_refused_alone(self):
        answer = self.ingest().store(batch(record(), "an event must be an object", record()), 10)
        self.assertEqual(["stored", "refused", "stored"], [receipt.status for receipt in answer])
        self.assertEqual("an event must be an object", answer[1].reason)

    def test_empty_batch_returns_no_receipts(self):
        self.assertEqual([], self.store())

    def test_two_engines_with_same_batch_store_it_once(self):
        both = [self.ingest(), self.ingest(session.Database(self.conf))]
        for _ in range(20):
            sent = batch(*(delivery(uuid=samples.new_id()) for _ in range(5)))
            with ThreadPoolExecutor(2) as threads:
                answers = list(threads.map(lambda one, sent=sent: one.store(sent, 20), both))
            words = [[receipt.status for receipt in answer] for answer in answers]
            self.assertCountEqual([["stored"] * 5, ["duplicate"] * 5], words)
        self.assertEqual((100, 100), (len(self.events()), len(self.incidents())))
        self.assertEqual({1}, {incident.event_count for incident in self.incidents()})


class CommitSharingTest(base.EngineCase):
    def setUp(self):
        super().setUp()
        self.commits = 0
        self.gate = threading.Event()
        self.entered = threading.Event()
        real = self.database.run

        def run(function, *args, **kwargs):
            self.commits += 1
            self.entered.set()
            self.gate.wait(20)
            return real(function, *args, **kwargs)

        self.database.run = run

    def test_waiting_batches_share_commit_with_own_receipts(self):
        ingest = self.ingest()
        known = record()
        sent = [batch(*([known] if n % 2 else []), *[record()] * (n % 3 + 1)) for n in range(40)]
        with ThreadPoolExecutor(41) as threads:
            first = threads.submit(ingest.store, batch(known), 20)
            self.assertTrue(self.entered.wait(10))
            rest = [threads.submit(ingest.store, one, 20) for one in sent]
            while len(ingest._queue) < 40:
                time.sleep(0.01)
            self.gate.set()
            self.assertEqual(["stored"], [one.status for one in first.result()])
            for number, one in enumerate(rest):
                expected = ["duplicate"] * (number % 2) + ["stored"]
                expected += ["duplicate"] * (number % 3)
                self.assertEqual(expected, [receipt.status for receipt in one.result()])
        # The second commit finds the known event stored already, and is made again without it.
        self.assertLessEqual(self.commits, 3)

    def test_commit_with_enough_events_takes_no_further_batch(self):
        ingest = self.ingest(commit_events=10)
        with ThreadPoolExecutor(9) as threads:
            calls = [threads.submit(ingest.store, batch(record()), 20)]
            self.assertTrue(self.entered.wait(10))
            calls += [
                threads.submit(ingest.store, batch(*(record() for _ in range(5))), 20)
                for _ in range(8)
            ]
            while len(ingest._queue) < 8:
                time.sleep(0.01)
            self.gate.set()
            for call in calls:
                call.result()
        self.assertEqual((1 + 4, 41), (self.commits, len(self.events())))

    def test_store_after_timeout_raises_and_stores_nothing(self):
        ingest = self.ingest()
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(ingest.store, batch(record()), 20)
            self.assertTrue(self.entered.wait(10))
            late = record()
            with self.assertRaisesRegex(Retriable, "took too long"):
                ingest.store(batch(late), 0.05)
            self.gate.set()
            first.result()
        self.assertEqual(["stored"], [one.status for one in ingest.store(batch(late), 10)])
        self.assertEqual(2, len(self.events()))

    def test_stop_stores_waiting_batches(self):
        ingest = self.ingest()
        with ThreadPoolExecutor(3) as threads:
            calls = [threads.submit(ingest.store, batch(record()), 20)]
            self.assertTrue(self.entered.wait(10))
            calls += [threads.submit(ingest.store, batch(record()), 20) for _ in range(2)]
            while len(ingest._queue) < 2:
                time.sleep(0.01)
            threading.Timer(0.1, self.gate.set).start()
            ingest.stop(10)
            self.assertEqual(3, len(self.events()))
            for call in calls:
                call.result()


class BadEventTest(base.EngineCase):
    def poison(self, *event_ids):
        """Have the database refuse these events."""
        real, self.inserts = events.insert, 0

        def insert(tx, stored):
            self.inserts += 1
            if {each.event.event_id for each in stored} & set(event_ids):
                raise ValueError("no such character")
            real(tx, stored)

        self.useFixture(fixtures.MonkeyPatch("vmmonitor.db.events.insert", insert))

    def test_bad_event_in_batch_is_refused_alone(self):
        sent = [record() for _ in range(64)]
        self.poison(sent[40].event.event_id)
        answer = self.ingest().store(batch(*sent), 20)
        words = [receipt.status for receipt in answer]
        self.assertEqual(["stored"] * 40 + ["refused"] + ["stored"] * 23, words)
        self.assertIn("no such character", answer[40].reason)
        self.assertEqual(63, len(self.events()))
        self.assertLess(self.inserts, 20, "it is looked for by halves")

    def test_bad_event_opens_no_incident(self):
        bad, good = delivery(), delivery(uuid=samples.new_id())
        self.poison(bad.event.event_id)
        self.assertEqual(["refused", "stored"], self.store(bad, good))
        (incident,) = self.incidents()
        self.assertEqual(good.event.instance, incident.instance)

    def test_events_around_bad_event_keep_their_order(self):
        bad = delivery("watchdog/pause")
        self.poison(bad.event.event_id)
        self.assertEqual(
            ["stored", "refused", "stored"], self.store(delivery(), bad, delivery(RUNS))
        )
        self.assertEqual(("resolved", 2), (self.incident().state, self.incident().event_count))

    def test_bad_event_does_not_affect_other_batches(self):
        bad = record()
        self.poison(bad.event.event_id)
        ingest = self.ingest()
        with ThreadPoolExecutor(8) as threads:
            calls = [threads.submit(ingest.store, batch(record(), bad), 20) for _ in range(4)]
            calls += [threads.submit(ingest.store, batch(record()), 20) for _ in range(4)]
        words = [[receipt.status for receipt in call.result()] for call in calls]
        self.assertEqual([["stored", "refused"]] * 4 + [["stored"]] * 4, words)

    def test_database_without_table_refuses_no_event(self):
        """As after a failover to a replica: an agent deletes an event that was refused."""
        sent = [record() for _ in range(3)]
        with self.database.writer() as tx:
            tx.execute(sa.text("ALTER TABLE events RENAME TO elsewhere"))
        ingest = self.ingest()
        with self.assertRaisesRegex(Retriable, "no event can be stored"):
            ingest.store(batch(*sent), 20)
        with self.database.writer() as tx:
            tx.execute(sa.text("ALTER TABLE elsewhere RENAME TO events"))
        self.assertEqual(["stored"] * 3, [one.status for one in ingest.store(batch(*sent), 10)])

    def test_probe_of_database_stores_nothing(self):
        bad = record()
        self.poison(bad.event.event_id)
        self.assertEqual(["refused"], self.store(bad))
        self.assertEqual(([], []), (self.events(), self.incidents()))

    def test_database_outage_during_bisection_ends_it(self):
        sent = [record() for _ in range(32)]
        self.poison(sent[0].event.event_id)
        real, calls = self.database.run, []

        def run(function, *args):
            calls.append(function)
            if len(calls) > 2:
                raise Retriable("the database is away")
            return real(function, *args)

        self.database.run = run
        with self.assertRaisesRegex(Retriable, "away"):
            self.ingest().store(batch(*sent), 20)
        self.assertEqual(3, len(calls))


class OutageTest(base.EngineCase):
    def test_store_without_database_raises_retriable(self):
        sent = [batch(delivery(uuid=samples.new_id())) for _ in range(6)]
        ingest = self.ingest()
        away = mock.patch.object(self.database, "run", side_effect=Retriable("away"))
        with away, ThreadPoolExecutor(6) as threads:
            calls = [threads.submit(ingest.store, one, 20) for one in sent]
            for call in calls:
                self.assertIsInstance(call.exception(), Retriable)
        self.assertEqual([], self.events())
        for one in sent:
            self.assertEqual(["stored"], [receipt.status for receipt in ingest.store(one, 10)])
        self.assertEqual((6, 6), (len(self.events()), len(self.incidents())))

    def lose_commits(self, count: int) -> None:
        """Have the connection break after the database committed, so many times."""
        left = [count]

        def commit(connection):
            if left[0] and connection.get_execution_options().get(connect.WRITER):
                left[0] -= 1
                connection.connection.commit()
                raise exception.DBConnectionError(OSError("server has gone away"))

        sa.event.listen(self.database.engine, "commit", commit)
        self.addCleanup(sa.event.remove, self.database.engine, "commit", commit)

    def test_connection_lost_after_commit_returns_duplicates(self):
        one, other = delivery(), delivery("io_error/pause")
        self.lose_commits(1)
        words = self.store(one, other)
        self.assertEqual(["duplicate", "duplicate"], words)
        self.assertEqual((2, 2), (len(self.events()), self.incident().event_count))
        self.assertEqual(2, len(self.line()))

    def test_batch_repeated_after_lost_commit_is_duplicate(self):
        one, other = delivery(), delivery("io_error/pause")
        self.lose_commits(1)
        tried_once = mock.patch.object(self.database, "run", self.once)
        with tried_once, self.assertRaises(Retriable):
            self.ingest().store(batch(one, other), 10)
        self.assertEqual(["duplicate", "duplicate"], self.store(one, other))
        self.assertEqual(2, self.incident().event_count)

    def once(self, function, *args):
        with self.database.writer() as tx:
            return function(tx, *args)

    def test_repeated_conflicts_raise_retriable(self):
        races = mock.patch.object(self.database, "run", side_effect=errors.Conflict())
        with races, self.assertRaisesRegex(Retriable, "conflicts with other engines"):
            self.ingest().store(batch(record()), 20)

    def test_store_without_engine_clock_raises_retriable(self):
        away = mock.patch.object(self.database, "now", side_effect=Retriable("away"))
        with away, self.assertRaises(Retriable):
            self.ingest().store(batch(record()), 20)


class RecoveryQueueTest(base.EngineCase):
    def test_recovery_queue_gets_incidents_after_commit(self):
        seen = []
        queue = base.FakeRecoveryQueue()
        queue.enqueue = lambda held: seen.append((held, self.incidents()))
        ingest = self.ingest(recovery_queue=queue)
        ingest.store(batch(delivery(uuid=UUID)), 10)
        ingest.stop(10)
        ((held, stored),) = seen
        self.assertEqual(stored, held)

    def test_recorded_event_is_stored_without_incident(self):
        self.store(delivery("lifecycle.stopped/destroyed", action=RECORD))
        (stored,) = self.events()
        self.assertIsNone(stored.incident_id)
        self.assertEqual([], self.incidents())
