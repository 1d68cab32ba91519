# SPDX-License-Identifier: Apache-2.0
"""Several words of one failure, in whatever order and number they come."""

import collections
import dataclasses
import math

import testtools
from hypothesis import given
from hypothesis import strategies as st

from vmmonitor.agent import correlator
from vmmonitor.agent.correlator import CORRELATION_RULES, DUPLICATE_REPORT, MAX_WAIT, Correlator
from vmmonitor.model import instance
from vmmonitor.model.instance import Instance
from vmmonitor.tests.unit.agent.base import UUID, raw

DISK = {"path": "disk", "device": "virtio-disk1"}
SAYS = {
    "node_name": "libvirt-1-format",
    "reason": "Input/output error",
    "operation": "write",
    "target": "vdb",
}


def by_libvirt(detail="report", at=1_000_000, **changes):
    return raw(f"io_error/{detail}", at, attributes=DISK, **changes)


def its_reason(detail="report", at=1_000_100, reason=""):
    return raw(f"io_error_reason/{detail}", at, attributes=DISK | {"reason": reason})


def by_qemu(detail="report", at=999_000, **changes):
    changes = {"attributes": DISK | SAYS} | changes
    return raw(f"block_io_error/{detail}", at, source="qmp", **changes)


def panic(**attributes):
    return raw("guest_panicked/pause", 1_000_000, source="qmp", attributes=attributes)


CRASHED = raw("lifecycle.crashed/panicked", 1_000_600)


class CorrelatorTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.dropped = collections.Counter()
        self.correlator = Correlator(self.dropped)

    def told(self, *raws, wait=True, now=0.0):
        """Return what is told at once, as type/detail."""
        found = [one for word in raws for one in self.correlator.add(word, now, wait)]
        return [f"{one.type}/{one.detail}" for one in found]

    def due(self, now):
        return [one.type for one in self.correlator.expired(now)]

    # -- one failure ---------------------------------------------------------------------------
    def test_reports_of_a_disk_error_become_one_event_in_any_order(self):
        for detail, qemu in (("report", "report"), ("pause", "stop"), ("none", "ignore")):
            words = [by_libvirt(detail), its_reason(detail), by_qemu(qemu)]
            for order in (words, [words[2], *words[:2]], [words[0], words[2], words[1]]):
                self.assertEqual([f"io_error/{detail}"], self.told(*order), order)
                self.assertEqual([], self.due(math.inf))
        self.assertEqual({DUPLICATE_REPORT: 2 * 9}, dict(self.dropped))

    def test_held_report_adds_its_attributes_to_the_primary_one(self):
        self.assertEqual([], self.told(by_qemu()))
        (event,) = self.correlator.add(by_libvirt(), 0.0, True)
        self.assertEqual(dataclasses.replace(by_libvirt(), attributes=SAYS | DISK), event)
        self.assertIsNone(self.correlator.next_timeout(0.0))

    def test_attributes_of_the_primary_report_take_precedence(self):
        self.told(by_qemu(attributes=SAYS | {"device": "virtio-disk1", "path": "other"}))
        (event,) = self.correlator.add(by_libvirt(), 0.0, True)
        self.assertEqual("disk", event.attributes["path"])

    def test_reports_of_a_panic_become_one_event(self):
        for order in ([CRASHED, panic()], [panic(), CRASHED]):
            self.assertEqual(["lifecycle.crashed/panicked"], self.told(*order))
        self.assertEqual([], self.due(math.inf))

    def test_reports_of_a_memory_failure_become_one_event(self):
        said = {"recipient": "guest", "flags": ["action_required"]}
        words = [
            raw("memory_failure/inject", 5, source=source, attributes=said)
            for source in ("libvirt", "qmp")
        ]
        self.assertEqual(["memory_failure/inject"], self.told(*words))
        self.assertEqual(["memory_failure/inject"], self.told(*words[::-1]))

    # -- not one failure -----------------------------------------------------------------------
    def test_repeated_reports_of_one_source_stay_separate(self):
        self.assertEqual(["io_error/report"] * 3, self.told(*[by_libvirt()] * 3))
        self.told(*[by_qemu()] * 5)
        self.assertEqual(["block_io_error"] * 2, self.due(math.inf))
        self.assertEqual({DUPLICATE_REPORT: 3}, dict(self.dropped))

    def test_number_of_events_equals_the_number_of_errors(self):
        words = [by_libvirt(at=n * 10) for n in range(100)]
        words += [its_reason(at=n * 10) for n in range(100)]
        words += [by_qemu(at=n * 10) for n in range(100)]
        self.assertEqual(["io_error/report"] * 100, self.told(*words))
        self.assertEqual(["io_error/report"] * 100, self.told(*words[::-1]))
        self.assertEqual([], self.due(math.inf))

    def test_report_with_a_reason_is_not_a_duplicate(self):
        words = [by_libvirt("pause"), its_reason("pause", reason="enospc")]
        self.assertEqual(["io_error/pause", "io_error_reason/pause"], self.told(*words))

    def test_report_with_panic_details_is_not_a_duplicate(self):
        for order in ([CRASHED, panic(info={"type": "hyper-v"})], [panic(info={"x": 1}), CRASHED]):
            self.assertEqual(2, len(self.told(*order)))

    def test_reports_of_different_failures_stay_separate(self):
        self.told(by_libvirt())
        for other in (
            by_qemu("stop"),
            by_qemu(attributes=SAYS | {"device": "virtio-disk2"}),
            by_qemu(instance=Instance(uuid="other")),
            by_qemu(at=1_000_000 + correlator.CORRELATION_WINDOW + 1),
            panic(),
        ):
            self.assertEqual([], self.told(other))
            self.assertEqual([other], self.correlator.expired(math.inf))
            self.told(by_libvirt())

    def test_crash_kernel_is_not_a_panic(self):
        self.told(panic())
        self.assertEqual(
            ["lifecycle.crashed/crashloaded"], self.told(raw("lifecycle.crashed/crashloaded"))
        )
        self.assertEqual(["guest_panicked"], self.due(math.inf))

    def test_report_without_a_device_is_delivered_at_once(self):
        for attributes in (SAYS, SAYS | {"device": ""}, SAYS | {"device": None}):
            self.assertEqual(["block_io_error/report"], self.told(by_qemu(attributes=attributes)))

    def test_clock_step_between_reports_keeps_both(self):
        hour = 3_600_000_000
        self.assertEqual(
            ["io_error/report", "io_error_reason/report"],
            self.told(by_libvirt(), its_reason(at=hour), wait=False),
        )

    # -- waiting -------------------------------------------------------------------------------
    def test_held_report_expires_after_its_wait(self):
        self.assertIsNone(self.correlator.next_timeout(0.0))
        self.told(by_qemu(), now=10.0)
        self.told(panic(), now=10.1)
        self.assertEqual(MAX_WAIT, self.correlator.next_timeout(10.0))
        self.assertEqual(0.0, self.correlator.next_timeout(99.0))
        self.assertEqual([], self.due(10.0 + MAX_WAIT / 2))
        self.assertEqual(["block_io_error"], self.due(10.0 + MAX_WAIT))
        self.assertEqual(["guest_panicked"], self.due(99.0))

    def test_report_is_not_held_without_a_primary_source(self):
        self.assertEqual(["block_io_error/report"], self.told(by_qemu(), wait=False))

    def test_held_report_without_a_primary_one_is_delivered(self):
        nameless = by_qemu(attributes=SAYS | {"device": "virtio-disk1"})
        self.told(nameless)
        self.assertEqual([nameless], self.correlator.expired(MAX_WAIT))
        self.assertEqual({}, dict(self.dropped))

    # -- bounds --------------------------------------------------------------------------------
    def test_held_reports_are_bounded_and_none_is_lost(self):
        total = 3 * correlator.MAX_HELD
        words = [by_qemu(at=n, instance=Instance(uuid=str(n % 7))) for n in range(total)]
        told = [
            one
            for word in words
            for one in self.correlator.add(word, float(word.occurred_at), True)
        ]
        self.assertEqual(total - correlator.MAX_HELD, len(told))
        self.assertEqual(words, told + self.correlator.expired(math.inf))

    def test_unmatched_reports_are_bounded(self):
        for number in range(1000):
            self.told(*[by_libvirt(instance=Instance(uuid=str(number % 500)))] * 20)
        self.told(*[by_libvirt()] * 2000)
        self.assertEqual(correlator.MAX_SLOTS, len(self.correlator._unmatched))
        longest = max(map(len, self.correlator._unmatched.values()))
        self.assertEqual(correlator.MAX_UNMATCHED, longest)

    # -- whatever is said ----------------------------------------------------------------------
    def test_state_changes_are_never_secondary_reports(self):
        for (_, kind), word in CORRELATION_RULES.items():
            if kind in instance.STATE_AFTER or kind.startswith("lifecycle."):
                self.assertTrue(word.is_primary, kind)
        for subject in {word.subject for word in CORRELATION_RULES.values()}:
            leading = [
                v
                for v, word in CORRELATION_RULES.items()
                if word.subject == subject and word.is_primary
            ]
            self.assertEqual(["libvirt"], [source for source, _ in leading], subject)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(sorted(CORRELATION_RULES) + [("libvirt", "lifecycle.stopped")]),
                st.sampled_from(["report", "stop", "pause", "panicked", ""]),
                st.integers(0, 5_000_000),
                st.sampled_from(["a", "b"]),
                st.none() | st.text(max_size=2) | st.lists(st.integers(), max_size=1),
                st.booleans(),
            ),
            max_size=40,
        )
    )
    def test_any_input_delivers_primary_reports_at_once_and_invents_none(self, said):
        self.forget()
        out = []
        for (source, kind), detail, at, device, more, wait in said:
            word = raw(
                f"{kind}/{detail}",
                at,
                source=source,
                attributes={"device": device, "reason": more, "recipient": more, "flags": more},
            )
            now = self.correlator.add(word, at / 1e6, wait)
            if kind.startswith("lifecycle.") or kind == "io_error":
                self.assertEqual((kind, at), (now[0].type, now[0].occurred_at))
            out += now
        out += self.correlator.expired(math.inf)
        came = collections.Counter((kind, at) for (_, kind), _, at, _, _, _ in said)
        went = collections.Counter((one.type, one.occurred_at) for one in out)
        self.assertLessEqual(went, came)
        self.assertEqual(came.total() - went.total(), self.dropped[DUPLICATE_REPORT])
        # Each source's word is dropped only for a word of another kind that was told.
        self.assertTrue(not said or went)

    def forget(self):
        self.dropped = collections.Counter()
        self.correlator = Correlator(self.dropped)


class UuidTest(testtools.TestCase):
    def test_fingerprint_contains_the_instance(self):
        mark = correlator.compute_fingerprint(by_libvirt())
        self.assertEqual(("disk", UUID, "report", "virtio-disk1"), mark.key)
        self.assertIsNone(correlator.compute_fingerprint(raw()))
