# SPDX-License-Identifier: Apache-2.0
"""The engines' time on a host."""

import testtools

from vmmonitor.agent.engine_clock import EngineClock

SECOND = 1_000_000
#: The engines' time when the ticks are 0.
ENGINE = 1_795_353_600 * SECOND


class Ticks:
    """A clock that a test sets."""

    def __init__(self):
        self.at = 0

    def __call__(self):
        return self.at


class EngineClockTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.ticks = Ticks()
        self.clock = EngineClock(self.ticks)

    def sample(self, at, transit=0, answer=0, step=0):
        """Make a call at some ticks; the engine reads its time after ``transit``."""
        engine_time = ENGINE + at + transit + step
        self.clock.add_sample(engine_time, at, at + transit + answer)

    def error(self, step=0):
        """Return by how much the clock is ahead of the engines' time, in microseconds."""
        return self.clock.now() - (ENGINE + self.ticks.at + step)

    def test_time_without_a_sample_is_unknown(self):
        self.assertIsNone(self.clock.now())

    def test_time_is_never_before_that_of_the_engines(self):
        self.sample(0, transit=3 * SECOND, answer=SECOND)
        self.assertEqual(3 * SECOND, self.error())

    def test_fast_answer_bounds_the_time_of_slow_ones(self):
        self.sample(0, transit=3 * SECOND)
        self.sample(10 * SECOND, transit=2000, answer=1000)
        self.ticks.at = 20 * SECOND
        self.sample(20 * SECOND, transit=3 * SECOND)
        self.assertLess(0, self.error())
        self.assertLess(self.error(), 10_000)

    def test_host_that_stood_still_knows_how_long(self):
        self.sample(0, answer=1000)
        self.ticks.at = 600 * SECOND
        self.assertLess(0, self.error() + 1)
        self.assertLess(self.error(), SECOND)

    def test_step_of_the_engines_clock_is_followed_at_once(self):
        for step in (60 * SECOND, -60 * SECOND):
            self.sample(0, answer=1000)
            self.ticks.at = 10 * SECOND
            self.sample(10 * SECOND, answer=1000, step=step)
            self.assertLess(abs(self.error(step)), 10_000)
            self.ticks.at = 0
