# SPDX-License-Identifier: Apache-2.0
"""Which thread has which incident in hand."""

import threading
import time
import unittest
from unittest import mock

from vmmonitor.engine.recovery import workers
from vmmonitor.model.errors import Conflict, Retriable
from vmmonitor.testing.deadline import eventually

SOON = 10.0


class WorkersTest(unittest.TestCase):
    def setUp(self) -> None:
        self.go_on = threading.Event()
        self.addCleanup(self.go_on.set)
        self.wake = mock.Mock()
        self.done: list[str] = []

    def workers(self, count: int = 2, pause: float = 60.0) -> workers.Workers:
        return workers.Workers(count, pause, self.wake)

    def hang(self) -> bool:
        self.done.append("began")
        return not self.go_on.wait(SOON)

    def note(self, what: str, more: bool = False):
        def work() -> bool:
            self.done.append(what)
            return more

        return work

    def test_an_incident_is_in_one_hand(self) -> None:
        made = self.workers()
        made.submit("a", self.hang)
        eventually(lambda: self.done)
        made.submit("a", self.note("again"))
        self.assertEqual(1, len(made))
        eventually(lambda: self.done)
        self.go_on.set()
        self.assertTrue(made.stop(time.monotonic() + SOON))
        self.assertEqual(["began"], self.done)

    def test_no_more_than_so_many_at_once_and_the_others_in_their_order(self) -> None:
        made = self.workers(count=2)
        for incident_id in "ab":
            made.submit(incident_id, self.hang)
        eventually(lambda: len(self.done) == 2)
        for incident_id in "cde":
            made.submit(incident_id, self.note(incident_id))
        self.assertEqual((5, 2), (len(made), len(self.done)))
        made.release("b")
        self.go_on.set()
        eventually(lambda: not len(made))
        self.assertCountEqual(["began", "began", "c", "d", "e"], self.done)

    def test_what_is_too_much_is_looked_for_when_there_is_room(self) -> None:
        made = self.workers(count=1)
        made.submit("a", self.hang)
        eventually(lambda: self.done)
        with mock.patch.object(workers, "AHEAD", 3):
            for incident_id in "bcde":
                made.submit(incident_id, self.note(incident_id))
        self.assertEqual((3, 0), (len(made), self.wake.set.call_count))
        self.go_on.set()
        eventually(lambda: not len(made))
        self.assertEqual(["began", "b", "c"], self.done)
        eventually(lambda: self.wake.set.call_count)

    def test_what_ranks_first_is_done_first(self) -> None:
        made = self.workers(count=1)
        made.submit("a", self.hang)
        eventually(lambda: self.done)
        ranks = {"b": (0, 2), "c": (0, 1), "d": (-5, 9), "e": (0, 1), "f": (-5, 9)}
        for incident_id, rank in ranks.items():
            made.submit(incident_id, self.note(incident_id), rank)
        self.go_on.set()
        eventually(lambda: not len(made))
        self.assertEqual(["began", "d", "f", "c", "e", "b"], self.done)

    def test_where_there_is_no_room_the_last_goes_for_what_ranks_before(self) -> None:
        made = self.workers(count=1)
        made.submit("a", self.hang)
        eventually(lambda: self.done)
        with mock.patch.object(workers, "AHEAD", 3):
            for incident_id, place in (("b", 1), ("c", 2), ("d", 2), ("e", 0)):
                made.submit(incident_id, self.note(incident_id), (0, place))
            made.submit("c", self.note("c again"), (-1, 0))
        self.go_on.set()
        eventually(lambda: not len(made))
        self.assertEqual(["began", "c again", "e"], self.done)
        eventually(lambda: self.wake.set.call_count)

    def test_a_look_needs_a_reason(self) -> None:
        made = self.workers()
        made.submit("a", self.note("a"))
        eventually(lambda: not len(made))
        self.assertEqual(0, self.wake.set.call_count)
        made.submit("a", self.note("a", more=True))
        eventually(lambda: self.wake.set.call_count == 1)

    def test_what_went_wrong_is_left_alone_for_a_while(self) -> None:
        for error in (Conflict(), Retriable(), ValueError("odd")):
            with self.subTest(error=error):
                work = mock.Mock(side_effect=error)
                made = self.workers(count=1, pause=0.2)
                made.submit("a", work)
                eventually(lambda work=work: work.called)
                made.submit("a", work)
                self.assertEqual(1, len(made))
                made.submit("b", self.note("b"))
                eventually(lambda: "b" in self.done)
                eventually(lambda made=made: not len(made))
                made.submit("a", self.note("well"))
                eventually(lambda: "well" in self.done)
                self.assertEqual(1, work.call_count)
                self.done.clear()

    def test_what_hangs_may_be_given_up_and_its_end_disturbs_nobody(self) -> None:
        made = self.workers(count=2)
        made.submit("a", self.hang)
        eventually(lambda: self.done)
        made.release("a")
        second = threading.Event()
        self.addCleanup(second.set)
        made.submit("a", lambda: not second.wait(SOON))
        self.go_on.set()
        eventually(lambda: made._threads == 1)
        made.submit("a", self.note("third"))
        self.assertEqual((1, ["began"]), (len(made), self.done))

    def test_a_stop_begins_nothing_and_says_whether_all_is_done(self) -> None:
        made = self.workers(count=1)
        made.submit("a", self.hang)
        made.submit("b", self.note("b"))
        eventually(lambda: self.done)
        self.assertFalse(made.stop(time.monotonic() + 0.05))
        made.submit("c", self.note("c"))
        self.go_on.set()
        self.assertTrue(made.stop(time.monotonic() + SOON))
        self.assertEqual(["began"], self.done)
