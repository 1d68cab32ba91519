# SPDX-License-Identifier: Apache-2.0
"""Corrects the times in messages of hosts whose clocks differ from the engines' clock."""

import threading
from collections.abc import Callable

from oslo_log import log

from vmmonitor.db import agents, clock
from vmmonitor.db.session import Database
from vmmonitor.model.clock import at_arrival
from vmmonitor.model.errors import Retriable

LOG = log.getLogger(__name__)

#: Interval at which the offsets are read again, in microseconds.
REFRESH_INTERVAL = 10_000_000


class ClockOffsets:
    """What to add to the times that hosts tell; read now and then, not for each batch."""

    def __init__(self, database: Database, ticks: Callable[[], int] = clock.monotonic):
        """Read nothing yet.

        :param ticks: returns microseconds of a clock that nobody sets.
        """
        self._database = database
        self._ticks = ticks
        self._known: dict[str, int] = {}
        self._read_at: int | None = None
        self._one_reads = threading.Lock()

    def of(self, host: str, sent_at: int, received_at: int) -> int:
        """Return the microseconds to add to the times in a message of a host.

        :param sent_at: when it left, by the host's clock; microseconds since the epoch.
        :param received_at: when it came, by the engines' clock.
        """
        if self._read_at is None or self._ticks() - self._read_at > REFRESH_INTERVAL:
            self._read()
        known = self._known.get(host, 0)
        correction = at_arrival(known, received_at - sent_at)
        if correction != known:
            # The host's next report will say so too; until then its messages agree.
            self._known[host] = correction
        return correction

    def _read(self) -> None:
        """Read what the reports told, unless another thread is at it; without a database what
        was known goes on."""
        if not self._one_reads.acquire(blocking=False):
            return
        try:
            with self._database.reader() as tx:
                self._known = agents.corrections(tx)
        except Retriable as error:
            LOG.debug("The hosts' clocks are not read: %s", error)
        finally:
            self._read_at = self._ticks()
            self._one_reads.release()
