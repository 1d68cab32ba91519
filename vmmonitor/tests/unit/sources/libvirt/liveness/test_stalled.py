# SPDX-License-Identifier: Apache-2.0
"""When a guest counts as stalled."""

import itertools
import unittest

import hypothesis
from hypothesis import strategies

from vmmonitor.sources.libvirt.liveness.readings import QemuReading, ThreadReading, VcpuReading
from vmmonitor.sources.libvirt.liveness.settings import LivenessSettings
from vmmonitor.sources.libvirt.liveness.stalled import StallAssessment, Stalled

SETTINGS = LivenessSettings(interval=10, deadline=20, window=30)
S = 1_000_000_000
NOTHING = StallAssessment()

#: What a vCPU does in a second: (CPU time in ns, time it waits for a CPU, times it runs).
#: The first two are measured: an idle guest of the tests, and one after cli; hlt.
IDLE_TCG = (3_500_000, 1_000_000, 19)
HALTED_TCG = (250_000, 100_000, 27)
HALTED = (0, 0, 0)
IDLE_KVM = (400_000, 20_000, 12)
WOKEN_IN_VAIN = (30_000, 1_000, 10)
FULL = (850_000_000, 149_000_000, 300)
HALF = (500_000_000, 1_000_000, 900)


class Guest:
    """Answers as a guest's QEMU gives them, one every ten seconds."""

    def __init__(self, *vcpus, emulated=False, **counters):
        self.vcpus = list(vcpus)
        self.emulated = emulated
        self.states = ["S"] * len(vcpus)
        #: What each counter gains in a second.
        self.rates = counters
        self.at, self.slept = 1000.0, 0.0
        self._used = [(0, 0, 0)] * len(vcpus)
        self._counted = dict.fromkeys(counters, 0.0)

    def does(self, *vcpus, **rates):
        """From now on it does this."""
        self.vcpus = list(vcpus or self.vcpus)
        self.rates |= rates

    def answer(self, seconds=10.0, complete=True):
        """The answer after so many seconds, with all counters or with those of its disks."""
        self.at += seconds
        self._used = [
            tuple(was + int(rate * seconds) for was, rate in zip(used, rates, strict=True))
            for used, rates in zip(self._used, self.vcpus, strict=True)
        ]
        for name, rate in self.rates.items():
            self._counted[name] += rate * seconds
        threads = {
            100 + i: ThreadReading(
                state="R" if self.vcpus[i] == FULL else self.states[i],
                cpu_ns=used[0],
                delay_ns=used[1],
                runs=used[2],
            )
            for i, used in enumerate(self._used)
        }
        return QemuReading(
            at=self.at,
            awake_at=self.at + self.slept,
            took_s=0.001,
            done=True,
            vcpus=VcpuReading(threads=threads, emulated=self.emulated),
            complete=complete,
            **{
                name: int(value)
                for name, value in self._counted.items()
                if complete or name == "io"
            },
        )


class StalledTest(unittest.TestCase):
    def setUp(self):
        self.stalled = Stalled(SETTINGS)

    def after(self, guest, seconds, step=10.0):
        """The verdict after so many seconds of the guest."""
        verdict = NOTHING
        for _ in range(int(seconds / step)):
            verdict = self.stalled.add(guest.answer(step, self.stalled.wants_complete))
        return verdict

    def never(self, guest, seconds=600):
        """Nothing is said in all that time."""
        for _ in range(int(seconds / 10)):
            verdict = self.stalled.add(guest.answer(10, self.stalled.wants_complete))
            self.assertEqual(("", ()), (verdict.detail, verdict.signals))

    def assert_says(self, detail, signals, verdict):
        self.assertEqual((detail, tuple(signals.split())), (verdict.detail, verdict.signals))


class AliveTest(StalledTest):
    def test_idle(self):
        self.never(Guest(IDLE_TCG, emulated=True, io=0))
        self.never(Guest(IDLE_KVM, io=0, exits=40))
        self.never(Guest(IDLE_KVM, io=0))

    def test_idle_after_work(self):
        for guest in (
            Guest(IDLE_TCG, emulated=True, io=50),
            Guest(IDLE_KVM, io=50, exits=40),
            Guest(IDLE_KVM, io=50),
        ):
            self.stalled = Stalled(SETTINGS)
            self.never(guest, 100)
            guest.does(io=0)
            self.never(guest)

    def test_busy(self):
        self.never(Guest(FULL, emulated=True, io=0))
        self.never(Guest(FULL, FULL, io=0, exits=500))
        self.never(Guest(FULL, io=20))

    def test_one_vcpu_idles_and_one_is_off(self):
        self.never(Guest(IDLE_KVM, HALTED, io=0, exits=40))
        self.never(Guest(IDLE_KVM, HALTED, io=0))

    def test_starved_by_its_host(self):
        guest = Guest(HALTED, HALTED, io=0)
        guest.states = ["R", "S"]
        self.never(guest)

    def test_waits_for_memory_of_its_host(self):
        guest = Guest(HALTED, io=0)
        guest.states = ["D"]
        self.never(guest)

    def test_stopped(self):
        guest = Guest(HALTED, io=0)
        guest.states = ["T"]
        self.never(guest)

    def test_its_threads_cannot_be_seen(self):
        self.never(Guest(io=0))

    def test_its_balloon_driver_speaks(self):
        self.never(Guest(HALTED, io=0, balloon_at=1))
        self.never(Guest(FULL, io=0, exits=0, balloon_at=1))


class CostTest(StalledTest):
    def complete(self, guest, rounds=30):
        """How many of so many answers are to be complete."""
        wanted = 0
        for _ in range(rounds):
            complete = self.stalled.wants_complete
            wanted += complete
            self.stalled.add(guest.answer(10, complete))
        return wanted

    def test_a_guest_that_does_something_is_asked_for_all_in_each_third_round(self):
        self.assertEqual(10, self.complete(Guest(HALF, io=3, exits=400)))

    def test_one_that_does_not_in_each_round(self):
        self.assertGreaterEqual(self.complete(Guest(HALTED, io=0, exits=0)), 28)

    def test_no_verdict_without_all_counters(self):
        guest = Guest(HALTED, io=0, exits=0)
        self.stalled.add(guest.answer())
        verdicts = [self.stalled.add(guest.answer(10, False)) for _ in range(10)]
        self.assertEqual({""}, {verdict.detail for verdict in verdicts})


class HaltedTest(StalledTest):
    def test_one_signal(self):
        guest = Guest(HALTED_TCG, emulated=True, io=0)
        self.never(guest, 30)
        self.assert_says("suspect", "cpu", self.after(guest, 10))
        self.assert_says("suspect", "cpu", self.after(guest, 600))

    def test_kvm_says_the_same(self):
        guest = Guest(HALTED, HALTED, io=0, exits=0)
        self.never(guest, 30)
        verdict = self.after(guest, 10)
        self.assert_says("failed", "cpu exits", verdict)
        self.assertEqual(0, verdict.cpu_time_s)

    def test_woken_in_vain_by_the_host(self):
        guest = Guest(WOKEN_IN_VAIN, io=0, exits=0)
        self.assert_says("failed", "cpu exits", self.after(guest, 40))
        self.never(Guest(WOKEN_IN_VAIN, io=0))

    def test_disk_and_net_were_used_before(self):
        guest = Guest(IDLE_TCG, emulated=True, io=3)
        self.never(guest, 60)
        guest.does(HALTED_TCG, io=0)
        self.never(guest, 20)
        self.assert_says("failed", "cpu io", self.after(guest, 10))

    def test_one_use_is_no_habit(self):
        guest = Guest(IDLE_TCG, emulated=True, io=0)
        self.never(guest, 60)
        guest.does(io=3)
        self.never(guest, 10)
        guest.does(HALTED_TCG, io=0)
        self.assert_says("suspect", "cpu", self.after(guest, 60))

    def test_the_balloon_driver_fell_silent(self):
        guest = Guest(IDLE_KVM, io=0, balloon_at=1)
        self.never(guest, 60)
        guest.does(HALTED, balloon_at=0)
        self.never(guest, 20)
        self.assert_says("failed", "cpu balloon", self.after(guest, 100))

    def test_it_goes_on(self):
        guest = Guest(HALTED_TCG, emulated=True, io=0)
        self.assertFalse(self.after(guest, 60).alive)
        guest.does(IDLE_TCG)
        verdict = self.after(guest, 10)
        self.assertEqual(("", False), (verdict.detail, verdict.alive))
        self.assertTrue(self.after(guest, 10).alive)

    def test_one_noisy_measure_is_no_life(self):
        guest = Guest(HALTED_TCG, emulated=True, io=0)
        self.after(guest, 60)
        guest.does(IDLE_TCG)
        verdicts = [self.after(guest, 10)]
        guest.does(HALTED_TCG)
        verdicts += [self.after(guest, 10) for _ in range(10)]
        self.assertNotIn(True, [one.alive for one in verdicts])

    def test_a_single_request_is_life(self):
        guest = Guest(HALTED_TCG, emulated=True, io=0)
        self.after(guest, 60)
        guest.does(io=0.1)
        self.assertEqual(StallAssessment(alive=True, cpu_time_s=0.01), self.after(guest, 10))

    def test_its_agent_speaks(self):
        guest = Guest(HALTED, io=0, exits=0)
        self.after(guest, 60)
        self.assertTrue(self.stalled.add(guest.answer(), True).alive)


class SpinningTest(StalledTest):
    def test_kvm_says_so(self):
        guest = Guest(FULL, io=0, exits=0.1)
        self.never(guest, 30)
        self.assert_says("failed", "cpu exits", self.after(guest, 10))

    def test_one_vcpu_spins_and_the_others_wait_for_it(self):
        guest = Guest(FULL, HALTED, HALTED, io=0, exits=0.1)
        self.assert_says("failed", "cpu exits", self.after(guest, 40))

    def test_nothing_is_known_but_its_cpu(self):
        self.never(Guest(FULL, emulated=True, io=0))

    def test_disk_and_net_were_used_before(self):
        guest = Guest(HALF, emulated=True, io=3)
        self.never(guest, 60)
        guest.does(FULL, io=0)
        self.assert_says("suspect", "io", self.after(guest, 40))

    def test_a_panic_that_leaves_interrupts_on_is_suspect_at_most(self):
        guest = Guest(HALF, io=3, exits=300, balloon_at=1)
        self.never(guest, 60)
        guest.does(FULL, io=0, exits=300, balloon_at=0)
        self.assert_says("suspect", "io balloon", self.after(guest, 120))

    def test_two_signals_without_exit_counters(self):
        guest = Guest(HALF, io=3, balloon_at=1)
        self.never(guest, 60)
        guest.does(FULL, io=0, balloon_at=0)
        self.assert_says("failed", "io balloon", self.after(guest, 120))


class WindowTest(StalledTest):
    def test_a_gap(self):
        guest = Guest(HALTED, io=0, exits=0)
        self.after(guest, 20)
        self.stalled.add(guest.answer(26))
        self.never(guest, 20)
        self.assert_says("failed", "cpu exits", self.after(guest, 10))

    def test_a_host_that_slept(self):
        guest = Guest(HALTED, io=0, exits=0)
        for _ in range(20):
            guest.slept += 3600
            self.never(guest, 30)

    def test_a_clock_that_stands_still(self):
        guest = Guest(HALTED, io=0, exits=0)
        self.after(guest, 20)
        for _ in range(100):
            self.assertEqual("", self.stalled.add(guest.answer(0)).detail)

    def test_what_happened_to_it(self):
        guest = Guest(HALTED, io=0, exits=0)
        for _ in range(20):
            self.never(guest, 30)
            self.stalled.reset()

    def test_a_vcpu_is_added(self):
        guest = Guest(HALTED, io=0, exits=0)
        self.after(guest, 20)
        guest.vcpus.append(HALTED)
        guest.states.append("S")
        guest._used.append((0, 0, 0))
        self.never(guest, 30)

    def test_the_habit_is_forgotten_too(self):
        guest = Guest(IDLE_TCG, emulated=True, io=3)
        self.never(guest, 60)
        self.stalled.reset()
        guest.does(HALTED_TCG, io=0)
        self.assert_says("suspect", "cpu", self.after(guest, 60))


lives = strategies.sampled_from([(IDLE_TCG, 0), (IDLE_TCG, 5), (FULL, 0), (FULL, 9), (HALF, 2)])


class AnyLifeTest(unittest.TestCase):
    @hypothesis.settings(deadline=None)
    @hypothesis.given(
        strategies.lists(strategies.tuples(lives, strategies.integers(1, 8)), max_size=20),
        strategies.booleans(),
    )
    def test_a_guest_whose_timer_ticks_never_failed(self, life, has_exits):
        stalled = Stalled(SETTINGS)
        guest = Guest(
            IDLE_TCG, emulated=not has_exits, io=0, **({"exits": 40} if has_exits else {})
        )
        for (vcpu, io), rounds in life:
            guest.does(vcpu, io=io)
            for _ in range(rounds):
                answer = guest.answer(10, stalled.wants_complete)
                self.assertNotEqual("failed", stalled.add(answer).detail)

    @hypothesis.given(strategies.lists(strategies.floats(0.1, 30), min_size=5, max_size=40))
    def test_no_verdict_before_a_whole_window(self, steps):
        stalled = Stalled(SETTINGS)
        guest = Guest(HALTED, io=0, exits=0)
        for step, total in zip(steps, itertools.accumulate(steps), strict=True):
            verdict = stalled.add(guest.answer(step))
            if total < SETTINGS.window:
                self.assertEqual("", verdict.detail)
