# SPDX-License-Identifier: Apache-2.0
"""Threads that repeat one piece of work at an interval until they are stopped.

Example::

    purging = PeriodicThread("housekeeping", self.purge, lambda: conf.housekeeping.interval)
    purging.start()
    ...
    purging.stop(timeout=10)

An error never ends the thread. ``Retriable`` is logged as a warning without a traceback, as the
database, the broker or nova is expected to come back; any other exception is logged with one.
"""

import logging
import threading
from collections.abc import Callable

from vmmonitor.model.errors import Retriable

LOG = logging.getLogger(__name__)


class PeriodicThread:
    """Calls a function at an interval, in a daemon thread of its own."""

    def __init__(
        self,
        name: str,
        work: Callable[[], object],
        interval: Callable[[], float],
        *,
        failure: str = "",
    ):
        """Prepare the thread without starting it.

        :param name: name of the thread.
        :param work: function to call. Its result is ignored.
        :param interval: returns the time from the end of one call to the next, in seconds. It is
            read before each wait, so a changed option applies from the next round.
        :param failure: start of the log line when the work fails, for example ``Agent health
            check failed``; by default ``Periodic work NAME failed``.
        """
        self._work = work
        self._interval = interval
        self._failure = failure or f"Periodic work {name} failed"
        self._wake = threading.Event()
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; the first call follows after one interval."""
        self._thread.start()

    def wake(self) -> None:
        """Start the next call now instead of at the end of the interval."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """Stop after the call in progress.

        :param timeout: maximum time to wait for that call, in seconds.
        """
        self.stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._interval())
            self._wake.clear()
            if self.stopping.is_set():
                return
            try:
                self._work()
            except Retriable as error:
                LOG.warning("%s: %s", self._failure, error)
            except Exception:
                LOG.exception("%s", self._failure)
