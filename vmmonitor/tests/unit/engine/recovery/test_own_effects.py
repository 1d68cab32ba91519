# SPDX-License-Identifier: Apache-2.0
"""Test which events a verdict leaves out, because a recovery of the incident caused them."""

import unittest

from vmmonitor.engine.recovery.own_effects import CLOCK_ERROR, exclude_own_effects
from vmmonitor.model.clock import SECOND
from vmmonitor.model.recovery import Recovery
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON

CALLED, RETURNED = NOON + 10 * SECOND, NOON + 20 * SECOND
DESTROYED = "lifecycle.stopped/destroyed"


def recovery(**changes: object) -> Recovery:
    fields = {"not_before": CALLED, "called_at": CALLED, "returned_at": RETURNED, **changes}
    return samples.recovery(**fields)


class OwnEffectsTest(unittest.TestCase):
    def left(self, cause: str, at: int, *recoveries: Recovery, now: int = RETURNED) -> bool:
        """Return whether an event is part of the next verdict."""
        kind, _, detail = cause.partition("/")
        event = samples.stored(at, type=kind, detail=detail)
        return exclude_own_effects([event], recoveries, now) == [event.event]

    def test_stop_during_the_call_is_left_out(self) -> None:
        for at in (CALLED - CLOCK_ERROR, CALLED, RETURNED, RETURNED + CLOCK_ERROR):
            self.assertFalse(self.left(DESTROYED, at, recovery()))

    def test_stop_before_or_after_the_call_counts(self) -> None:
        for at in (CALLED - CLOCK_ERROR - 1, RETURNED + CLOCK_ERROR + 1):
            self.assertTrue(self.left(DESTROYED, at, recovery()))

    def test_stop_while_the_instance_is_waited_for_counts(self) -> None:
        ended = recovery(finished_at=RETURNED + 60 * SECOND)
        self.assertTrue(self.left(DESTROYED, RETURNED + 5 * SECOND, ended))

    def test_failure_during_the_call_counts(self) -> None:
        for cause in ("lifecycle.stopped/failed", "lifecycle.started/booted", "io_error/pause"):
            self.assertTrue(self.left(cause, CALLED + SECOND, recovery()))

    def test_operation_of_nova_during_the_call_is_left_out(self) -> None:
        self.assertFalse(self.left("nova.power_off/start", CALLED + SECOND, recovery()))

    def test_recovery_that_called_no_driver_leaves_out_nothing(self) -> None:
        requested = recovery(called_at=None, returned_at=None)
        self.assertTrue(self.left(DESTROYED, CALLED, requested))

    def test_call_that_has_not_returned_lasts_until_now(self) -> None:
        running = recovery(returned_at=None)
        self.assertFalse(self.left(DESTROYED, RETURNED + SECOND, running, now=RETURNED + SECOND))

    def test_first_call_of_a_recovery_that_was_taken_over_counts_too(self) -> None:
        taken_over = recovery(called_at=RETURNED, returned_at=None, takeovers=1)
        self.assertFalse(self.left(DESTROYED, CALLED + SECOND, taken_over))

    def causes_left(self, *causes: str, at: int) -> list[str]:
        """Return the causes of the events from a time on that are part of the next verdict."""
        parts = [cause.partition("/") for cause in causes]
        events = [
            samples.stored(at + number, type=kind, detail=detail)
            for number, (kind, _, detail) in enumerate(parts)
        ]
        return [event.cause for event in exclude_own_effects(events, [recovery()], RETURNED)]

    def test_first_event_of_a_stop_is_left_out_with_it(self) -> None:
        causes = ("lifecycle.shutdown/host", DESTROYED)
        self.assertEqual([], self.causes_left(*causes, at=CALLED + SECOND))

    def test_end_of_a_start_during_the_call_counts(self) -> None:
        causes = ["lifecycle.shutdown/host", "control_error"]
        self.assertEqual(causes, self.causes_left(*causes, at=CALLED + SECOND))

    def test_forced_stop_that_a_restarted_agent_reports_late_is_left_out(self) -> None:
        for stop in ("lifecycle.stopped/vanished", "lifecycle.stopped/unknown", DESTROYED):
            causes = ["recovery.ending/begun", stop]
            self.assertEqual(causes[:1], self.causes_left(*causes, at=RETURNED + 60 * SECOND))

    def test_stop_after_a_forced_stop_that_failed_or_is_over_counts(self) -> None:
        stop = "lifecycle.stopped/vanished"
        for end in ("recovery.ending/failed", "lifecycle.started/booted", "recovery.running"):
            causes = ["recovery.ending/begun", end, stop]
            self.assertEqual(causes, self.causes_left(*causes, at=RETURNED + 60 * SECOND))

    def test_failure_after_a_forced_stop_has_begun_counts(self) -> None:
        causes = ["recovery.ending/begun", "lifecycle.stopped/failed"]
        self.assertEqual(causes, self.causes_left(*causes, at=RETURNED + 60 * SECOND))
