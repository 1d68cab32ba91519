# SPDX-License-Identifier: Apache-2.0
"""Read the database's clock, without a query for each reading."""

import logging
import threading
import time
from collections.abc import Callable

from vmmonitor.model import errors

LOG = logging.getLogger(__name__)

#: Interval between queries of the database, in microseconds.
FRESH = 10_000_000


def monotonic() -> int:
    """Return the monotonic clock in microseconds."""
    return time.monotonic_ns() // 1000


class Clock:
    """Return the database's time, so that engines with different clocks agree on leases.

    Between queries it counts with the monotonic clock. Steps of the local clock have no effect.
    """

    def __init__(self, ask: Callable[[], int], ticks: Callable[[], int] = monotonic):
        """Set the sources of the time, without a query.

        :param ask: returns the database's clock, in microseconds since the epoch.
        :param ticks: returns microseconds since a fixed time.
        """
        self._ask = ask
        self._ticks = ticks
        self._one_asks = threading.Lock()
        self._offset: int | None = None
        self._asked_at = 0

    def now(self) -> int:
        """Return the database's time; microseconds since the epoch.

        :raises vmmonitor.model.errors.Retriable: the first query failed.
        """
        offset = self._offset
        if offset is None or self._ticks() - self._asked_at > FRESH:
            offset = self._renewed(offset)
        return offset + self._ticks()

    def _renewed(self, known: int | None) -> int:
        """Return the offset after a query of the database.

        While another thread makes the query, return the known offset without waiting.
        """
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
        """Query three times, and use the fastest answer; keep the old offset without an answer."""
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
            LOG.warning("Database clock cannot be read; the last offset is used: %s", error)
        if answers:
            self._offset = min(answers)[1]
        self._asked_at = self._ticks()
