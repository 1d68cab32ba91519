# SPDX-License-Identifier: Apache-2.0
"""Ends storms, makes their probes due, and counts the instances of each host.

Every engine runs this; the rows of the storms are locked, so several engines do not conflict.
"""

import time

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import incidents, limits, storms
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.admission.circuit_breaker import Census, CircuitBreaker
from vmmonitor.engine.incidents.storm_ending import STORAGE, end_storm
from vmmonitor.expectation import Expectation
from vmmonitor.model import states
from vmmonitor.model.clock import SECOND
from vmmonitor.model.errors import Conflict
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.states import IncidentState
from vmmonitor.periodic import PeriodicThread

LOG = log.getLogger(__name__)

#: Interval of evaluations of open storms, in seconds.
EVALUATE_INTERVAL = 1.0
#: Interval of readings of the instances and aggregates of all hosts, in seconds.
CENSUS_INTERVAL = 60.0


class StormMonitor:
    """Evaluates open storms, and keeps the census of the circuit breaker current."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        breaker: CircuitBreaker,
        expectation: Expectation,
    ):
        """Prepare the threads without starting them.

        :param breaker: its census is replaced at an interval.
        """
        self._options = conf.storm
        self._database = database
        self._breaker = breaker
        self._expectation = expectation
        self._threads = [
            PeriodicThread(
                "storm-monitor",
                self.evaluate_storms,
                lambda: EVALUATE_INTERVAL,
                failure="Storm evaluation failed, active storms are not updated",
            ),
            PeriodicThread(
                "storm-census",
                self.take_census,
                lambda: CENSUS_INTERVAL,
                failure="Instance count failed, percentage limits use the last value",
            ),
        ]

    def start(self) -> None:
        """Start the threads; the first census is taken at once."""
        for thread in self._threads:
            thread.start()
        self._threads[1].wake()

    def stop(self, timeout: float) -> None:
        """Stop after the work in progress.

        :param timeout: maximum time to wait, in seconds.
        """
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.stopping.set()
        for thread in self._threads:
            thread.stop(max(0.0, deadline - time.monotonic()))

    def take_census(self) -> None:
        """Read the number of instances of each host, and the host aggregates.

        :raises vmmonitor.model.errors.Retriable: the database is away.
        """
        with self._database.reader() as tx:
            instances = storms.count_instances(tx)
        known = self._breaker.census.aggregates
        self._breaker.census = Census(instances=instances, aggregates=known)
        try:
            aggregates = self._expectation.aggregates()
        except Exception as error:
            LOG.warning("Could not read the host aggregates: %s", error)
            return
        self._breaker.census = Census(
            instances=instances,
            aggregates={str(name): frozenset(hosts) for name, hosts in aggregates.items()},
        )

    def evaluate_storms(self) -> None:
        """Evaluate each open storm.

        :raises vmmonitor.model.errors.Retriable: the database is away.
        """
        with self._database.reader() as tx:
            open_ids = storms.list_open_ids(tx)
        for incident_id in open_ids:
            try:
                self._database.run(self._end_if_over, incident_id)
                self._database.run(self._make_probe_due, incident_id)
            except Conflict as error:
                LOG.debug("Another engine updated storm %s first: %s", incident_id, error)

    def _end_if_over(self, tx: Transaction, incident_id: str) -> None:
        """End a storm that is over; its row stays locked for the transaction."""
        storm = incidents.lock(tx, incident_id)
        if storm.state not in states.OPEN_INCIDENT_STATES:
            return
        now = self._database.now()
        if storm.updated_at > now:
            # The engines' clock stepped back: count the cooldown from now.
            incidents.set_reason(tx, storm, storm.reason, now)
            return
        find_reason = self._why_storage_healed if storm.cause == STORAGE else self._why_calm
        if reason := find_reason(tx, storm, now):
            end_storm(tx, storm, reason, now)

    def _why_calm(self, tx: Transaction, storm: Incident, now: int) -> str:
        """Return why a storm of a host, an aggregate or the cloud is over; empty if it is not."""
        cooldown = self._options.cooldown
        if now - storm.updated_at >= cooldown * SECOND:
            return f"no failure for {cooldown:g} s"
        scope = self._breaker.scope_of(storm.shared_cause)
        limit = self._breaker.limit(scope)
        if limit is None or not self._breaker.is_counted(scope):
            return ""
        since = storm.opened_at - round(self._options.window * SECOND)
        others = sum(scope.select(self._breaker.count(tx, since, now, storm.incident_id)))
        failures = others + storms.count_members(tx, storm.incident_id)
        if failures > limit:
            return ""
        return (
            f"the other incidents were planned or transient, {failures} failures are not a storm"
        )

    def _why_storage_healed(self, tx: Transaction, storm: Incident, now: int) -> str:
        """Return why a storm of a storage is over; empty if it is not."""
        stable_since = now - round(self._options.probe_success_delay * SECOND)
        if storms.has_recovered_instance(tx, storm.shared_cause, storm.opened_at, stable_since):
            return "an instance on this storage runs again"
        if not storms.has_waiting_member(tx, storm.shared_cause):
            return "no instance waits for this storage any longer"
        return ""

    def _make_probe_due(self, tx: Transaction, incident_id: str) -> None:
        """Make the first member of a storage's storm due, when the next probe may begin.

        The storm's row is not locked, as a member that is being decided may need it.
        """
        storm = storms.find(tx, incident_id)
        now = self._database.now()
        if storm is None or storm.cause != STORAGE or now < storm.hold_until:
            return
        first = storms.find_first_member(tx, incident_id)
        if first and first.state == IncidentState.RECOVERING:
            limits.make_due(tx, first.incident_id, now, HoldReason.STORM)
        elif first and first.hold_until > now:
            incidents.reschedule(tx, first, now, first.reason, now)
