# SPDX-License-Identifier: Apache-2.0
"""The engines' time on this host, which does not depend on the host's own clock.

The time is counted with CLOCK_BOOTTIME, which continues while the host is suspended and while the
agent is stopped, and does not step. Each answer of an engine that has the engines' time bounds the
offset: the time was read between the call and its answer.
"""

import threading
import time
from collections.abc import Callable

#: Assumed maximum difference between the rates of the two clocks, in parts per million.
DRIFT_PPM = 200


def read_boottime() -> int:
    """Return CLOCK_BOOTTIME, in microseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class EngineClock:
    """Bounds the offset between the engines' clock and CLOCK_BOOTTIME. Thread-safe."""

    def __init__(self, read_ticks: Callable[[], int] = read_boottime):
        """Start without a sample.

        :param read_ticks: returns a clock that never stops or steps, in microseconds.
        """
        self.read_ticks = read_ticks
        self._lock = threading.Lock()
        #: (lowest offset, highest offset, ticks of the newest sample); None before the first one.
        self._bounds: tuple[int, int, int] | None = None

    def add_sample(self, engine_time: int, sent: int, received: int) -> None:
        """Add a sample of the engines' time.

        A sample that contradicts earlier ones shows a step of the engines' clock and replaces
        them.

        :param engine_time: the engines' time between ``sent`` and ``received``; microseconds since
            the epoch.
        :param sent: ticks before the call.
        :param received: ticks after the answer.
        """
        low, high = engine_time - received, engine_time - sent
        with self._lock:
            if self._bounds:
                known_low, known_high, at = self._bounds
                drift = max(0, received - at) * DRIFT_PPM // 1_000_000
                known_low, known_high = known_low - drift, known_high + drift
                if low <= known_high and known_low <= high:
                    low, high = max(low, known_low), min(high, known_high)
            self._bounds = (low, high, received)

    def now(self) -> int | None:
        """Return the latest time that it can be for the engines; None if it is not known.

        :returns: microseconds since the epoch.
        """
        with self._lock:
            if self._bounds is None:
                return None
            _, high, at = self._bounds
        ticks = self.read_ticks()
        return ticks + high + max(0, ticks - at) * DRIFT_PPM // 1_000_000
