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

#: Interval of reading the offsets, in microseconds.
REFRESH_INTERVAL = 10_000_000


class ClockOffsets:
    """Caches the clock offset of each host, as the agents' reports determine it."""

    def __init__(self, database: Database, ticks: Callable[[], int] = clock.monotonic):
        """Create an empty cache, which the first call of ``get`` fills.

        :param ticks: returns the time of a monotonic clock, in microseconds.
        """
        self._database = database
        self._ticks = ticks
        self._offsets: dict[str, int] = {}
        self._read_at: int | None = None
        self._refreshing = threading.Lock()

    def get(self, host: str, sent_at: int, received_at: int) -> int:
        """Return the microseconds to add to the times in a message of a host.

        :param sent_at: host's clock when the message was sent; microseconds since the epoch.
        :param received_at: engines' clock when it was received; microseconds since the epoch.
        """
        if self._read_at is None or self._ticks() - self._read_at > REFRESH_INTERVAL:
            self._refresh()
        known = self._offsets.get(host, 0)
        offset = at_arrival(known, received_at - sent_at)
        if offset != known:
            # Messages up to the host's next report get the same offset.
            self._offsets[host] = offset
        return offset

    def _refresh(self) -> None:
        """Read the offsets unless another thread does; keep the known ones on an error."""
        if not self._refreshing.acquire(blocking=False):
            return
        try:
            with self._database.reader() as tx:
                self._offsets = agents.clock_corrections(tx)
        except Retriable as error:
            LOG.warning(
                "Could not read the clock offsets of the hosts, using known ones: %s", error
            )
        finally:
            self._read_at = self._ticks()
            self._refreshing.release()
