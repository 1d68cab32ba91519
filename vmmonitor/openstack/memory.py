# SPDX-License-Identifier: Apache-2.0
"""Remembers answers for a while."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memory(Generic[T]):
    """Answers by key, each for some seconds, so many at most; for any thread.

    Two who ask at once may both ask, and one that does not answer keeps nobody else waiting.
    """

    def __init__(
        self, seconds: float, most: int = 1000, now: Callable[[], float] = time.monotonic
    ):
        """Remember nothing yet.

        :param most: entries; beyond that all is forgotten.
        :param now: seconds.
        """
        self._seconds = seconds
        self._most = most
        self._now = now
        self._known: dict[str, tuple[float, T]] = {}

    def get(self, key: str, ask: Callable[[], T]) -> T:
        """Return what is remembered of a key; otherwise ask, and pass on what that raises."""
        known = self._known.get(key)
        if known and self._now() < known[0]:
            return known[1]
        answer = ask()
        if len(self._known) >= self._most:
            self._known = {}
        self._known[key] = (self._now() + self._seconds, answer)
        return answer
