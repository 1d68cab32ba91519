# SPDX-License-Identifier: Apache-2.0
"""What is noticed inside an engine becomes events, once, and is kept while it cannot be stored."""

import threading
import unittest
import unittest.mock

from vmmonitor.engine.ingest import local_sources
from vmmonitor.engine.ingest.local_sources import LocalSources
from vmmonitor.model import event as events
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import Reachability, SourceSnapshot
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rules import filters
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.unit.agent.base import PATIENCE, Clock, Rules, raw

STORED = Receipt(status=ReceiptStatus.STORED)


class FakeWriter:
    """Stores in memory; raises ``failing`` as long as it is set."""

    def __init__(self):
        self.batches = []
        self.failing = None
        self.tried = threading.Semaphore(0)

    def store(self, batch, timeout):
        self.tried.release()
        if self.failing:
            raise self.failing
        self.batches.append(batch)
        return [STORED for _ in batch.deliveries]

    def events(self):
        return [one.event for batch in self.batches for one in batch.deliveries]


class ObserverTest(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.ingest = FakeWriter()
        self.rules = Rules()
        self.observer = LocalSources(self.rules, self.ingest.store, 1.0, Clock())

    def start(self):
        self.observer.start()
        self.addCleanup(self.observer.stop, PATIENCE)

    def test_each_host_has_a_batch_of_its_own_and_the_order_stays(self):
        told = [raw(host=host, event_id=str(n)) for n, host in enumerate("aabac")]
        self.observer.store(told)
        self.assertEqual(["a", "b", "a", "c"], [batch.host for batch in self.ingest.batches])
        self.assertEqual(list("01234"), [event.event_id for event in self.ingest.events()])
        self.assertEqual({0}, {event.sequence for event in self.ingest.events()})

    def test_what_has_no_id_and_no_host_gets_one(self):
        self.observer.store([raw(), raw()])
        first, second = self.ingest.events()
        self.assertNotEqual(first.event_id, second.event_id)
        self.assertEqual((36, local_sources.NOWHERE), (len(first.event_id), first.host))

    def test_the_rules_decide_and_a_rule_that_fails_loses_nothing(self):
        self.rules.action = events.IGNORE
        self.observer.store([raw(host="a")])
        self.assertEqual([], self.ingest.batches)
        self.observer.store([raw("x/poison", host="a")])
        (batch,) = self.ingest.batches
        self.assertEqual(filters.UNDECIDED, batch.deliveries[0].decision)

    def test_who_stores_is_told_that_it_failed(self):
        self.ingest.failing = Retriable("away")
        self.assertRaises(Retriable, self.observer.store, [raw(host="a")])

    def test_what_nobody_could_store_spoils_no_other(self):
        self.observer.store([raw(host="a", at=-5), raw(host="a", event_id="b")])
        self.assertEqual(["b"], [event.event_id for event in self.ingest.events()])

    def test_what_cannot_be_stored_now_is_stored_later_with_the_same_id(self):
        self.ingest.failing = Retriable("away")
        with unittest.mock.patch.object(local_sources, "RETRY", 0.01):
            self.start()
            self.observer.observe(raw(host="a"))
            for _ in range(3):
                self.assertTrue(self.ingest.tried.acquire(timeout=PATIENCE))
            self.observer.observe(raw(host="b"))
            self.ingest.failing = None
            eventually(lambda: len(self.ingest.events()) == 2)
        self.assertEqual(["a", "b"], [event.host for event in self.ingest.events()])

    def test_other_words_of_sources_are_no_events_and_a_bug_does_not_end_the_thread(self):
        self.start()
        self.observer.observe(Reachability(source="x", reachable=False, at=1, reason="no"))
        self.observer.observe(Reachability(source="x", reachable=True, at=2))
        self.observer.observe(SourceSnapshot(source="x", started_at=1, why="start", seen=()))
        self.ingest.failing = ZeroDivisionError("a bug")
        self.observer.observe(raw(host="a"))
        self.assertTrue(self.ingest.tried.acquire(timeout=PATIENCE))
        self.ingest.failing = None
        self.observer.observe(raw(host="b"))
        eventually(lambda: [event.host for event in self.ingest.events()] == ["b"])

    def test_a_stop_stores_what_waits(self):
        for host in "abc":
            self.observer.observe(raw(host=host))
        self.observer.start()
        self.observer.stop(PATIENCE)
        self.assertEqual(["a", "b", "c"], [event.host for event in self.ingest.events()])

    def test_a_source_waits_while_too_much_waits_but_not_beyond_a_stop(self):
        with (
            unittest.mock.patch.object(local_sources, "MOST", 2),
            unittest.mock.patch.object(local_sources, "RETRY", 0.01),
        ):
            observer = LocalSources(self.rules, self.ingest.store, 1.0, Clock())
            source = threading.Thread(
                target=lambda: [observer.observe(raw(host="a")) for _ in range(5)], daemon=True
            )
            source.start()
            eventually(lambda: observer._waiting.full())
            self.assertTrue(source.is_alive())
            observer.start()
            source.join(PATIENCE)
            self.assertFalse(source.is_alive())
            observer.stop(PATIENCE)
        self.assertEqual(5, len(self.ingest.events()))
        observer.observe(raw(host="late"))
        self.assertEqual(5, len(self.ingest.events()))
