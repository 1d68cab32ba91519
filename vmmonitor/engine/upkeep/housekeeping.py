# SPDX-License-Identifier: Apache-2.0
"""Deletes rows that exceed the configured age or number."""

from collections.abc import Callable

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import (
    events,
    fences,
    incidents,
    inventories,
    owners,
    requests,
    silences,
)
from vmmonitor.db.session import Database
from vmmonitor.model.clock import SECOND
from vmmonitor.periodic import PeriodicThread

LOG = log.getLogger(__name__)

DAY = 86400 * SECOND
#: Maximum number of rows that one transaction deletes, which bounds its duration.
CHUNK = 1000
#: ``keep_events`` that keeps all events.
UNLIMITED = 2**62


class Housekeeping:
    """Purges at an interval. Each engine does; simultaneous purges do not conflict."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database):
        """Create the thread; ``start`` starts it."""
        self._conf = conf
        self._database = database
        self._thread = PeriodicThread(
            "housekeeping",
            self.purge,
            lambda: conf.housekeeping.interval,
            failure="Housekeeping failed",
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop after the transaction in progress.

        :param timeout: maximum time to wait for it, in seconds.
        """
        self._thread.stop(timeout)

    def purge(self) -> None:
        """Delete rows older than ``keep_days``, and events beyond ``keep_events``.

        :raises vmmonitor.model.errors.Retriable: the database is not available.
        """
        options = self._conf.housekeeping
        before = self._database.now() - options.keep_days * DAY if options.keep_days else 0
        keep = options.keep_events or UNLIMITED
        self._purge_in_chunks("incidents", incidents.purge, before)
        self._purge_in_chunks("events", events.purge, before, keep)
        self._purge_in_chunks("requests", requests.purge, before)
        self._purge_in_chunks("lost instances", inventories.purge_lost, before)
        self._purge_in_chunks("owners", owners.purge, before)
        self._purge_in_chunks("silences", silences.purge, before)
        self._purge_in_chunks("fence tokens", fences.purge, before)

    def _purge_in_chunks(self, name: str, purge: Callable[..., int], *args: int) -> None:
        """Purge one table until it is done or the engine stops.

        :param args: arguments of ``purge`` between the transaction and the number of rows.
        """
        total = 0
        while not self._thread.stopping.is_set():
            deleted = self._database.run(purge, *args, CHUNK)
            total += deleted
            if deleted < CHUNK:
                break
        if total:
            LOG.info("Purged %d %s beyond the retention limit", total, name)
