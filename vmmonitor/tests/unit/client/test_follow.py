# SPDX-License-Identifier: Apache-2.0
"""Follow yields each event exactly once, also if transactions commit out of order."""

import itertools
import random
import unittest

from vmmonitor.client import follow
from vmmonitor.client.http import Unreachable


class Table:
    """An API whose events get their number before they become visible."""

    def __init__(self, rows: int):
        self.visible = set(range(rows))
        self.now = 0.0
        self.read: list[int] = []
        self.outage = 0

    def find(self, noun, params, limit=None):
        """Return events like ``Client.list``."""
        if self.outage:
            self.outage -= 1
            raise Unreachable("no connection.")
        rows = sorted(self.visible, reverse=params["sort"] == "stored:desc")
        if params.get("marker") is not None:
            rows = [row for row in rows if row > int(params["marker"])]
        self.read.append(len(rows[:limit]))
        return iter([{"event_id": str(row)} for row in rows[:limit]])


class Follower:
    """Follows a table, and calls ``tick`` before each query."""

    def __init__(self, table: Table, tick, tail: int = 0):
        self.warnings: list[str] = []

        def sleep(seconds: float) -> None:
            table.now += seconds
            tick()

        self._events = follow.events(
            table.find, {}, tail, self.warnings.append, lambda: table.now, sleep
        )

    def take(self, count: int) -> list[int]:
        """Return the numbers of the next events."""
        return [int(event["event_id"]) for event in itertools.islice(self._events, count)]


class TestFollow(unittest.TestCase):
    def test_tail_is_yielded_first(self):
        self.assertEqual([7, 8, 9], Follower(Table(10), tick=lambda: None, tail=3).take(3))

    def test_short_table_is_yielded_completely(self):
        self.assertEqual([0, 1], Follower(Table(2), tick=lambda: None, tail=5).take(2))

    def test_empty_table_is_followed(self):
        table = Table(0)
        follower = Follower(table, tick=lambda: table.visible.add(len(table.visible)))
        self.assertEqual([0, 1, 2], follower.take(3))

    def test_event_that_commits_late_is_yielded_once(self):
        table = Table(5)
        steps = iter([{6}, {5}, set(), {7}])
        follower = Follower(table, tick=lambda: table.visible.update(next(steps)))
        self.assertEqual([6, 5, 7], follower.take(3))

    def test_event_that_began_before_first_query_is_yielded(self):
        table = Table(2000)
        table.visible.discard(1500)
        steps = iter([{2000}, {1500}, {2001}])
        follower = Follower(table, tick=lambda: table.visible.update(next(steps)))
        self.assertEqual([2000, 1500, 2001], follower.take(3))

    def test_any_order_within_settling_time_is_complete(self):
        chance = random.Random(7)
        table = Table(1200)
        appears = {
            number: 1 + number // 40 + chance.uniform(0, follow.SETTLED - 2)
            for number in range(1200, 3200)
        }

        def tick():
            due = [number for number, at in appears.items() if at <= table.now]
            table.visible.update(due)

        found = Follower(table, tick).take(2000)
        self.assertEqual(sorted(appears), sorted(found))

    def test_settled_events_are_not_read_again(self):
        table = Table(500)
        ticks = itertools.count()

        def tick():
            if next(ticks) == 30:
                table.visible.add(500)

        self.assertEqual([500], Follower(table, tick).take(1))
        self.assertEqual([500, 0, 1], [table.read[0], *table.read[-2:]])

    def test_outage_is_reported_once_and_waited_for(self):
        table = Table(1)
        ticks = iter(range(100))

        def tick():
            if next(ticks) == 0:
                table.outage = 3
                table.visible.add(1)

        follower = Follower(table, tick)
        self.assertEqual([1], follower.take(1))
        self.assertEqual(["no connection. Trying again."], follower.warnings)

    def test_outage_at_start_is_an_error(self):
        table = Table(1)
        table.outage = 1
        with self.assertRaises(Unreachable):
            Follower(table, tick=lambda: None).take(1)
