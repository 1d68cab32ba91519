# SPDX-License-Identifier: Apache-2.0
"""The worker threads of one engine, and the incidents that they work on."""

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

#: Maximum number of incidents per thread, in progress or queued.
AHEAD = 8

#: Does the work, and returns whether something else may be due afterwards.
Work = Callable[[], bool]

#: Position of work in the queue: the smallest first.
Rank = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class QueuedWork:
    """Work that waits for a thread.

    :param position: its rank, then its number.
    :param token: identifies this submission.
    """

    position: tuple[Rank, int]
    incident_id: str
    token: object
    work: Work


class Workers:
    """A limited number of threads that work on one incident after another.

    The threads of ``concurrent.futures`` are not used: one that hangs would keep the process from
    ending.
    """

    def __init__(self, count: int, pause: float, wake: threading.Event):
        """Start without threads.

        :param count: maximum number of threads.
        :param pause: delay, in seconds, before an incident is accepted again after its work
            raised, so that it neither keeps an engine busy nor delays others each time.
        :param wake: set when something may be due, or when there is room for refused work.
        """
        self._count = count
        self._pause = pause
        self._wake = wake
        self._stopping = False
        self._refused_work = False
        self._threads = 0
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        #: Queued work, in the order of execution.
        self._queue: list[QueuedWork] = []
        #: incident_id -> (token of its work, monotonic time until which it is not accepted again)
        self._in_progress: dict[str, tuple[object, float]] = {}

    def __len__(self) -> int:
        """Return the number of incidents that are not accepted now."""
        now = time.monotonic()
        with self._changed:
            self._in_progress = {
                incident_id: entry
                for incident_id, entry in self._in_progress.items()
                if entry[1] > now
            }
            return len(self._in_progress)

    def submit(self, incident_id: str, work: Work, rank: Rank = (0, 0)) -> None:
        """Queue work, unless its incident is in progress or the queue is full.

        In a full queue the last entry makes room for work of a smaller rank.

        :param rank: the smallest is done first; equal ranks in the order of their submission.
        """
        with self._changed:
            until = self._in_progress.get(incident_id, (None, -math.inf))[1]
            if self._stopping or until > time.monotonic():
                return
            self._refused_work = len(self._queue) + self._threads >= self._count * AHEAD
            if self._refused_work and not self._make_room(rank):
                return
            token = object()
            self._in_progress[incident_id] = (token, math.inf)
            entry = QueuedWork((rank, next(self._numbers)), incident_id, token, work)
            bisect.insort(self._queue, entry, key=lambda queued: queued.position)
            if self._threads < self._count:
                threading.Thread(target=self._run, name="recovery", daemon=True).start()
                self._threads += 1

    def _make_room(self, rank: Rank) -> bool:
        """Drop the last entry if its rank is greater; the next search finds it again."""
        if not self._queue or self._queue[-1].position[0] <= rank:
            return False
        self._in_progress.pop(self._queue.pop().incident_id, None)
        return True

    def release(self, incident_id: str) -> None:
        """Accept work on an incident again although its thread has not returned."""
        with self._changed:
            self._in_progress.pop(incident_id, None)

    def stop(self, deadline: float) -> bool:
        """Begin nothing else, and return whether every thread ended in time.

        :param deadline: monotonic time.
        """
        with self._changed:
            self._stopping = True
            self._queue.clear()
            return self._changed.wait_for(
                lambda: not self._threads, max(0.0, deadline - time.monotonic())
            )

    # -- the threads ---------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    self._threads -= 1
                    self._changed.notify_all()
                    return
                entry = self._queue.pop(0)
            more_due = self._do_work(entry.incident_id, entry.work)
            with self._changed:
                if self._in_progress.get(entry.incident_id, (None, 0.0))[0] is entry.token:
                    until = time.monotonic() + self._pause if more_due is None else -math.inf
                    self._in_progress[entry.incident_id] = (entry.token, until)
                has_room = self._refused_work and len(self._queue) < self._count
            # A search costs as much as examining an incident: search only with a reason.
            if more_due or has_room:
                self._wake.set()

    def _do_work(self, incident_id: str, work: Work) -> bool | None:
        """Return the result of the work; None if it raised."""
        try:
            return work()
        except Conflict as error:
            LOG.debug("Another engine changed incident %s first: %s", incident_id, error)
        except Retriable as error:
            LOG.warning("Incident %s will be examined again later: %s", incident_id, error)
        except Exception:
            LOG.exception("Examining incident %s failed", incident_id)
        return None
