# SPDX-License-Identifier: Apache-2.0
"""The database's clock, asked rarely."""

import testtools

from vmmonitor.db import clock
from vmmonitor.model import errors


class World:
    """A monotonic clock, and a database whose clock is ``offset`` ahead of it.

    ``delays`` are the times that the next questions take on their way there and back.
    """

    def __init__(self, offset: int = 5_000_000):
        self.ticks = 1_000
        self.offset = offset
        self.delays: list[tuple[int, int]] = []
        self.asked = 0
        self.away = False

    def ask(self) -> int:
        self.asked += 1
        if self.away:
            raise errors.Retriable("away")
        there, back = self.delays.pop(0) if self.delays else (0, 0)
        self.ticks += there
        told = self.ticks + self.offset
        self.ticks += back
        return told


class TestClock(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.world = World()
        self.clock = clock.Clock(self.world.ask, lambda: self.world.ticks)

    def test_the_database_is_asked_only_when_the_answer_is_old(self) -> None:
        for _ in range(5):
            self.assertEqual(self.world.ticks + 5_000_000, self.clock.now())
            self.world.ticks += clock.FRESH // 5
        self.assertEqual(3, self.world.asked)
        self.world.ticks += 1
        self.world.offset = 7_000_000
        self.assertEqual(self.world.ticks + 7_000_000, self.clock.now())
        self.assertEqual(6, self.world.asked)

    def test_the_quickest_answer_counts(self) -> None:
        self.world.delays = [(900, 0), (3, 3), (0, 500)]
        self.assertEqual(self.world.ticks + 1406 + 5_000_000, self.clock.now())

    def test_it_counts_on_while_the_database_is_away(self) -> None:
        self.clock.now()
        self.world.away = True
        self.world.ticks += 3 * clock.FRESH
        self.assertEqual(self.world.ticks + 5_000_000, self.clock.now())
        self.clock.now()
        self.assertEqual(4, self.world.asked)

    def test_it_is_not_known_before_the_first_answer(self) -> None:
        self.world.away = True
        with testtools.ExpectedException(errors.Retriable):
            self.clock.now()
        self.world.away = False
        self.assertEqual(self.world.ticks + 5_000_000, self.clock.now())
