# SPDX-License-Identifier: Apache-2.0
"""Which thread has which incident in hand."""

import threading
import time
import unittest

from vmmonitor.engine.workers import Workers

SOON = 10.0


class WorkersTest(unittest.TestCase):
    def setUp(self) -> None:
        self.go_on = threading.Event()
        self.addCleanup(self.go_on.set)
        self.freed = threading.Event()

    def workers(self, count: int = 2, pause: float = 60.0) -> Workers:
        return Workers(count, pause, freed=self.freed.set)

    def hang(self) -> bool:
        return self.go_on.wait(SOON)

    def test_an_incident_is_in_one_hand(self) -> None:
        workers = self.workers()
        self.assertTrue(workers.take("a", self.hang))
        self.assertFalse(workers.take("a", self.hang))
        self.assertEqual(1, len(workers))

    def test_no_more_than_so_many(self) -> None:
        workers = self.workers()
        taken = [workers.take(incident_id, self.hang) for incident_id in "abc"]
        self.assertEqual([True, True, False], taken)

    def test_what_went_well_may_come_again_at_once(self) -> None:
        workers = self.workers()
        workers.take("a", self.hang)
        self.assertFalse(workers.take("a", self.hang))
        self.go_on.set()
        self.assertTrue(self.freed.wait(SOON))
        self.assertEqual(0, len(workers))
        self.assertTrue(workers.take("a", self.hang))

    def test_what_went_wrong_is_left_alone_for_a_while(self) -> None:
        workers = self.workers(count=1, pause=0.2)
        workers.take("a", lambda: not self.hang())
        self.assertFalse(workers.take("b", self.hang))
        self.go_on.set()
        self.assertTrue(self.freed.wait(SOON))
        self.assertFalse(workers.take("a", self.hang))
        self.assertEqual(1, len(workers))
        self.assertTrue(workers.take("b", lambda: True), "the thread is free for others")
        time.sleep(0.25)
        self.assertEqual(0, len(workers))
        self.assertTrue(workers.take("a", self.hang))

    def test_what_hangs_may_be_given_up_and_its_end_disturbs_nobody(self) -> None:
        workers = self.workers(count=2)
        self.assertTrue(workers.take("a", self.hang))
        workers.let_go("a")
        second = threading.Event()
        self.addCleanup(second.set)
        self.assertTrue(workers.take("a", lambda: second.wait(SOON)))
        self.assertFalse(workers.take("b", self.hang), "a lost thread is a thread")
        self.go_on.set()
        self.assertTrue(self.freed.wait(SOON))
        self.assertFalse(workers.take("a", self.hang), "the second one has it")

    def test_it_stops_when_all_is_done(self) -> None:
        workers = self.workers()
        workers.take("a", self.hang)
        self.assertFalse(workers.stop(time.monotonic() + 0.05))
        self.assertFalse(workers.take("b", self.hang))
        self.go_on.set()
        self.assertTrue(workers.stop(time.monotonic() + SOON))
