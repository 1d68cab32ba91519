# SPDX-License-Identifier: Apache-2.0
"""The database's clock, read without asking it each time."""

import logging
import threading
import time
from collections.abc import Callable

from vmmonitor.model import errors

LOG = logging.getLogger(__name__)

#: Microseconds after which the database is asked again.
FRESH = 10_000_000


def monotonic() -> int:
    """Return microseconds of a clock that nobody sets."""
    return time.monotonic_ns() // 1000


class Clock:
    """Tells the database's time, so that engines whose own clocks differ agree on leases.

    Between two questions it counts with the monotonic clock: setting the local clock, however
    far, moves nothing.
    """

    def __init__(self, ask: Callable[[], int], ticks: Callable[[], int] = monotonic):
        """Ask nothing yet.

        :param ask: returns the database's clock; microseconds since the epoch.
        :param ticks: returns microseconds since some fixed moment.
        """
        self._ask = ask
        self._ticks = ticks
        self._one_asks = threading.Lock()
        self._offset: int | None = None
        self._asked_at = 0

    def now(self) -> int:
        """Return the database's time; microseconds since the epoch.

        :raises vmmonitor.model.errors.Retriable: it was never known, and the database is away.
        """
        offset = self._offset
        if offset is None or self._ticks() - self._asked_at > FRESH:
            offset = self._renewed(offset)
        return offset + self._ticks()

    def _renewed(self, known: int | None) -> int:
        """Ask the database, unless another thread is at it and the old answer will do."""
        if not self._one_asks.acquire(blocking=known is None):
            assert known is not None
            return known
        try:
            if self._offset is None or self._ticks() - self._asked_at > FRESH:
                self._measure()
        finally:
            self._one_asks.release()
        assert self._offset is not None
        return self._offset

    def _measure(self) -> None:
        """Ask three times and believe the quickest answer; keep the old one if there is none."""
        answers = []
        try:
            for _ in range(3):
                before = self._ticks()
                told = self._ask()
                after = self._ticks()
                answers.append((after - before, told - (before + after) // 2))
        except errors.Retriable as error:
            if self._offset is None:
                raise
            LOG.warning("The database's clock cannot be read, counting on: %s", error)
        if answers:
            self._offset = min(answers)[1]
        self._asked_at = self._ticks()
