# SPDX-License-Identifier: Apache-2.0
"""Finds incidents and recoveries that are due, and hands them to the worker threads.

Incidents that ingest opened without a hold go to a worker directly. The thread
"recovery-dispatch" finds everything else: incidents whose hold is over, recoveries that are due,
whose engine died, or whose instance did not run in time. Every engine searches the whole database;
guarded UPDATEs decide which engine acts.
"""

import functools
import operator
import threading
import time
from collections.abc import Mapping, Sequence

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import incidents, limits, recoveries, reviews
from vmmonitor.db.session import Database, Transaction
from vmmonitor.drivers import HostAgents
from vmmonitor.engine.admission import Admission
from vmmonitor.engine.clock_steps import ClockStepDetector
from vmmonitor.engine.incidents.requests import OperatorRequests
from vmmonitor.engine.recovery.attempts import Attempts
from vmmonitor.engine.recovery.confirmation import Confirmation
from vmmonitor.engine.recovery.decisions import Decisions
from vmmonitor.engine.recovery.driver_calls import DriverCalls
from vmmonitor.engine.recovery.drivers import Drivers
from vmmonitor.engine.recovery.leases import LeaseKeeper
from vmmonitor.engine.recovery.next_attempts import NextAttempts
from vmmonitor.engine.recovery.other_hosts import OtherHosts
from vmmonitor.engine.recovery.pipeline import RecoveryPipeline
from vmmonitor.engine.recovery.verdicts import Verdicts
from vmmonitor.engine.recovery.workers import AHEAD, Rank, Workers
from vmmonitor.expectation import Expectation
from vmmonitor.model.clock import SECOND
from vmmonitor.model.errors import Retriable
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import RecoveryState
from vmmonitor.rules.policies import Policies

LOG = log.getLogger(__name__)


#: First part of the rank of work that is done after all other work.
LAST = 2**62


class Dispatcher:
    """Finds due work and dispatches it."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        policies: Policies,
        expectation: Expectation,
        drivers: Drivers,
        agents: HostAgents,
        admission: Admission,
    ):
        """Build the parts without starting them.

        :param agents: confirm each failure before a driver is called.
        :param admission: the checks between a verdict and the call of a driver.
        """
        self._conf = conf
        self._database = database
        self._slots = admission.slots
        self._clock_steps = ClockStepDetector()
        #: Monotonic time until which an expired lease of another engine is ignored.
        self._trust_leases_until = 0.0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._workers = Workers(conf.recovery.workers, conf.recovery.poll_interval, self._wake)
        self._attempts = Attempts(conf, policies, database.now)
        self._leases = LeaseKeeper(conf, database, self._workers, self._attempts.claims.owner)
        self._requests = OperatorRequests(database, self._attempts)
        self._calls = DriverCalls(conf, database, self._attempts, drivers, self._leases)
        self.pipeline = RecoveryPipeline(
            database=database,
            verdicts=Verdicts(conf, expectation, OtherHosts(database, expectation)),
            confirmation=Confirmation(conf, agents),
            decisions=Decisions(conf, self._attempts, admission.checks, database.now),
            next_attempts=NextAttempts(conf, self._attempts, admission, database.now),
            attempts=self._attempts,
            calls=self._calls,
        )
        self._thread = threading.Thread(target=self._run, name="recovery-dispatch", daemon=True)

    def use_policies(self, policies: Policies) -> None:
        """Decide by these policies from now on."""
        self._attempts.policies = policies

    def start(self) -> None:
        """Start the threads."""
        self._leases.start()
        self._thread.start()

    def enqueue(self, incidents: Sequence[Incident]) -> None:
        """Accept incidents whose hold has just been set; start those without a hold."""
        now = self._database.now()
        for incident in incidents:
            if incident.hold_until <= now:
                self._dispatch(incident, _rank(incident, {}))
            else:
                self._wake.set()

    def wake(self) -> None:
        """Search for due work now: a concurrency slot became free."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """Start nothing else and wait for the calls in progress.

        Another engine takes over the recoveries that do not end in time.

        :param timeout: maximum time to wait, in seconds.
        """
        deadline = time.monotonic() + timeout
        self._stopping.set()
        self._calls.stop()
        self._wake.set()
        if not self._workers.stop(deadline):
            LOG.warning("Recoveries are still in progress; another engine takes them over")
        self._leases.stop(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    # -- the dispatch thread -------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._stopping.is_set():
                return
            try:
                pause = self._dispatch_due()
            except Retriable as error:
                LOG.warning("Could not query for due recoveries: %s", error)
                self._trust_leases()
                pause = self._conf.recovery.poll_interval
            except Exception:
                LOG.exception("Could not query for due recoveries")
                self._trust_leases()
                pause = self._conf.recovery.poll_interval
            self._wake.wait(pause)

    def _dispatch_due(self) -> float:
        """Carry out operator requests, then dispatch all due work by priority and age.

        :returns: the time until the next search, in seconds.
        """
        self._requests.carry_out_due()
        now = self._database.now()
        self._admit_queued(now)
        work, priorities, next_due = self._find_due(now)
        ranked = [(_rank(subject, priorities), subject) for subject in work]
        for rank, subject in sorted(ranked, key=operator.itemgetter(0)):
            self._dispatch(subject, rank)
        self._review_unhandled(now)
        return min([self._conf.recovery.poll_interval, *next_due])

    def _admit_queued(self, now: int) -> None:
        """Make the queued incidents due that can have a slot."""
        with self._database.reader() as tx:
            incident_ids = self._slots.next(tx, now)
        for incident_id in incident_ids:
            self._database.run(limits.make_due, incident_id, now)

    def _find_due(
        self, now: int
    ) -> tuple[list[Incident | Recovery], Mapping[str, int], list[float]]:
        """Return due work, the priorities of its recoveries, and the times to the next work."""
        limit = self._conf.recovery.workers * AHEAD + len(self._workers)
        with self._database.reader() as tx:
            work: list[Incident | Recovery] = [
                *incidents.due(tx, now, limit),
                *self._without_trusted_leases(_recoveries_due(tx, now, limit), now),
            ]
            moments = (incidents.next_due(tx, now), recoveries.next_due(tx, now))
            incident_ids = [each.incident_id for each in work if isinstance(each, Recovery)]
            priorities = limits.priorities(tx, incident_ids) if incident_ids else {}
        return work, priorities, [(moment - now) / SECOND for moment in moments if moment]

    def _without_trusted_leases(self, due: Sequence[Recovery], now: int) -> Sequence[Recovery]:
        """Leave out running recoveries after the clock stepped forward, and after an error of the
        database.

        A live engine renews by then a lease that only seems to have expired, and stores the
        outcome of its driver.
        """
        step = self._clock_steps.check(now)
        if step and step[1] > 0:
            self._trust_leases()
        if time.monotonic() >= self._trust_leases_until:
            return due
        return [
            recovery
            for recovery in due
            if recovery.state != RecoveryState.RUNNING or self._calls.has_pending_outcome(recovery)
        ]

    def _trust_leases(self) -> None:
        """Take over nothing for one lease time: live engines renew their leases by then."""
        self._trust_leases_until = time.monotonic() + self._conf.recovery.lease

    def _review_unhandled(self, now: int) -> None:
        """Have unhandled incidents judged again, after all other work."""
        interval = self._conf.recovery.unhandled_interval
        if not interval:
            return
        before = now - round(interval * SECOND)
        with self._database.reader() as tx:
            found = reviews.unhandled_since(tx, before, self._conf.recovery.workers)
        for number, incident in enumerate(found):
            work = functools.partial(self.pipeline.review, incident, before)
            self._workers.submit(incident.incident_id, work, (LAST, number))

    def _dispatch(self, subject: Incident | Recovery, rank: Rank) -> None:
        work = (
            functools.partial(self.pipeline.examine, subject)
            if isinstance(subject, Incident)
            else functools.partial(self._resume, subject)
        )
        self._workers.submit(subject.incident_id, work, rank)

    def _resume(self, recovery: Recovery) -> bool:
        """Continue a recovery.

        If the database fails during a takeover, the owner of the recovery could neither renew its
        lease nor store the outcome, and must have the time for that.
        """
        try:
            return self.pipeline.resume(recovery)
        except Retriable:
            if recovery.state == RecoveryState.RUNNING:
                self._trust_leases()
            raise


def _recoveries_due(tx: Transaction, now: int, limit: int) -> list[Recovery]:
    """Return the due recoveries; mostly there are none, which costs one small query."""
    first = recoveries.next_due(tx, 0)
    return recoveries.due(tx, now, limit) if first is not None and first <= now else []


def _rank(subject: Incident | Recovery, priorities: Mapping[str, int]) -> Rank:
    """Return the order of work: by priority, then by the time since which it is due.

    :param priorities: incident id -> priority, for the incidents of recoveries.
    """
    if isinstance(subject, Incident):
        # Order queued incidents by age, so that newer ones cannot overtake.
        is_queued = subject.held_by == HoldReason.CONCURRENCY
        return -subject.priority, subject.opened_at if is_queued else subject.hold_until
    due_since = {
        RecoveryState.REQUESTED: subject.not_before,
        RecoveryState.RUNNING: subject.lease_until,
        RecoveryState.WAITING: subject.look_at or subject.wait_until,
    }
    return -priorities.get(subject.incident_id, 0), due_since[subject.state]
