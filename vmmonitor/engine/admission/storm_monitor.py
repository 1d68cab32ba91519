# SPDX-License-Identifier: Apache-2.0
"""Ends storms that are over, and has their members tried: one round a second, in every engine;
any number of them at once do no harm."""

import threading
import time

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import incidents, storms
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.admission.storms import STORAGE, Census, Fuse, release
from vmmonitor.expectation import Expectation
from vmmonitor.model import states
from vmmonitor.model.clock import SECOND
from vmmonitor.model.errors import Conflict, Retriable
from vmmonitor.model.incident import Incident

LOG = log.getLogger(__name__)

ROUND = 1.0
#: Seconds between two looks at the hosts' instances and aggregates.
CENSUS = 60.0


class StormWatch:
    """Looks after the storms that are open, and counts the instances of each host."""

    def __init__(
        self, conf: cfg.ConfigOpts, database: Database, fuse: Fuse, expectation: Expectation
    ):
        """Keep the parts; start nothing.

        :param fuse: is told what is found out about hosts.
        """
        self._options = conf.storm
        self._database = database
        self._fuse = fuse
        self._expectation = expectation
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, name="storm-watch", daemon=True),
            threading.Thread(target=self._count, name="storm-census", daemon=True),
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        """End after what is under way; at most ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        self._stopping.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _watch(self) -> None:
        while not self._stopping.wait(ROUND):
            try:
                self.round()
            except Retriable as error:
                LOG.debug("Nobody looks after the storms: %s", error)
            except Exception:
                LOG.exception("Looking after the storms failed")

    def _count(self) -> None:
        while not self._stopping.is_set():
            try:
                self.count()
            except Retriable as error:
                LOG.debug("The instances are not counted: %s", error)
            except Exception:
                LOG.exception("Counting the instances failed")
            self._stopping.wait(CENSUS)

    def count(self) -> None:
        """Read how many instances there are, and ask for aggregates.

        :raises vmmonitor.model.errors.Retriable: the database is away.
        """
        with self._database.reader() as tx:
            instances = storms.instances(tx)
        known = self._fuse.census.aggregates
        self._fuse.census = Census(instances=instances, aggregates=known)
        try:
            aggregates = self._expectation.aggregates()
        except Exception as error:
            LOG.warning("The host aggregates are not known: %s", error)
            return
        self._fuse.census = Census(
            instances=instances, aggregates={str(k): frozenset(v) for k, v in aggregates.items()}
        )

    def round(self) -> None:
        """Look at every open storm.

        :raises vmmonitor.model.errors.Retriable: the database is away.
        """
        with self._database.reader() as tx:
            open_ones = storms.open_ones(tx)
        for ident in open_ones:
            try:
                self._database.run(self._judge, ident)
                self._database.run(self._have_one_tried, ident)
            except Conflict as error:
                LOG.debug("Another engine was faster with storm %s: %s", ident, error)

    def _judge(self, tx: Transaction, ident: str) -> None:
        """End a storm that is over; its row is locked meanwhile."""
        storm = incidents.lock(tx, ident)
        if storm.state not in states.OPEN_INCIDENT_STATES:
            return
        now = self._database.now()
        if storm.updated_at > now:
            # The engines' clock was put back.
            incidents.set_reason(tx, storm, storm.reason, now)
            return
        why = (
            self._healed(tx, storm, now) if storm.cause == STORAGE else self._calm(tx, storm, now)
        )
        if why:
            release(tx, storm, why, now)

    def _calm(self, tx: Transaction, storm: Incident, now: int) -> str:
        """Return why a storm of a host, an aggregate or the cloud is over; empty if it is not."""
        calm = self._options.cooldown
        if now - storm.updated_at >= calm * SECOND:
            return f"nothing has failed for {calm:g} s"
        scope = self._fuse.scope(storm.shared_cause)
        most = self._fuse.most(scope)
        if most is None or not self._fuse.knows(scope):
            return ""
        since = storm.opened_at - round(self._options.window * SECOND)
        others = sum(scope.of(self._fuse.count(tx, since, now, storm.incident_id)))
        real = others + storms.members(tx, storm.incident_id)
        if real > most:
            return ""
        return f"the others were planned or healed by themselves, {real} failures are no storm"

    def _healed(self, tx: Transaction, storm: Incident, now: int) -> str:
        """Return why a storm of a storage is over; empty if it is not."""
        settled = now - round(self._options.probe_success_delay * SECOND)
        if storms.came_back(tx, storm.shared_cause, storm.opened_at, settled):
            return "an instance on this storage runs again"
        if not storms.waiting_for(tx, storm.shared_cause):
            return "none of its instances waits for it any more"
        return ""

    def _have_one_tried(self, tx: Transaction, ident: str) -> None:
        """Make the most important member of a storage's storm due, when one may be tried.

        The storm's row is not locked: who is judged meanwhile may need it.
        """
        storm = storms.find(tx, ident)
        now = self._database.now()
        if storm is None or storm.cause != STORAGE or now < storm.hold_until:
            return
        first = storms.foremost(tx, ident)
        if first and first.hold_until > now:
            incidents.reschedule(tx, first, now, first.reason, now)
