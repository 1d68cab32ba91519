# SPDX-License-Identifier: Apache-2.0
"""From a hold that is over to an instance that runs: the recovery workers.

One thread, "recovery-dispatch", looks for what is due: incidents whose hold is over, recoveries
that are to be started, whose engine died, or that waited in vain. Each goes to a worker thread,
which claims it in one transaction, commits, calls out, and writes down what came of it in
another. Every engine looks at everything; the guarded UPDATEs in the database decide who acts.
"""

import concurrent.futures
import dataclasses
import random
import threading
import time
import uuid
from collections.abc import Sequence

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import events, incidents, recoveries
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.drivers import Drivers
from vmmonitor.engine.incidents import SECOND, move, move_recovery, note
from vmmonitor.expectation import Expectation
from vmmonitor.model import incident as verdicts
from vmmonitor.model import states
from vmmonitor.model.errors import Conflict, Retriable
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident, Verdict
from vmmonitor.model.recovery import Outcome, Recovery, Request
from vmmonitor.rules import policies
from vmmonitor.rules.policies import Policies, Policy, PolicyStep

LOG = log.getLogger(__name__)

#: Seconds beyond its time that a driver may take before its recovery may be taken over.
GRACE = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A recovery that this engine has claimed, and what its driver needs to know.

    :param step: the step of the policy that it belongs to.
    """

    recovery: Recovery
    incident: Incident
    step: PolicyStep
    taken_over: bool = False


class Recoveries:
    """Finds what is due and does it."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        policies: Policies,
        expectation: Expectation,
        drivers: Drivers,
    ):
        """Keep the parts; start nothing."""
        self.policies = policies
        self._conf = conf
        self._database = database
        self._expectation = expectation
        self._drivers = drivers
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        #: Incidents that a worker of this engine has in hand.
        self._busy: set[str] = set()
        #: recovery_id -> (owner of its lease, monotonic time until which it is renewed)
        self._leases: dict[str, tuple[str, float]] = {}
        self._pool = concurrent.futures.ThreadPoolExecutor(
            conf.recovery.workers, thread_name_prefix="recovery"
        )
        self._threads = [
            threading.Thread(target=self._dispatch, name="recovery-dispatch", daemon=True),
            threading.Thread(target=self._renew, name="recovery-leases", daemon=True),
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look now: something may be due."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """Start nothing more and wait for what runs; what does not end is taken over elsewhere.

        :param timeout: seconds.
        """
        self._stopping.set()
        self._wake.set()
        self._threads[0].join(timeout)
        self._pool.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + timeout
        while self._busy and time.monotonic() < deadline:
            time.sleep(0.05)
        self._threads[1].join(1)

    # -- dispatching ---------------------------------------------------------------------------
    def _dispatch(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
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
        """Hand out what is due; returns the seconds until the next look."""
        now = self._database.now()
        limit = self._conf.recovery.workers + len(self._busy)
        with self._database.reader() as tx:
            due_incidents = incidents.due(tx, now, limit)
            due_recoveries = recoveries.due(tx, now, limit)
            moments = (incidents.next_due(tx), recoveries.next_due(tx))
        for recovery in due_recoveries:
            self._hand_out(recovery.incident_id, self._go_on, recovery)
        for incident in due_incidents:
            self._hand_out(incident.incident_id, self._examine, incident)
        next_due = [(moment - now) / SECOND for moment in moments if moment and moment > now]
        return min([self._conf.recovery.poll_interval, *next_due])

    def _hand_out(self, incident_id: str, work, subject) -> None:
        with self._guard:
            full = len(self._busy) >= self._conf.recovery.workers
            if full or incident_id in self._busy or self._stopping.is_set():
                return
            self._busy.add(incident_id)
        self._pool.submit(self._do, incident_id, work, subject)

    def _do(self, incident_id: str, work, subject) -> None:
        try:
            work(subject)
        except Conflict as error:
            LOG.debug("Another engine was faster with incident %s: %s", incident_id, error)
        except Retriable as error:
            LOG.warning("Incident %s is looked at again later: %s", incident_id, error)
        except Exception:
            LOG.exception("Working on incident %s failed", incident_id)
        finally:
            with self._guard:
                self._busy.discard(incident_id)
            self._wake.set()

    # -- a hold is over ------------------------------------------------------------------------
    def _examine(self, incident: Incident) -> None:
        """Ask what the instance should be doing, then act on the answer."""
        with self._database.reader() as tx:
            told = [stored.event for stored in events.of_incident(tx, incident.incident_id)]
        verdict = self._judge(incident, told)
        claim = self._database.run(self._decide, incident.incident_id, verdict)
        if claim:
            self._call(claim, told)

    def _judge(self, incident: Incident, told: Sequence[Event]) -> Verdict:
        try:
            return self._expectation.judge(incident, told)
        except Exception as error:
            LOG.exception("The expectation failed on incident %s", incident.incident_id)
            return Verdict(word=verdicts.UNKNOWN, reason=f"{type(error).__name__}: {error}")

    def _decide(self, tx: Transaction, incident_id: str, verdict: Verdict) -> Claim | None:
        now = self._database.now()
        incident = incidents.lock(tx, incident_id)
        if incident.state not in incidents.WAITING or incident.hold_until > now:
            return None
        if verdict.word == verdicts.UNKNOWN:
            self._hold(tx, incident, verdict, now)
            return None
        note(tx, incident, now, "question", f"{verdict.word}: {verdict.reason}")
        if verdict.word in (verdicts.PLANNED, verdicts.GONE):
            move(tx, incident, "plan", verdict.reason, now)
            return None
        policy = self.policies.get(incident.policy)
        index = _next_step(policy, -1)
        if policy is None or index is None:
            reason = (
                "no policy acts on it" if policy is None else f"policy {policy.name} has no step"
            )
            move(tx, incident, "leave", reason, now)
            return None
        incident = move(tx, incident, "confirm", verdict.reason, now, running_at=None)
        recovery = self._request(tx, incident, policy, index, 1, now, now)
        return self._claim(tx, incident, recovery, policy.steps[index], now)

    def _hold(self, tx: Transaction, incident: Incident, verdict: Verdict, now: int) -> None:
        """Nobody knows: never act blindly, ask again later."""
        again = now + round(self._conf.recovery.ask_again * SECOND)
        if incident.state == states.PENDING:
            note(tx, incident, now, "question", f"unknown: {verdict.reason}")
            move(tx, incident, "hold", verdict.reason, now, hold_until=again)
            return
        if incident.reason != verdict.reason:
            note(tx, incident, now, "question", f"still unknown: {verdict.reason}")
        incidents.reschedule(tx, incident, again, verdict.reason, now)

    # -- a recovery is due ---------------------------------------------------------------------
    def _go_on(self, recovery: Recovery) -> None:
        claim = self._database.run(self._take_up, recovery)
        if claim is None:
            return
        with self._database.reader() as tx:
            told = [stored.event for stored in events.of_incident(tx, recovery.incident_id)]
        self._call(claim, told)

    def _take_up(self, tx: Transaction, recovery: Recovery) -> Claim | None:
        """Claim a recovery that is due; None if there is no driver to call now."""
        now = self._database.now()
        incident = incidents.lock(tx, recovery.incident_id)
        policy = self.policies.get(recovery.policy)
        if recovery.state == states.WAITING:
            step = _step(policy, recovery)
            waited = f"{step.wait:g} s" if step else "its time"
            message = f"the instance was not seen running within {waited}"
            recovery = move_recovery(tx, recovery, "fail", message, now)
            self._after_failure(tx, incident, recovery, True, now)
            return None
        step = _step(policy, recovery)
        if step is None:
            self._without_policy(tx, incident, recovery, now)
            return None
        if recovery.state == states.REQUESTED:
            return self._claim(tx, incident, recovery, step, now)
        return self._claim(tx, incident, recovery, step, now, taken_over=True)

    def _without_policy(
        self, tx: Transaction, incident: Incident, recovery: Recovery, now: int
    ) -> None:
        message = f"policy {recovery.policy} is not in force any more"
        if recovery.state == states.REQUESTED:
            move_recovery(tx, recovery, "cancel", message, now)
        else:
            recovery = move_recovery(
                tx, recovery, "take_over", message, now, lease_owner=str(uuid.uuid4())
            )
            move_recovery(tx, recovery, "fail", message, now)
        move(tx, incident, "give_up", message, now)

    # -- claiming and calling ------------------------------------------------------------------
    def _request(
        self,
        tx: Transaction,
        incident: Incident,
        policy: Policy,
        index: int,
        attempt: int,
        not_before: int,
        now: int,
    ) -> Recovery:
        recovery = Recovery(
            recovery_id=str(uuid.uuid4()),
            incident_id=incident.incident_id,
            instance_uuid=incident.instance.uuid,
            host=incident.host,
            policy=policy.name,
            driver=policy.steps[index].driver,
            step=index,
            attempt=attempt,
            state=states.REQUESTED,
            not_before=not_before,
            created_at=now,
        )
        recoveries.insert(tx, recovery)
        return recovery

    def _claim(
        self,
        tx: Transaction,
        incident: Incident,
        recovery: Recovery,
        step: PolicyStep,
        now: int,
        taken_over: bool = False,
    ) -> Claim:
        claimed = move_recovery(
            tx,
            recovery,
            "take_over" if taken_over else "claim",
            "taken over: its engine is gone" if taken_over else "calling the driver",
            now,
            # NOTE: a name of its own for each claim, so that a driver that comes back after its
            # recovery was taken over, be it by the same engine, finds its lease gone.
            lease_owner=str(uuid.uuid4()),
            lease_until=now + round(self._conf.recovery.lease * SECOND),
            called_at=now,
        )
        return Claim(recovery=claimed, incident=incident, step=step, taken_over=taken_over)

    def _call(self, claim: Claim, told: Sequence[Event]) -> None:
        """Call the driver; the claim is committed, its lease is renewed meanwhile."""
        recovery = claim.recovery
        until = time.monotonic() + claim.step.timeout + GRACE
        self._leases[recovery.recovery_id] = (recovery.lease_owner, until)
        try:
            outcome = self._outcome(claim, told)
            LOG.info(
                "Recovery %s of instance %s by driver %s: %s, %s",
                *(recovery.recovery_id, recovery.instance_uuid, recovery.driver),
                *(outcome.move, outcome.message),
            )
            self._write_down(claim, outcome)
        finally:
            self._leases.pop(recovery.recovery_id, None)

    def _outcome(self, claim: Claim, told: Sequence[Event]) -> Outcome:
        request = Request(
            recovery=claim.recovery,
            incident=claim.incident,
            events=told,
            taken_over=claim.taken_over,
            timeout=claim.step.timeout,
        )
        try:
            return self._drivers.get(claim.recovery.driver).recover(request)
        except Exception as error:
            LOG.exception("Driver %s failed", claim.recovery.driver)
            return Outcome(move="fail", message=f"{type(error).__name__}: {error}", retry=True)

    def _write_down(self, claim: Claim, outcome: Outcome) -> None:
        """Store the outcome, as soon as the database takes it, or another engine has it all."""
        while True:
            try:
                self._database.run(self._finish, claim, outcome)
                return
            except Retriable as error:
                LOG.warning("The outcome of %s waits: %s", claim.recovery.recovery_id, error)
                if self._stopping.wait(self._conf.recovery.poll_interval):
                    return

    # -- what came of it -----------------------------------------------------------------------
    def _finish(self, tx: Transaction, claim: Claim, outcome: Outcome) -> None:
        now = self._database.now()
        incident = incidents.lock(tx, claim.incident.incident_id)
        runs = incident.running_at is not None
        wants_to_see = claim.step.wait_for == policies.RUNNING
        if outcome.move == "wait" and wants_to_see and not runs:
            until = now + round(claim.step.wait * SECOND)
            move_recovery(tx, claim.recovery, "wait", outcome.message, now, wait_until=until)
            return
        ending = "succeed" if outcome.move == "wait" else outcome.move
        recovery = move_recovery(tx, claim.recovery, ending, outcome.message, now)
        if incident.state != states.RECOVERING:
            return
        if ending == "fail":
            self._after_failure(tx, incident, recovery, outcome.retry, now)
        elif ending == "skip":
            move(tx, incident, "plan", outcome.message, now)
        elif runs:
            move(tx, incident, "run", "the instance runs again", now)
        else:
            move(tx, incident, "leave", f"{recovery.driver} has done its part", now)

    def _after_failure(
        self, tx: Transaction, incident: Incident, failed: Recovery, retry: bool, now: int
    ) -> None:
        """Ask for the next attempt, or the next step, or give up."""
        if incident.state != states.RECOVERING:
            return
        if incident.running_at is not None:
            move(tx, incident, "run", "the instance runs again", now)
            return
        policy = self.policies.get(failed.policy)
        step = _step(policy, failed)
        if policy is None or step is None:
            move(tx, incident, "give_up", f"policy {failed.policy} is not in force any more", now)
            return
        if retry and (step.attempts == policies.WITHOUT_LIMIT or failed.attempt < step.attempts):
            delay = step.backoff.delay(failed.attempt, random.random())
            not_before = now + round(delay * SECOND)
            self._request(tx, incident, policy, failed.step, failed.attempt + 1, not_before, now)
            note(tx, incident, now, "recovery", f"attempt {failed.attempt + 1} in {delay:.1f} s")
            return
        index = _next_step(policy, failed.step)
        if index is None:
            move(tx, incident, "give_up", f"every step failed, at last: {failed.message}", now)
            return
        self._request(tx, incident, policy, index, 1, now, now)
        note(tx, incident, now, "recovery", f"next step: {policy.steps[index].driver}")

    # -- leases --------------------------------------------------------------------------------
    def _renew(self) -> None:
        while not self._stopping.wait(self._conf.recovery.lease / 3) or self._busy:
            for recovery_id, (owner, until) in list(self._leases.items()):
                if time.monotonic() < until:
                    self._renew_one(recovery_id, owner)

    def _renew_one(self, recovery_id: str, owner: str) -> None:
        lease_until = self._database.now() + round(self._conf.recovery.lease * SECOND)
        try:
            self._database.run(recoveries.renew, owner, [recovery_id], lease_until)
        except Retriable as error:
            LOG.warning("The lease of recovery %s is not renewed: %s", recovery_id, error)


def _step(policy: Policy | None, recovery: Recovery) -> PolicyStep | None:
    """Return the step that a recovery belongs to; None if the policy has changed since."""
    if policy is None or recovery.step >= len(policy.steps):
        return None
    step = policy.steps[recovery.step]
    return step if step.driver == recovery.driver else None


def _next_step(policy: Policy | None, index: int) -> int | None:
    """Return the index of the next step that is not skipped; None if there is none."""
    if policy is None:
        return None
    later = range(index + 1, len(policy.steps))
    return next((i for i in later if policy.steps[i].attempts != 0), None)
