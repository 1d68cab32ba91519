# SPDX-License-Identifier: Apache-2.0
"""When a QEMU counts as hung."""

import unittest

from vmmonitor.sources.libvirt.liveness.hung import Hung
from vmmonitor.sources.libvirt.liveness.readings import HostReading, ThreadReading
from vmmonitor.sources.libvirt.liveness.settings import LivenessSettings

SETTINGS = LivenessSettings(interval=10, deadline=20, window=30)


def main(state="S", runs=100):
    """A main thread."""
    return ThreadReading(state=state, cpu_ns=runs * 1000, delay_ns=0, runs=runs)


def look(at, occupied_s=None, state="S", runs=100, paused=""):
    """A look at a running instance, or one that is paused for a reason."""
    return HostReading(
        at=at,
        state="paused" if paused else "running",
        reason=paused or "booted",
        occupied_s=occupied_s,
        main=main(state, runs) if state else None,
    )


class HungTest(unittest.TestCase):
    def setUp(self):
        self.hung = Hung(SETTINGS)

    def assert_looks(self, expected, *looks):
        """Take in looks; all but the last find nothing."""
        *before, last = [self.hung.add(one) for one in looks]
        self.assertEqual([""] * len(before), before)
        self.assertEqual(expected, last)


class ProcessTest(HungTest):
    def test_a_process_that_runs(self):
        self.assert_looks("", *(look(at, runs=at) for at in range(0, 500, 10)))

    def test_one_that_sleeps_for_ever_is_not_hung_for_that(self):
        self.assert_looks("", *(look(at) for at in range(0, 500, 10)))

    def test_stopped_for_the_deadline(self):
        self.assert_looks("stopped", look(0), *(look(at, state="T") for at in (10, 20, 30)))
        self.assertEqual(20, self.hung.silent_for(30))
        self.assertEqual(["stopped"], self.hung.signals())

    def test_stopped_now_and_then(self):
        looks = (look(at, state="T", runs=100 + at) for at in range(0, 100, 5))
        self.assert_looks("", *looks)

    def test_a_debugger_is_not_a_stop(self):
        self.assert_looks("", *(look(at, state="t") for at in range(0, 100, 10)))

    def test_a_zombie(self):
        self.assert_looks("zombie", *(look(at, state="Z") for at in (0, 10, 20)))

    def test_uninterruptible_needs_the_window_too(self):
        self.assert_looks("", look(0, state="D"), look(20, state="D"), look(29, state="D"))
        self.assert_looks("uninterruptible", look(30, state="D"))

    def test_slow_storage(self):
        self.assert_looks("", *(look(at, state="D", runs=at) for at in range(0, 200, 10)))

    def test_a_process_that_cannot_be_seen(self):
        self.assert_looks("", *(look(at, state="") for at in range(0, 100, 10)))

    def test_due_when_it_may_be_certain(self):
        self.hung.add(look(0, runs=1))
        self.assertIsNone(self.hung.next_reading_at())
        self.hung.add(look(7, state="T"))
        self.assertEqual(27, self.hung.next_reading_at())
        self.assert_looks("stopped", look(27, state="T"))


class MonitorTest(HungTest):
    def test_found_within_the_deadline_of_being_asked(self):
        self.hung.add(look(0))
        self.hung.note_question(0)
        self.assertEqual(10, self.hung.next_reading_at())
        self.assert_looks("", look(10, 10))
        self.assertEqual(20, self.hung.next_reading_at())
        self.assert_looks("monitor", look(20, 20))
        self.assertEqual(["monitor"], self.hung.signals())

    def test_the_state_of_the_process_is_the_better_word(self):
        self.assert_looks("", look(0), look(5, 5, state="T"), look(12, 12, state="T"))
        self.assert_looks("stopped", look(21, 21, state="T"))

    def test_a_command_of_somebody_else(self):
        self.assert_looks("", look(0, 900), look(10, 910))
        self.assert_looks("monitor", look(20, 920))

    def test_one_command_after_the_other(self):
        self.assert_looks("", *(look(at, 0.2) for at in range(0, 300, 10)))

    def test_a_job_that_is_not_in_the_monitor(self):
        self.hung.add(look(0))
        self.hung.note_question(0)
        self.assert_looks("", *(look(at) for at in range(10, 100, 10)))

    def test_what_takes_long_while_its_main_thread_moves_gets_four_deadlines(self):
        looks = [look(at, at, runs=at) for at in range(0, 80, 10)]
        self.assert_looks("", *looks)
        self.assert_looks("monitor", look(80, 80, runs=80))

    def test_what_qemu_does_while_the_guest_is_paused_for_it(self):
        for reason in ("save", "snapshot", "migration", "dump"):
            self.hung = Hung(SETTINGS)
            self.assert_looks("", *(look(at, at, paused=reason) for at in range(0, 300, 10)))

    def test_a_guest_that_its_owner_paused_may_hang(self):
        looks = (look(at, at, paused="user") for at in (0, 10))
        self.assert_looks("", *looks)
        self.assert_looks("monitor", look(20, 20, paused="user"))

    def test_answered(self):
        self.hung.add(look(0))
        self.hung.note_question(0)
        self.hung.note_answer()
        self.assertIsNone(self.hung.next_reading_at())

    def test_the_clock_of_libvirt_is_set_forth(self):
        self.assert_looks("", look(0), look(10, 3600), look(20, 0.001), look(30, 7200), look(40))

    def test_the_clock_of_libvirt_is_set_back(self):
        self.assert_looks("", look(0), look(10, 10), look(20, -3580), look(30, -3570))
        self.assert_looks("monitor", look(40, -3560))

    def test_never_due_in_the_past(self):
        self.hung.add(look(0))
        self.hung.note_question(0)
        for at in range(1, 400, 7):
            self.hung.add(look(at, at, runs=at))
            self.assertGreater(self.hung.next_reading_at(), at)
