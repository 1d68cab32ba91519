# SPDX-License-Identifier: Apache-2.0
"""Forwarding the spool in order, each event until it has a receipt."""

import testtools

from vmmonitor import conf as configuration
from vmmonitor.agent.forwarder import Forwarder
from vmmonitor.agent.signals import StatusChanges
from vmmonitor.agent.spool import SpoolUnavailable
from vmmonitor.model.errors import InvalidMessage, Retriable
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.unit.agent.base import PATIENCE, Clock, Engine, MemorySpool

AWAY = Retriable("no answer in time")


class ForwarderTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.conf = configuration.new([], files=[])
        self.conf.set_override("retry_min", 0.01, "forwarder")
        self.conf.set_override("retry_max", 0.1, "forwarder")
        self.spool = MemorySpool()
        self.troubles = []
        self.changes = StatusChanges()
        self.changes.subscribe(self)

    def check_status(self):
        self.troubles.append(self.forwarder.trouble)

    def forward(self, *answers):
        """Start a forwarder to an engine with these answers."""
        self.engine = Engine(*answers)
        self.forwarder = Forwarder(
            conf=self.conf,
            spool=self.spool,
            engine=self.engine,
            changes=self.changes,
            now=Clock(),
        )
        self.forwarder.start()
        self.addCleanup(self.forwarder.stop, PATIENCE)

    def wait_until_empty(self):
        eventually(lambda: self.spool.depth == 0, PATIENCE)

    def test_start_sends_the_events_of_an_earlier_run_in_order_and_batches(self):
        self.conf.set_override("batch_size", 2, "forwarder")
        self.spool.put(*"abcde")
        self.forward()
        self.wait_until_empty()
        self.assertEqual([["a", "b"], ["c", "d"], ["e"]], self.engine.batches)

    def test_new_event_is_sent_after_wake(self):
        self.forward()
        self.spool.put("a")
        self.assertEqual([], self.engine.batches)
        self.forwarder.wake()
        self.wait_until_empty()

    def test_batch_is_sent_again_until_it_has_receipts(self):
        def lost(batch):
            self.engine._store(batch)
            raise AWAY

        self.spool.put("a", "b")
        self.forward(AWAY, lost, AWAY)
        self.wait_until_empty()
        self.assertEqual([["a", "b"]] * 4, self.engine.batches)
        self.assertEqual(["a", "b"], self.engine.stored)
        eventually(lambda: not self.forwarder.trouble)
        self.assertIn("no answer in time", self.troubles)

    def test_invalid_answers_remove_no_event(self):
        stored = Receipt(status=ReceiptStatus.STORED)
        self.spool.put("a", "b")
        self.forward(
            InvalidMessage("the answer does not have one receipt per event"),
            lambda _: [stored],
            lambda _: [stored] * 3,
            lambda _: None,
            lambda _: ["garbage", "garbage"],
            ZeroDivisionError("a bug"),
        )
        self.wait_until_empty()
        self.assertEqual([["a", "b"]] * 7, self.engine.batches)

    def test_refused_event_is_quarantined_and_blocks_no_other(self):
        self.spool.put("a", "b", "c")
        refusal = Receipt(status=ReceiptStatus.REFUSED, reason="too strange")
        stored = Receipt(status=ReceiptStatus.STORED)
        self.forward(lambda _: [stored, refusal, stored])
        self.wait_until_empty()
        self.assertEqual({2: "too strange"}, self.spool.refused)

    def test_batch_that_is_never_accepted_stays_and_keeps_its_order(self):
        self.conf.set_override("batch_size", 2, "forwarder")
        self.spool.put("poison", "b", "c")
        self.forward(*[Retriable("DataError")] * 1000)
        for _ in range(10):
            self.assertEqual(["poison", "b"], self.engine.called.get(timeout=PATIENCE))
        self.assertEqual(("DataError", 3), (self.forwarder.trouble, self.spool.depth))

    def test_batch_is_sent_again_if_its_receipt_cannot_be_stored(self):
        def broken_now(batch):
            self.spool.failing = SpoolUnavailable("the disk is gone")
            return self.engine._store(batch)

        self.spool.put("a")
        self.forward(broken_now)
        self.engine.called.get(timeout=PATIENCE)
        eventually(lambda: self.forwarder.trouble == "the disk is gone")
        self.spool.failing = None
        self.wait_until_empty()
        self.assertEqual(["a"], self.engine.stored)
        self.assertLess(1, len(self.engine.batches))

    def test_retry_interval_grows_exponentially_with_jitter(self):
        self.conf.set_override("retry_min", 0.5, "forwarder")
        self.conf.set_override("retry_max", 8.0, "forwarder")
        self.forward()
        attempts = self.forwarder._attempts()

        class State:
            attempt_number = 0

        for number, most in ((1, 0.5), (2, 1), (3, 2), (5, 8), (10, 8), (100_000, 8)):
            State.attempt_number = number
            waits = [attempts.wait(State) for _ in range(50)]
            self.assertGreaterEqual(min(waits), 0.5)
            self.assertLessEqual(max(waits), most)
        self.assertLess(20, len(set(waits)), "no jitter")

    def test_stop_ends_a_long_wait_and_keeps_the_unsent_events(self):
        self.conf.set_override("retry_min", 60, "forwarder")
        self.conf.set_override("retry_max", 3600, "forwarder")
        self.spool.put("a")
        self.forward(*[AWAY] * 9)
        eventually(lambda: self.forwarder.trouble)
        self.forwarder.stop(PATIENCE)
        self.assertEqual((1, 1), (self.spool.depth, len(self.engine.batches)))

    def test_thread_survives_unexpected_errors(self):
        self.spool.put("a")
        self.forward(AWAY)
        self.engine.called.get(timeout=PATIENCE)
        self.wait_until_empty()

        def bug():
            self.forwarder._attempts = attempts
            raise ZeroDivisionError("a bug")

        attempts, self.forwarder._attempts = self.forwarder._attempts, bug
        self.spool.put("b")
        self.forwarder.wake()
        eventually(lambda: self.forwarder.trouble == "ZeroDivisionError: a bug")
        self.wait_until_empty()
        self.assertEqual(["a", "b"], self.engine.stored)
