# SPDX-License-Identifier: Apache-2.0
"""What is known of a host's clock, and in which order events happened."""

import random
import unittest

import hypothesis
from hypothesis import strategies

from vmmonitor.model import clock
from vmmonitor.model.clock import MAX_TRANSIT, SAMPLES, STEADY, HostClock, at_arrival
from vmmonitor.model.event import in_order
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON, SECOND

HOUR = 3600 * SECOND
#: How long a message takes, at least.
WAY = 2_000


def heard(*given: int) -> HostClock:
    """What is known after samples."""
    known = HostClock()
    for sample in given:
        known = known.after(sample)
    return known


class TestHostClock(unittest.TestCase):
    def test_a_right_clock_is_left_alone(self):
        known = heard(WAY, 90_000, WAY, 3_000)
        self.assertEqual((WAY, 0), (known.offset, known.correction))

    def test_one_slow_report_changes_nothing(self):
        known = heard(*[WAY] * SAMPLES)
        self.assertEqual(
            (WAY, 0), (known.after(MAX_TRANSIT).offset, known.after(MAX_TRANSIT).correction)
        )

    def test_a_first_report_that_is_slow_corrects_nothing(self):
        self.assertEqual(0, heard(MAX_TRANSIT).correction)
        self.assertEqual(0, heard(MAX_TRANSIT, WAY).correction)

    def test_a_clock_that_is_ahead_is_corrected_at_once(self):
        self.assertEqual(WAY - 5 * SECOND, heard(WAY - 5 * SECOND).correction)

    def test_a_clock_that_is_behind_is_corrected_when_a_window_says_so(self):
        known = heard(*[WAY + 5 * SECOND] * (SAMPLES - 1))
        self.assertEqual((WAY + 5 * SECOND, 0), (known.offset, known.correction))
        self.assertEqual(WAY + 5 * SECOND, known.after(WAY + 5 * SECOND).correction)

    def test_a_clock_that_is_an_hour_behind_is_corrected_at_once(self):
        self.assertEqual(HOUR, heard(HOUR).correction)

    def test_an_hour_forth_and_back_is_followed_at_once(self):
        known = heard(*[WAY] * 9)
        for sample in (WAY - HOUR, WAY, WAY + HOUR, WAY):
            known = known.after(sample)
            correction = 0 if sample == WAY else sample
            self.assertEqual((sample, correction), (known.offset, known.correction))

    def test_a_clock_that_was_put_back_a_little_is_noticed_when_that_stays(self):
        known = heard(*[WAY] * SAMPLES)
        offsets = []
        for _ in range(SAMPLES):
            known = known.after(WAY + 3 * SECOND)
            offsets.append(known.correction)
        self.assertEqual([0] * (SAMPLES - 1) + [WAY + 3 * SECOND], offsets)

    def test_a_clock_that_drifts_is_corrected_in_steps(self):
        known, corrections = HostClock(), []
        for minute in range(200):
            known = known.after(WAY - minute * 3_000)
            corrections.append(known.correction)
        self.assertLess(len(set(corrections)), 8)
        self.assertLessEqual(abs(corrections[-1] - known.offset), STEADY)

    @hypothesis.given(
        strategies.integers(-10 * HOUR, 0) | strategies.integers(STEADY + 1, 10 * HOUR),
        strategies.lists(strategies.integers(0, STEADY - 1), min_size=SAMPLES),
    )
    def test_a_steady_clock_behind_a_quick_bus_has_one_correction(self, offset, ways):
        known = heard(*[offset] * SAMPLES)
        for way in ways:
            before, known = known, known.after(offset + way)
            self.assertEqual(before.correction, known.correction)
            self.assertEqual(before.correction, at_arrival(before.correction, offset + way))
        self.assertLessEqual(abs(known.correction - offset), STEADY)

    @hypothesis.given(
        strategies.integers(1, STEADY),
        strategies.lists(strategies.integers(0, STEADY - 1), min_size=SAMPLES),
    )
    @hypothesis.example(STEADY - 1, [2] * SAMPLES)
    def test_one_that_is_off_by_nearly_as_much_as_is_let_pass_has_two_at_most(self, offset, ways):
        known, corrections = heard(*[offset] * SAMPLES), set()
        for way in ways:
            known = known.after(offset + way)
            corrections.add(known.correction)
        self.assertLessEqual(len(corrections), 2)
        self.assertLessEqual(abs(known.correction - offset), STEADY)


class TestAtArrival(unittest.TestCase):
    def test_what_a_batch_tells_of_a_clock_that_was_set(self):
        for sample, expected in (
            (WAY, 0),
            (-STEADY, 0),
            (-STEADY - 1, -STEADY - 1),
            (MAX_TRANSIT, 0),
            (MAX_TRANSIT + 1, MAX_TRANSIT + 1),
        ):
            self.assertEqual(expected, at_arrival(0, sample))

    def test_a_clock_that_was_put_right_is_left_alone_again(self):
        self.assertEqual(0, at_arrival(-HOUR, WAY))
        self.assertEqual(0, at_arrival(5 * SECOND, WAY))


class TestTold(unittest.TestCase):
    def test_it_says_which_side(self):
        self.assertEqual("its clock is 3,600.0 s ahead of the engines'", clock.told(-HOUR))
        self.assertEqual("its clock is 1.5 s behind the engines'", clock.told(1_500_000))


class TestInOrder(unittest.TestCase):
    def event(self, host: str, after: float, number: int):
        """An event that was stored as the ``number``-th, of a clock that is right."""
        return samples.stored(NOON + round(after * SECOND), host=host, sequence=number)

    def numbers(self, *stored) -> list[int]:
        return [one.event.sequence for _, one in in_order(stored)]

    def test_hosts_are_compared_by_time(self):
        late = [self.event("b", 1, 3), self.event("b", 3, 4)]
        self.assertEqual(
            [1, 3, 2, 4], self.numbers(self.event("a", 0, 1), self.event("a", 2, 2), *late)
        )

    def test_a_host_keeps_its_order_when_its_clock_is_put_back(self):
        there = [self.event("a", after, n) for n, after in enumerate((0, 3600, 1, 2))]
        self.assertEqual([0, 1, 2, 3], self.numbers(*there))
        times = [at for at, _ in in_order(there)]
        self.assertEqual(sorted(times), times)

    def test_any_mix(self):
        chance = random.Random(1)
        stored = [self.event(chance.choice("abc"), chance.uniform(-9, 9), n) for n in range(200)]
        numbers = self.numbers(*stored)
        for host in "abc":
            own = [n for n in numbers if stored[n].event.host == host]
            self.assertEqual(sorted(own), own)
