# SPDX-License-Identifier: Apache-2.0
"""The threads of one engine that work on incidents, and which of them has which in hand."""

import math
import threading
import time
from collections.abc import Callable

#: Does the work; returns whether it may be looked for again at once.
Work = Callable[[], bool]


class Workers:
    """A limited number of threads, each with an incident of its own in hand."""

    def __init__(self, count: int, pause: float, freed: Callable[[], None]):
        """Start nothing yet.

        :param count: greatest number of threads.
        :param pause: seconds for which an incident whose work went wrong is left alone, so that
            it neither keeps an engine busy nor comes before all others every time.
        :param freed: called when a thread has ended, if one was wanted in vain meanwhile.
        """
        self._count = count
        self._pause = pause
        self._freed = freed
        self._stopping = False
        self._turned_away = False
        self._at_work = 0
        self._changed = threading.Condition()
        #: incident_id -> (whose it is, monotonic time until which it is not taken up again)
        self._in_hand: dict[str, tuple[object, float]] = {}

    def __len__(self) -> int:
        """Return how many incidents are not to be taken up now."""
        now = time.monotonic()
        with self._changed:
            self._in_hand = {key: held for key, held in self._in_hand.items() if held[1] > now}
            return len(self._in_hand)

    def take(self, incident_id: str, work: Work) -> bool:
        """Have a thread do the work; returns False if no thread is free, or not for this."""
        with self._changed:
            _, until = self._in_hand.get(incident_id, (None, -math.inf))
            full = self._at_work >= self._count
            if self._stopping or full or until > time.monotonic():
                self._turned_away = True
                return False
            # NOTE: a thread for each, not a pool: what hangs must not keep the process from
            # ending, as the threads of concurrent.futures do.
            mark = object()
            thread = threading.Thread(
                target=self._run, args=(incident_id, mark, work), name="recovery", daemon=True
            )
            self._in_hand[incident_id] = (mark, math.inf)
            self._at_work += 1
        thread.start()
        return True

    def let_go(self, incident_id: str) -> None:
        """Give up on the work on an incident: it may be taken up again, the thread is lost."""
        with self._changed:
            self._in_hand.pop(incident_id, None)

    def stop(self, deadline: float) -> bool:
        """Take nothing any more; returns whether every thread ended in time.

        :param deadline: monotonic time.
        """
        with self._changed:
            self._stopping = True
            return self._changed.wait_for(
                lambda: not self._at_work, max(0.0, deadline - time.monotonic())
            )

    def _run(self, incident_id: str, mark: object, work: Work) -> None:
        well = False
        try:
            well = work()
        finally:
            with self._changed:
                self._at_work -= 1
                if self._in_hand.get(incident_id, (None, 0.0))[0] is mark:
                    until = -math.inf if well else time.monotonic() + self._pause
                    self._in_hand[incident_id] = (mark, until)
                self._changed.notify_all()
                wanted, self._turned_away = self._turned_away, False
            if wanted:
                self._freed()
