# SPDX-License-Identifier: Apache-2.0
"""How often, how patiently, and in which order."""

import math
import unittest

from vmmonitor.db.limits import Acted, Waiting
from vmmonitor.engine.admission.limits import called_up, flapping, full, over_budget, spell
from vmmonitor.model.incident import HoldReason

SECOND = 1_000_000
MINUTE = 60 * SECOND
NOW = 1_700_000_000 * SECOND
HOUR = 3600.0


def acted(*minutes_ago: float) -> list[Acted]:
    """Incidents that were acted upon so long ago, each for 10 s."""
    called = [NOW - round(minutes * MINUTE) for minutes in sorted(minutes_ago, reverse=True)]
    return [
        Acted(incident_id=str(number), called_at=at, ended_at=at + 10 * SECOND)
        for number, at in enumerate(called)
    ]


class TestBudget(unittest.TestCase):
    def test_so_many_are_allowed(self):
        self.assertIsNone(over_budget(acted(1, 2), 3, HOUR, NOW))
        self.assertIsNone(over_budget(acted(), 1, HOUR, NOW))

    def test_one_more_waits_until_the_oldest_is_long_enough_ago(self):
        refusal = over_budget(acted(1, 2, 50), 3, HOUR, NOW)
        self.assertEqual(("hold", HoldReason.BUDGET), (refusal.move, refusal.held_by))
        self.assertEqual(NOW + 10 * MINUTE, refusal.until)
        self.assertIn("3 times within 60 minutes", refusal.reason)
        self.assertIsNone(over_budget(acted(1 + 10, 2 + 10, 50 + 10), 3, HOUR, NOW))

    def test_after_the_budget_was_cut_more_than_one_must_be_long_ago(self):
        refusal = over_budget(acted(10, 20, 30, 40), 2, HOUR, NOW)
        self.assertEqual(NOW + 40 * MINUTE, refusal.until)

    def test_what_is_long_ago_does_not_count(self):
        self.assertIsNone(over_budget(acted(1, 61, 62), 2, HOUR, NOW))

    def test_nothing_and_everything(self):
        refusal = over_budget([], 0, HOUR, NOW)
        self.assertEqual(NOW + 60 * MINUTE, refusal.until)
        self.assertIn("no recovery at all", refusal.reason)
        self.assertIsNone(over_budget(acted(*range(1, 50)), -1, HOUR, NOW))

    def test_once(self):
        self.assertIn("recovered once within 60 s", over_budget(acted(0.5), 1, 60, NOW).reason)


class TestFlapping(unittest.TestCase):
    def flapping(self, *minutes_ago, window=HOUR, backoff=30.0, most=600.0):
        return flapping(acted(*minutes_ago), NOW, window, backoff, most, NOW)

    def test_the_first_two_do_not_wait(self):
        self.assertIsNone(self.flapping())
        self.assertIsNone(self.flapping(0))

    def test_the_third_waits_after_the_end_of_the_second(self):
        refusal = self.flapping(0.5, 12)
        self.assertEqual(("hold", HoldReason.FLAPPING), (refusal.move, refusal.held_by))
        self.assertEqual(NOW + 10 * SECOND, refusal.until)
        self.assertEqual("it failed 3 times in 12 minutes: waits 30 s", refusal.reason)
        self.assertIsNone(self.flapping(40 / 60, 12))

    def test_each_further_one_waits_twice_as_long_up_to_a_limit(self):
        for earlier, wait in ((2, 30), (3, 60), (4, 120), (6, 480), (7, 600), (500, 600)):
            with self.subTest(earlier=earlier):
                refusal = self.flapping(*[0] * earlier)
                self.assertEqual(NOW + (10 + wait) * SECOND, refusal.until)

    def test_what_is_long_ago_is_forgiven(self):
        self.assertIsNone(self.flapping(0, 61, 62))

    def test_without_a_window_or_a_backoff_nothing_flaps(self):
        self.assertIsNone(self.flapping(0, 0, 0, window=0))
        self.assertIsNone(self.flapping(1, 1, 1, backoff=0))


class TestWords(unittest.TestCase):
    def test_of_times(self):
        told = [spell(seconds) for seconds in (-1, 0, 30, 119, 120, 3600, 7200, 86400)]
        words = ["0 s", "0 s", "30 s", "119 s", "2 minutes", "60 minutes", "2 hours", "24 hours"]
        self.assertEqual(words, told)


def waiting(name: str, host: str = "a", priority: int = 0, since: int = 0) -> Waiting:
    return Waiting(incident_id=name, host=host, priority=priority, since=since, until=0)


class TestLine(unittest.TestCase):
    def names(self, line, under_way=None, per_host=math.inf, in_all=math.inf):
        return [one.incident_id for one in called_up(line, under_way or {}, per_host, in_all)]

    def test_important_first_then_who_waits_longest(self):
        line = [
            waiting("late", since=9),
            waiting("early", since=1),
            waiting("important", priority=5, since=99),
            waiting("burden", priority=-1),
        ]
        self.assertEqual(["important", "early", "late"], self.names(line, in_all=3))
        self.assertEqual(4, len(self.names(line)))

    def test_who_is_under_way_has_a_turn(self):
        line = [waiting(name) for name in "bcde"]
        self.assertEqual(["b"], self.names(line, {"a": 2}, per_host=3))
        self.assertEqual(["b", "c"], self.names(line, {"z": 2}, in_all=4))
        self.assertEqual([], self.names(line, {"a": 4}, per_host=3))
        self.assertEqual([], self.names(line, {"z": 9}, in_all=4))

    def test_a_host_that_is_full_keeps_nobody_else_waiting(self):
        line = [*(waiting(name, priority=9) for name in "bcd"), waiting("other", host="z")]
        self.assertEqual(["b", "other"], self.names(line, per_host=1, in_all=9))
        self.assertEqual(["other"], self.names(line, {"a": 1}, per_host=1))

    def test_why_there_is_no_turn(self):
        self.assertEqual("", full({"a": 1}, "a", 2, 2))
        self.assertIn("2 recoveries at once on host a", full({"a": 2}, "a", 2, 9))
        self.assertIn("9 recoveries at once in all", full({"b": 9}, "a", 2, 9))
        self.assertIn("at most 0", full({}, "a", 0, math.inf))
        self.assertEqual("", full({"a": 999}, "a", math.inf, math.inf))
