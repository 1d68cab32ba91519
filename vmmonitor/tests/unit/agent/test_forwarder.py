# SPDX-License-Identifier: Apache-2.0
"""The spool is emptied in order, each event until it has a receipt, whatever the engine does."""

import testtools

from vmmonitor import conf as configuration
from vmmonitor.agent.forwarder import Forwarder
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

    def forward(self, *answers):
        """Start a forwarder to an engine that answers so."""
        self.engine = Engine(*answers)
        self.forwarder = Forwarder(
            self.conf,
            self.spool,
            self.engine,
            lambda: self.troubles.append(self.forwarder.trouble),
            Clock(),
        )
        self.forwarder.start()
        self.addCleanup(self.forwarder.stop, PATIENCE)

    def emptied(self):
        eventually(lambda: self.spool.depth == 0, PATIENCE)

    def test_what_an_earlier_life_left_is_sent_at_once_in_order_and_batches(self):
        self.conf.set_override("batch_size", 2, "forwarder")
        self.spool.put(*"abcde")
        self.forward()
        self.emptied()
        self.assertEqual([["a", "b"], ["c", "d"], ["e"]], self.engine.batches)

    def test_it_sleeps_until_it_is_woken(self):
        self.forward()
        self.spool.put("a")
        self.assertEqual([], self.engine.batches)
        self.forwarder.wake()
        self.emptied()

    def test_a_batch_is_sent_again_until_it_has_receipts(self):
        def lost(batch):
            self.engine._store(batch)
            raise AWAY

        self.spool.put("a", "b")
        self.forward(AWAY, lost, AWAY)
        self.emptied()
        self.assertEqual([["a", "b"]] * 4, self.engine.batches)
        self.assertEqual(["a", "b"], self.engine.stored)
        eventually(lambda: not self.forwarder.trouble)
        self.assertIn("no answer in time", self.troubles)

    def test_answers_that_make_no_sense_forget_nothing(self):
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
        self.emptied()
        self.assertEqual([["a", "b"]] * 7, self.engine.batches)

    def test_what_is_refused_is_set_aside_and_holds_up_nothing(self):
        self.spool.put("a", "b", "c")
        refusal = Receipt(status=ReceiptStatus.REFUSED, reason="too strange")
        stored = Receipt(status=ReceiptStatus.STORED)
        self.forward(lambda _: [stored, refusal, stored])
        self.emptied()
        self.assertEqual({2: "too strange"}, self.spool.refused)

    def test_a_batch_that_is_never_taken_stays_and_nothing_overtakes_it(self):
        self.conf.set_override("batch_size", 2, "forwarder")
        self.spool.put("poison", "b", "c")
        self.forward(*[Retriable("DataError")] * 1000)
        for _ in range(10):
            self.assertEqual(["poison", "b"], self.engine.called.get(timeout=PATIENCE))
        self.assertEqual(("DataError", 3), (self.forwarder.trouble, self.spool.depth))

    def test_a_receipt_that_cannot_be_kept_means_that_it_is_sent_again(self):
        def broken_now(batch):
            self.spool.failing = SpoolUnavailable("the disk is gone")
            return self.engine._store(batch)

        self.spool.put("a")
        self.forward(broken_now)
        self.engine.called.get(timeout=PATIENCE)
        eventually(lambda: self.forwarder.trouble == "the disk is gone")
        self.spool.failing = None
        self.emptied()
        self.assertEqual(["a"], self.engine.stored)
        self.assertLess(1, len(self.engine.batches))

    def test_it_tries_ever_more_rarely_with_jitter(self):
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

    def test_a_stop_ends_a_long_wait_and_keeps_what_was_not_sent(self):
        self.conf.set_override("retry_min", 60, "forwarder")
        self.conf.set_override("retry_max", 3600, "forwarder")
        self.spool.put("a")
        self.forward(*[AWAY] * 9)
        eventually(lambda: self.forwarder.trouble)
        self.forwarder.stop(PATIENCE)
        self.assertFalse(self.forwarder._thread.is_alive())
        self.assertEqual((1, 1), (self.spool.depth, len(self.engine.batches)))

    def test_no_error_ends_the_thread(self):
        self.spool.put("a")
        self.forward(AWAY)
        self.engine.called.get(timeout=PATIENCE)
        self.emptied()

        def bug():
            self.forwarder._attempts = attempts
            raise ZeroDivisionError("a bug")

        attempts, self.forwarder._attempts = self.forwarder._attempts, bug
        self.spool.put("b")
        self.forwarder.wake()
        eventually(lambda: self.forwarder.trouble == "ZeroDivisionError: a bug")
        self.forwarder._stopping.wait = lambda _: None
        self.emptied()
        self.assertEqual(["a", "b"], self.engine.stored)
