# SPDX-License-Identifier: Apache-2.0
"""Detects steps of the engines' own clock."""

from collections.abc import Callable

from vmmonitor.db import clock

#: Minimum difference from the monotonic clock that counts as a clock step, in microseconds.
MIN_STEP = 2_000_000


class ClockStepDetector:
    """Compares the engines' clock with a monotonic clock."""

    def __init__(self, ticks: Callable[[], int] = clock.monotonic):
        """Create a detector; the first check only sets the reference.

        :param ticks: returns the time of a monotonic clock, in microseconds.
        """
        self._ticks = ticks
        self._last: tuple[int, int] | None = None

    def check(self, now: int) -> tuple[int, int] | None:
        """Return the time since the last check and the clock step since then, in microseconds.

        The step is 0 if it is not larger than MIN_STEP. The first check returns None.

        :param now: time of the clock that may be stepped; microseconds since the epoch.
        """
        ticks = self._ticks()
        last, self._last = self._last, (now, ticks)
        if last is None:
            return None
        passed = ticks - last[1]
        step = now - last[0] - passed
        return passed, step if abs(step) > MIN_STEP else 0
