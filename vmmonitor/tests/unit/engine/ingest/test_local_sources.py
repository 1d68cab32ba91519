# SPDX-License-Identifier: Apache-2.0
"""Events that are made inside an engine are filtered, and stored exactly once."""

import threading
import unittest
import unittest.mock

from oslo_config import cfg

from vmmonitor.engine.ingest import local_events, local_sources
from vmmonitor.engine.ingest.local_events import LocalEvents
from vmmonitor.engine.ingest.local_sources import LocalSources
from vmmonitor.model import event as events
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import Reachability, SourceSnapshot
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rules import filters
from vmmonitor.testing.builders import id_of
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.unit.agent.base import PATIENCE, Clock, Rules, raw

STORED = Receipt(status=ReceiptStatus.STORED)


class FakeWriter:
    """Stores batches in memory; raises ``failing`` as long as it is set."""

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
        return [delivery.event for batch in self.batches for delivery in batch.deliveries]


class LocalCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.writer = FakeWriter()
        self.rules = Rules()
        self.local_events = LocalEvents(
            filters=self.rules, writer=self.writer, store_timeout=1.0, now=Clock()
        )


class LocalEventsTest(LocalCase):
    def test_store_events_of_several_hosts_keeps_their_order(self):
        raws = [raw(host=host, event_id=id_of(str(n))) for n, host in enumerate("aabac")]
        self.local_events.store(raws)
        self.assertEqual(["a", "b", "a", "c"], [batch.host for batch in self.writer.batches])
        self.assertEqual(
            [id_of(each) for each in "01234"], [event.event_id for event in self.writer.events()]
        )
        self.assertEqual({0}, {event.sequence for event in self.writer.events()})

    def test_store_event_without_id_and_host_sets_both(self):
        self.local_events.store([raw(), raw()])
        first, second = self.writer.events()
        self.assertNotEqual(first.event_id, second.event_id)
        self.assertEqual((36, local_events.UNKNOWN_HOST), (len(first.event_id), first.host))

    def test_store_event_ignored_by_filter_stores_nothing(self):
        self.rules.action = events.IGNORE
        self.local_events.store([raw(host="a")])
        self.assertEqual([], self.writer.batches)

    def test_store_event_with_failing_filter_records_it(self):
        self.local_events.store([raw("x/poison", host="a")])
        (batch,) = self.writer.batches
        self.assertEqual(filters.FILTER_FAILED, batch.deliveries[0].decision)

    def test_store_without_database_raises_retriable(self):
        self.writer.failing = Retriable("away")
        self.assertRaises(Retriable, self.local_events.store, [raw(host="a")])

    def test_store_invalid_event_drops_only_that_one(self):
        self.local_events.store([raw(host="a", at=-5), raw(host="a", event_id=id_of("b"))])
        self.assertEqual([id_of("b")], [event.event_id for event in self.writer.events()])


class LocalSourcesTest(LocalCase):
    def sources(self):
        return LocalSources(cfg.ConfigOpts(), {}, self.local_events)

    def started(self):
        sources = self.sources()
        sources.start()
        self.addCleanup(sources.stop, PATIENCE)
        return sources

    def test_observe_without_database_stores_event_later_with_same_id(self):
        self.writer.failing = Retriable("away")
        with unittest.mock.patch.object(local_sources, "RETRY_INTERVAL", 0.01):
            sources = self.started()
            sources.observe(raw(host="a"))
            for _ in range(3):
                self.assertTrue(self.writer.tried.acquire(timeout=PATIENCE))
            sources.observe(raw(host="b"))
            self.writer.failing = None
            eventually(lambda: len(self.writer.events()) == 2)
        self.assertEqual(["a", "b"], [event.host for event in self.writer.events()])

    def test_observe_other_observations_stores_no_event(self):
        sources = self.started()
        sources.observe(Reachability(source="x", reachable=False, at=1, reason="no"))
        sources.observe(Reachability(source="x", reachable=True, at=2))
        sources.observe(SourceSnapshot(source="x", started_at=1, why="start", seen=()))
        sources.observe(raw(host="a"))
        eventually(lambda: [event.host for event in self.writer.events()] == ["a"])

    def test_observe_after_unexpected_error_stores_later_events(self):
        sources = self.started()
        self.writer.failing = ZeroDivisionError("a bug")
        sources.observe(raw(host="a"))
        self.assertTrue(self.writer.tried.acquire(timeout=PATIENCE))
        self.writer.failing = None
        sources.observe(raw(host="b"))
        eventually(lambda: [event.host for event in self.writer.events()] == ["b"])

    def test_stop_with_queued_events_stores_them(self):
        sources = self.sources()
        for host in "abc":
            sources.observe(raw(host=host))
        sources.start()
        sources.stop(PATIENCE)
        self.assertEqual(["a", "b", "c"], [event.host for event in self.writer.events()])

    def test_observe_with_full_queue_waits_for_thread(self):
        with (
            unittest.mock.patch.object(local_sources, "MAX_QUEUED", 2),
            unittest.mock.patch.object(local_sources, "RETRY_INTERVAL", 0.01),
        ):
            sources = self.sources()
            source = threading.Thread(
                target=lambda: [sources.observe(raw(host="a")) for _ in range(5)], daemon=True
            )
            source.start()
            eventually(lambda: len(sources._queue) == 2)
            self.assertTrue(source.is_alive())
            sources.start()
            source.join(PATIENCE)
            self.assertFalse(source.is_alive())
            sources.stop(PATIENCE)
        self.assertEqual(5, len(self.writer.events()))

    def test_observe_after_stop_drops_observation(self):
        sources = self.sources()
        sources.start()
        sources.stop(PATIENCE)
        sources.observe(raw(host="late"))
        self.assertEqual([], self.writer.events())
