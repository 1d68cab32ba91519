# SPDX-License-Identifier: Apache-2.0
"""The threads of one engine that work on incidents, and which incidents it has in hand."""

import bisect
import dataclasses
import itertools
import math
import threading
import time
from collections.abc import Callable

from oslo_log import log

from vmmonitor.model.errors import Conflict, Retriable

LOG = log.getLogger(__name__)

#: Incidents that a thread has in hand or before it, at most.
AHEAD = 8

#: Does the work; returns whether something else may be due then.
Work = Callable[[], bool]


#: Where work comes in the line: the least first.
Rank = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """Work that waits for a thread.

    :param place: its rank, and then its number.
    """

    place: tuple[Rank, int]
    incident_id: str
    mark: object
    work: Work


class Workers:
    """A limited number of threads, which work on one incident after another.

    NOTE: not one of concurrent.futures, whose threads keep the process from ending while one
    hangs.
    """

    def __init__(self, count: int, pause: float, look: Callable[[], None]):
        """Start nothing yet.

        :param count: greatest number of threads.
        :param pause: seconds for which an incident whose work went wrong is left alone, so that
            it neither keeps an engine busy nor comes before all others every time.
        :param look: called when something may be due, or there is room for what was refused.
        """
        self._count = count
        self._pause = pause
        self._look = look
        self._stopping = False
        self._crowded = False
        self._threads = 0
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        #: In the order in which it is done.
        self._waiting: list[Entry] = []
        #: incident_id -> (for which work, monotonic time until which it is not taken up again)
        self._in_hand: dict[str, tuple[object, float]] = {}

    def __len__(self) -> int:
        """Return how many incidents are not to be taken up now."""
        now = time.monotonic()
        with self._changed:
            self._in_hand = {key: held for key, held in self._in_hand.items() if held[1] > now}
            return len(self._in_hand)

    def take(self, incident_id: str, work: Work, rank: Rank = (0, 0)) -> None:
        """Have a thread do the work soon, unless the incident is in hand, or too many are that do
        not come after it: of those that do, the last makes room.

        :param rank: the least is done first, equals in the order in which they came.
        """
        with self._changed:
            until = self._in_hand.get(incident_id, (None, -math.inf))[1]
            if self._stopping or until > time.monotonic():
                return
            self._crowded = len(self._waiting) + self._threads >= self._count * AHEAD
            if self._crowded and not self._make_room(rank):
                return
            mark = object()
            self._in_hand[incident_id] = (mark, math.inf)
            entry = Entry((rank, next(self._numbers)), incident_id, mark, work)
            bisect.insort(self._waiting, entry, key=lambda one: one.place)
            if self._threads < self._count:
                threading.Thread(target=self._run, name="recovery", daemon=True).start()
                self._threads += 1

    def _make_room(self, rank: Rank) -> bool:
        """Drop the last that waits if it comes after; whoever looks finds it again."""
        if not self._waiting or self._waiting[-1].place[0] <= rank:
            return False
        self._in_hand.pop(self._waiting.pop().incident_id, None)
        return True

    def let_go(self, incident_id: str) -> None:
        """Give up on the work on an incident: it may be taken up again, the thread is lost."""
        with self._changed:
            self._in_hand.pop(incident_id, None)

    def stop(self, deadline: float) -> bool:
        """Begin nothing any more; returns whether every thread ended in time.

        :param deadline: monotonic time.
        """
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            return self._changed.wait_for(
                lambda: not self._threads, max(0.0, deadline - time.monotonic())
            )

    # -- the threads ---------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._threads -= 1
                    self._changed.notify_all()
                    return
                entry = self._waiting.pop(0)
            more = self._work(entry.incident_id, entry.work)
            with self._changed:
                if self._in_hand.get(entry.incident_id, (None, 0.0))[0] is entry.mark:
                    until = time.monotonic() + self._pause if more is None else -math.inf
                    self._in_hand[entry.incident_id] = (entry.mark, until)
                room = self._crowded and len(self._waiting) < self._count
            # A look costs as much as examining an incident: none without a reason.
            if more or room:
                self._look()

    def _work(self, incident_id: str, work: Work) -> bool | None:
        """Return what the work does; None if it went wrong."""
        try:
            return work()
        except Conflict as error:
            LOG.debug("Another was faster with incident %s: %s", incident_id, error)
        except Retriable as error:
            LOG.warning("Incident %s is looked at again later: %s", incident_id, error)
        except Exception:
            LOG.exception("Working on incident %s failed", incident_id)
        return None
