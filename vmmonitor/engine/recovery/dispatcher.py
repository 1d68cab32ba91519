# SPDX-License-Identifier: Apache-2.0
"""From a hold that is over to an instance that runs: the recovery workers.

What ingest has just opened, without a hold, goes straight to a worker thread. For all else one
thread, "recovery-dispatch", looks: incidents whose hold is over, recoveries that are to be
started, whose engine died, or that waited in vain. A worker claims what it gets in one
transaction, commits, calls out, and writes down what came of it in another. Every engine looks
at everything; the guarded UPDATEs in the database decide who acts.
"""

import functools
import operator
import threading
import time
from collections.abc import Mapping, Sequence

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import events, incidents, limits, recoveries
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.admission.check import Gate
from vmmonitor.engine.admission.limits import Turns
from vmmonitor.engine.clock_steps import ClockStepDetector
from vmmonitor.engine.incidents import timeline
from vmmonitor.engine.incidents.requests import OperatorRequests
from vmmonitor.engine.reconcile import verdict as reconcile_verdict
from vmmonitor.engine.recovery.attempts import Attempts, Claim
from vmmonitor.engine.recovery.drivers import Drivers
from vmmonitor.engine.recovery.questions import Questions
from vmmonitor.engine.recovery.verdicts import Decisions, Outdated
from vmmonitor.engine.recovery.workers import AHEAD, Rank, Workers
from vmmonitor.expectation import Expectation, operations
from vmmonitor.model.clock import SECOND
from vmmonitor.model.errors import Conflict, Retriable
from vmmonitor.model.event import Event
from vmmonitor.model.incident import HoldReason, Incident, Verdict
from vmmonitor.model.recovery import Outcome, Recovery, RecoveryRequest
from vmmonitor.model.states import RecoveryState
from vmmonitor.rules.policies import Policies

LOG = log.getLogger(__name__)

#: Seconds beyond its time that a driver may take before its recovery may be taken over.
GRACE = 10.0


class Recoveries:
    """Finds what is due and does it."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        policies: Policies,
        expectation: Expectation,
        drivers: Drivers,
        gates: Sequence[Gate] = (),
    ):
        """Keep the parts; start nothing.

        :param gates: asked in this order, and after them whether it is an incident's turn.
        """
        self._turns = Turns(conf)
        last = [self._turns.gate]
        self._attempts = Attempts(conf, policies, database.now, last)
        self._requests = OperatorRequests(database, self._attempts)
        self._decisions = Decisions(conf, self._attempts, [*gates, *last], database.now)
        self._conf = conf
        self._database = database
        self._expectation = expectation
        self._questions = Questions(conf, expectation)
        self._drivers = drivers
        self._clock_steps = ClockStepDetector()
        #: Monotonic time until which nobody's lease counts as having run out.
        self._trust_until = 0.0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._workers = Workers(
            conf.recovery.workers, conf.recovery.poll_interval, look=self._wake.set
        )
        #: Owner of a lease -> (what it is for, monotonic time until which it is renewed).
        self._calls: dict[str, tuple[Claim, float]] = {}
        self._threads = [
            threading.Thread(target=self._dispatch, name="recovery-dispatch", daemon=True),
            threading.Thread(target=self._renew, name="recovery-leases", daemon=True),
        ]

    def use(self, policies: Policies) -> None:
        """Decide by these policies from now on."""
        self._attempts.policies = policies

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def enqueue(self, incidents: Sequence[Incident]) -> None:
        """Accept the incidents whose hold has just been set; start those without a hold."""
        now = self._database.now()
        for incident in incidents:
            if incident.hold_until <= now:
                self._take_up(incident, _rank(incident, {}))
            else:
                self._wake.set()

    def wake(self) -> None:
        """Look for due recoveries soon: a concurrency slot became free."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """Start nothing more and wait for what runs; what does not end is taken over elsewhere.

        :param timeout: seconds.
        """
        deadline = time.monotonic() + timeout
        self._stopping.set()
        self._wake.set()
        if not self._workers.stop(deadline):
            LOG.warning("Some recoveries are still under way, another engine takes them over")
        self._ended.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # -- dispatching ---------------------------------------------------------------------------
    def _dispatch(self) -> None:
        while True:
            self._wake.clear()
            if self._stopping.is_set():
                return
            try:
                pause = self._look()
            except Retriable as error:
                LOG.warning("Cannot look for work: %s", error)
                pause = self._conf.recovery.poll_interval
            except Exception:
                LOG.exception("Looking for work failed")
                pause = self._conf.recovery.poll_interval
            self._wake.wait(pause)

    def _look(self) -> float:
        """Hand out what is due, the most important, then the longest due first.

        :returns: the seconds to the next look.
        """
        self._requests.round()
        now = self._database.now()
        self._call_up(now)
        limit = self._conf.recovery.workers * AHEAD + len(self._workers)
        with self._database.reader() as tx:
            work: list[Incident | Recovery] = [
                *incidents.due(tx, now, limit),
                *self._without_owner(self._recoveries_due(tx, now, limit), now),
            ]
            moments = (incidents.next_due(tx, now), recoveries.next_due(tx, now))
            under_way = [one.incident_id for one in work if isinstance(one, Recovery)]
            priorities = limits.priorities(tx, under_way) if under_way else {}
        ranked = [(_rank(subject, priorities), subject) for subject in work]
        for rank, subject in sorted(ranked, key=operator.itemgetter(0)):
            self._take_up(subject, rank)
        next_due = [(moment - now) / SECOND for moment in moments if moment]
        return min([self._conf.recovery.poll_interval, *next_due])

    def _call_up(self, now: int) -> None:
        """Have those looked at whose turn has come."""
        with self._database.reader() as tx:
            turns = self._turns.next(tx, now)
        for incident_id in turns:
            self._database.run(limits.call_up, incident_id, now)

    def _recoveries_due(self, tx: Transaction, now: int, limit: int) -> list[Recovery]:
        """Return the recoveries that are due; mostly none is, which costs one question."""
        first = recoveries.next_due(tx, 0)
        return recoveries.due(tx, now, limit) if first is not None and first <= now else []

    def _without_owner(self, due: Sequence[Recovery], now: int) -> Sequence[Recovery]:
        """Leave out what another engine runs, for the time of a lease after the clock was put
        forward: whoever lives renews by then what seems to have run out."""
        looked = self._clock_steps.check(now)
        if looked and looked[1] > 0:
            self._trust_until = time.monotonic() + self._conf.recovery.lease
        if time.monotonic() >= self._trust_until:
            return due
        return [recovery for recovery in due if recovery.state != RecoveryState.RUNNING]

    def _take_up(self, subject: Incident | Recovery, rank: Rank) -> None:
        work = (
            functools.partial(self._examine, subject)
            if isinstance(subject, Incident)
            else functools.partial(self._go_on, subject)
        )
        self._workers.take(subject.incident_id, work, rank)

    # -- a hold is over ------------------------------------------------------------------------
    def _examine(self, incident: Incident) -> bool:
        """Ask what the instance should be doing, then act on the answer.

        :returns: whether something else may be due now.
        """
        while True:
            told, planned = self._told(incident)
            known = [*planned, *told]
            verdict = self._judge(incident, known)
            asked_at = time.monotonic()
            try:
                claim = self._database.run(self._decisions.decide, incident, verdict)
                break
            except Outdated as error:
                incident = error.incident
        if claim:
            self._call(claim, told, asked_at)
        return claim is not None

    def _told(self, incident: Incident) -> tuple[list[Event], list[Event]]:
        """Return the incident's events, and what nova told of its instance before them."""
        since = incident.opened_at - operations.MAX_SILENCE * SECOND
        with self._database.reader() as tx:
            told = events.of_incident(tx, incident.incident_id)
            planned = events.of_instance(tx, incident, operations.NOVA_PREFIX, since)
        return [one.event for one in told], [one.event for one in planned]

    def _judge(self, incident: Incident, told: Sequence[Event]) -> Verdict:
        if verdict := reconcile_verdict.from_drift(incident, told):
            return verdict
        asked_at = time.monotonic_ns()
        verdict = self._questions.verdict(incident, told)
        took = (time.monotonic_ns() - asked_at) // 1000
        return timeline.answered(verdict, self._expectation, took)

    # -- a recovery is due ---------------------------------------------------------------------
    def _go_on(self, recovery: Recovery) -> bool:
        # First, so that nothing can go wrong between the claim and the call.
        with self._database.reader() as tx:
            told = [one.event for one in events.of_incident(tx, recovery.incident_id)]
        seen = recovery.look_at is not None and self._questions.is_active(recovery)
        asked_at = time.monotonic()
        claim = self._database.run(self._attempts.take_up, recovery, seen)
        if claim:
            self._call(claim, told, asked_at)
        return True

    # -- calling -------------------------------------------------------------------------------
    def _call(self, claim: Claim, told: Sequence[Event], asked_at: float) -> None:
        """Call the driver; the claim is committed, its lease is renewed meanwhile.

        :param asked_at: monotonic time before the claim.
        :raises vmmonitor.model.errors.Conflict: this process stood still for so long that another
            engine may have taken the recovery over.
        """
        recovery = claim.recovery
        if time.monotonic() - asked_at > self._conf.recovery.lease:
            raise Conflict(recovery_id=recovery.recovery_id, lease_owner=recovery.lease_owner)
        until = time.monotonic() + claim.step.timeout + GRACE
        self._calls[recovery.lease_owner] = (claim, until)
        try:
            outcome = self._outcome(claim, told)
            LOG.info(
                "Recovery %s of instance %s by driver %s: %s, %s",
                *(recovery.recovery_id, recovery.instance_uuid, recovery.driver),
                *(outcome.move, outcome.message),
            )
            self._write_down(claim, outcome)
        finally:
            self._calls.pop(recovery.lease_owner, None)

    def _outcome(self, claim: Claim, told: Sequence[Event]) -> Outcome:
        request = RecoveryRequest(
            recovery=claim.recovery,
            incident=claim.incident,
            events=told,
            taken_over=claim.taken_over,
            timeout=claim.step.timeout,
            options=claim.step.options,
        )
        if claim.dry_run:
            message = f"dry run: driver {claim.recovery.driver} would have been called"
            return Outcome(move="skip", message=message)
        LOG.debug(
            "Recovery %s of instance %s: driver %s is called",
            *(claim.recovery.recovery_id, claim.recovery.instance_uuid, claim.recovery.driver),
        )
        try:
            outcome = self._drivers.get(claim.recovery.driver).recover(request)
            if not isinstance(outcome, Outcome):
                raise TypeError(f"the driver returned {outcome!r:.100}, which is no Outcome")
            return outcome
        except Exception as error:
            LOG.exception("Driver %s failed", claim.recovery.driver)
            return Outcome(move="fail", message=f"{type(error).__name__}: {error}", retry=True)

    def _write_down(self, claim: Claim, outcome: Outcome) -> None:
        """Store the outcome, as soon as the database takes it, or another engine has it all."""
        while True:
            try:
                self._database.run(self._attempts.finish, claim, outcome)
                return
            except Retriable as error:
                LOG.warning("The outcome of %s waits: %s", claim.recovery.recovery_id, error)
                if self._stopping.wait(self._conf.recovery.poll_interval):
                    return

    # -- leases --------------------------------------------------------------------------------
    def _renew(self) -> None:
        """Keep the leases of the calls that are under way, until the last one has ended."""
        while not self._ended.wait(self._conf.recovery.lease / 3):
            for owner, (claim, until) in list(self._calls.items()):
                try:
                    if time.monotonic() < until:
                        self._renew_one(claim.recovery)
                    elif self._calls.pop(owner, None):
                        self._give_up(claim)
                except Retriable as error:
                    LOG.warning("A lease is not renewed: %s", error)
                except Exception:
                    LOG.exception("Renewing a lease failed")

    def _renew_one(self, recovery: Recovery) -> None:
        lease_until = self._database.now() + round(self._conf.recovery.lease * SECOND)
        owner, recovery_ids = recovery.lease_owner, [recovery.recovery_id]
        self._database.run(recoveries.renew_leases, owner, recovery_ids, lease_until)

    def _give_up(self, claim: Claim) -> None:
        """Let any engine take the recovery over when its lease runs out, this one too."""
        LOG.error(
            "Driver %s does not return from recovery %s, which is to be taken over",
            *(claim.recovery.driver, claim.recovery.recovery_id),
        )
        self._workers.let_go(claim.incident.incident_id)


def _rank(subject: Incident | Recovery, priorities: Mapping[str, int]) -> Rank:
    """Return who comes first: the most important, then who is due longest.

    :param priorities: of the incidents of recoveries, by id.
    """
    if isinstance(subject, Incident):
        # Whose turn has come is not kept from it by those that came after.
        waits = subject.held_by == HoldReason.CONCURRENCY
        return -subject.priority, subject.opened_at if waits else subject.hold_until
    moments = {
        RecoveryState.REQUESTED: subject.not_before,
        RecoveryState.RUNNING: subject.lease_until,
        RecoveryState.WAITING: subject.look_at or subject.wait_until,
    }
    return -priorities.get(subject.incident_id, 0), moments[subject.state]
