# SPDX-License-Identifier: Apache-2.0
"""Tidies up: what is too old or too much goes. Another thread sees to it that hosts are watched.

Leases that ran out are not its business: the recovery workers look for them all the time.
"""

import threading
import time
from collections.abc import Callable

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import agents, events, incidents, requests, silences
from vmmonitor.db.session import Database
from vmmonitor.engine.upkeep.agent_health import AgentHealth
from vmmonitor.model.errors import Retriable

LOG = log.getLogger(__name__)

DAY = 86400 * 1_000_000
#: Rows that one transaction deletes at most, so that none is long.
CHUNK = 1000


class Housekeeping:
    """One round now and then, in every engine; two at once do no harm."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database):
        """Keep the parts; start nothing."""
        self._conf = conf
        self._database = database
        self._watch = AgentHealth(conf, database)
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._tidy_up, name="housekeeping", daemon=True),
            threading.Thread(target=self._watch_agents, name="agent-watch", daemon=True),
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        """End after the transaction that is under way; at most ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        self._stopping.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _tidy_up(self) -> None:
        while not self._stopping.wait(self._conf.housekeeping.interval):
            try:
                self.purge()
            except Retriable as error:
                LOG.warning("Housekeeping is put off: %s", error)
            except Exception:
                LOG.exception("Housekeeping failed")

    def _watch_agents(self) -> None:
        while not self._stopping.wait(min(1.0, self._conf.housekeeping.interval)):
            try:
                self._watch.round()
            except Retriable as error:
                LOG.debug("Nobody watches the agents: %s", error)
            except Exception:
                LOG.exception("Watching the agents failed")

    def purge(self) -> None:
        """Delete what is older than ``keep_days``, and events beyond ``keep_events``.

        :raises vmmonitor.model.errors.Retriable: the database is away.
        """
        options = self._conf.housekeeping
        before = self._database.now() - options.keep_days * DAY if options.keep_days else 0
        keep = options.keep_events or 2**62
        self._repeat("incidents", incidents.purge, before)
        self._repeat("events", events.purge, before, keep)
        self._repeat("requests", requests.purge, before)
        self._repeat("lost instances", agents.purge_lost, before)
        self._repeat("silences", silences.purge, before)

    def _repeat(self, what: str, purge: Callable[..., int], *args: int) -> None:
        total = 0
        while not self._stopping.is_set():
            deleted = self._database.run(purge, *args, CHUNK)
            total += deleted
            if deleted < CHUNK:
                break
        if total:
            LOG.info("%d %s were too old or too many, and are deleted", total, what)
