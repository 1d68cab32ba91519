# SPDX-License-Identifier: Apache-2.0
"""Recognize calls that arrive a second time."""

import collections
import threading


class NonceMemory:
    """Remembers the nonces of the calls of each host, a limited number.

    When a host has more calls within the clock window than are remembered, calls that are as old
    as the forgotten ones are refused: its agent signs them again. Only authentic calls may be
    checked, so that others cannot fill the memory.
    """

    def __init__(self, window: int, limit: int = 1024):
        """Create an empty memory.

        :param window: maximum difference of the time of a call to that of its receiver, in
            microseconds, in both directions.
        :param limit: maximum number of remembered calls of one host.
        """
        self._window = window
        self._limit = limit
        self._lock = threading.Lock()
        self._calls: dict[str, collections.OrderedDict[str, int]] = {}
        self._floors: dict[str, int] = {}

    def is_new(self, host: str, nonce: str, sent_at: int) -> bool:
        """Return whether a call is new, and remember it.

        :param sent_at: the time in the call, in microseconds; its receiver has found it to be
            within the window.
        """
        with self._lock:
            calls = self._calls.setdefault(host, collections.OrderedDict())
            if nonce in calls or sent_at <= self._floors.get(host, -1):
                return False
            calls[nonce] = sent_at
            self._forget(host, calls, sent_at)
            return True

    def _forget(self, host: str, calls: "collections.OrderedDict[str, int]", now: int) -> None:
        """Forget calls that the clock window refuses, and the oldest ones above the limit."""
        while calls:
            nonce, sent_at = next(iter(calls.items()))
            expired = sent_at < now - 2 * self._window
            if not expired and len(calls) <= self._limit:
                return
            del calls[nonce]
            self._floors[host] = max(sent_at, self._floors.get(host, -1))
