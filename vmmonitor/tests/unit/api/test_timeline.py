# SPDX-License-Identifier: Apache-2.0
"""The timeline, merged from events, entries and recoveries."""

import dataclasses
import unittest

from vmmonitor.api import timeline
from vmmonitor.model.states import RecoveryState
from vmmonitor.model.timeline import TimelineEntry
from vmmonitor.tests.fixtures import sample

EVENTS = [stored for stored in sample.EVENTS if stored.incident_id == sample.CRASH.incident_id]


def merged(events=EVENTS, steps=sample.STEPS, recoveries=(sample.RESTART,)):
    """Return the timeline of the sample's crash."""
    return timeline.merge(sample.CRASH, events, steps, recoveries)


class TestMerge(unittest.TestCase):
    def test_entries_are_ordered_with_milliseconds(self):
        self.assertEqual(
            [
                (0.0, "event"),
                (9.8, "decision"),
                (9.8, "hold"),
                (5002.0, "question"),
                (5003.0, "state"),
                (5011.5, "recovery"),
                (5900.4, "event"),
                (5912.0, "state"),
                (5912.0, "recovery"),
            ],
            [(line["ms"], line["kind"]) for line in merged()],
        )

    def test_event_shows_its_stages(self):
        first = merged()[0]
        self.assertEqual("2026-11-22T13:15:39.000123Z", first["at"])
        self.assertIn("lifecycle.stopped/failed on compute-1", first["message"])
        self.assertEqual("crash", first["data"]["rule"])
        self.assertEqual(
            {"spooled": 2.1, "sent": 2.9, "received": 5.4, "stored": 9.8},
            first["data"]["stops_ms"],
        )

    def test_recovery_shows_its_call_and_its_end(self):
        called, ended = merged(events=(), steps=())
        self.assertEqual("attempt 1 of step 1, driver libvirt: called", called["message"])
        self.assertIn("succeeded: the instance runs again", ended["message"])
        self.assertEqual({"recovery_id": sample.RESTART.recovery_id}, ended["data"])

    def test_requested_recovery_has_no_entry(self):
        waits = dataclasses.replace(
            sample.RESTART, state=RecoveryState.REQUESTED, called_at=None, finished_at=None
        )
        self.assertEqual([], merged(events=(), steps=(), recoveries=[waits]))

    def test_stored_entry_replaces_entry_of_recovery(self):
        step = TimelineEntry(
            incident_id=sample.CRASH.incident_id,
            at=sample.RESTART.called_at,
            kind="recovery",
            message="libvirt starts it",
            data={"recovery_id": sample.RESTART.recovery_id},
        )
        lines = merged(events=(), steps=[step])
        self.assertEqual(
            ["libvirt starts it", "attempt 1 of step 1, driver libvirt: succeeded: "
             "the instance runs again"],
            [line["message"] for line in lines],
        )  # fmt: skip

    def test_entry_before_the_event_has_negative_milliseconds(self):
        early = dataclasses.replace(sample.STEPS[0], at=sample.BEGIN - 1_500)
        line = merged(steps=[early])[0]
        self.assertEqual((-1.5, "decision"), (line["ms"], line["kind"]))

    def test_event_of_host_with_wrong_clock_is_corrected(self):
        hour = 3_600_000_000
        ahead = [
            dataclasses.replace(
                one,
                event=dataclasses.replace(one.event, occurred_at=one.event.occurred_at + hour),
                spooled_at=one.spooled_at + hour,
                sent_at=one.sent_at + hour,
            )
            for one in EVENTS
        ]
        self.assertEqual(merged(), merged(events=ahead))

    def test_events_keep_order_after_clock_step(self):
        first, second = EVENTS
        early = dataclasses.replace(second, corrected_at=sample.BEGIN - 5_000_000)
        lines = [line for line in merged(events=[first, early]) if line["kind"] == "event"]
        self.assertEqual([0.0, -5000.0], [line["ms"] for line in lines])

    def test_event_precedes_entries_with_equal_time(self):
        steps = [
            dataclasses.replace(sample.STEPS[0], at=sample.BEGIN, message=str(number))
            for number in range(5)
        ]
        lines = merged(events=EVENTS[:1], steps=steps, recoveries=())
        self.assertEqual(["event"] + ["decision"] * 5, [line["kind"] for line in lines])
        self.assertEqual(list("01234"), [line["message"] for line in lines[1:]])
