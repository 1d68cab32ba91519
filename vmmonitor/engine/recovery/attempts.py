# SPDX-License-Identifier: Apache-2.0
"""The transactions of a recovery: attempts are claimed, and their outcomes are stored.

Each is one database transaction, which locks the incident's row before it reads the clock, so that
timeline entries are ordered. Nothing here calls a driver, waits, or has a thread.
"""

import dataclasses
import random
import uuid
from collections.abc import Callable

from oslo_config import cfg

from vmmonitor.db import incidents, limits, recoveries
from vmmonitor.db.session import Transaction
from vmmonitor.engine.admission.check import AdmissionCheck, admit
from vmmonitor.engine.incidents import timeline
from vmmonitor.engine.incidents.transitions import (
    LATE_EVENT_WINDOW,
    move,
    move_recovery,
    note,
)
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.recovery import Outcome, Recovery
from vmmonitor.model.states import (
    IncidentState,
    IncidentTransition,
    RecoveryState,
    RecoveryTransition,
)
from vmmonitor.model.timeline import TimelineKind
from vmmonitor.rules import policies
from vmmonitor.rules.policies import Policies, Policy, PolicyStep, WaitCondition

_RUNS_AGAIN = "the instance runs again"
TAKEN_OVER = "taken over: the lease of its engine has expired"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A recovery that this engine has claimed, and the input of its driver.

    :param step: the step of the policy that it belongs to.
    :param dry_run: the setting that makes it a dry run; empty without one.
    """

    recovery: Recovery
    incident: Incident
    step: PolicyStep
    taken_over: bool = False
    dry_run: str = ""


class Attempts:
    """Decides about attempts, by the policies in force."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        policies: Policies,
        now: Callable[[], int],
        slots: AdmissionCheck | None = None,
    ):
        """Use these parts.

        :param now: returns the engines' common clock, in microseconds since the epoch.
        :param slots: checked before each attempt but the first, which ``Decisions`` admits; None
            for no limit.
        """
        self.policies = policies
        self._conf = conf
        self._now = now
        self._checks = [slots] if slots else []

    def first(self, tx: Transaction, incident: Incident, policy: Policy, now: int) -> Claim | None:
        """Claim the first attempt for an incident whose recovery begins now.

        :returns: None if the policy has no enabled step.
        """
        index = next_step(policy, -1)
        if index is None:
            return None
        recovery = self._request(tx, incident, policy, index, 1, now, now)
        return self._claim(tx, incident, recovery, policy, now)

    # -- a recovery is due ---------------------------------------------------------------------
    def claim_or_finish(
        self, tx: Transaction, recovery: Recovery, is_active: bool = False
    ) -> Claim | None:
        """Claim a due recovery, or end one whose instance runs or did not run in time.

        :param is_active: the expectation reports the instance as running. Only for a recovery
            that waits for this.
        :returns: the claim whose driver to call; None if there is nothing to call.
        :raises vmmonitor.model.errors.Conflict: another engine changed the recovery first.
        """
        incident = incidents.lock(tx, recovery.incident_id)
        now = self._now()
        policy = self.policies.get(recovery.policy)
        runs = incident.running_at is not None if recovery.look_at is None else is_active
        if runs and incident.state == IncidentState.RECOVERING:
            self._end_running(tx, incident, recovery, now)
            return None
        if recovery.state == RecoveryState.WAITING and now < recovery.wait_until:
            recoveries.set_look_at(tx, recovery, self._next_poll(recovery.wait_until, now))
            return None
        if recovery.state == RecoveryState.WAITING:
            message = "the instance was not seen running in time"
            recovery = move_recovery(tx, recovery, RecoveryTransition.FAIL, message, now)
            self._after_failure(tx, incident, recovery, True, now)
            return None
        if policy is None or _step(policy, recovery) is None:
            self._end_without_policy(tx, incident, recovery, now)
            return None
        if recovery.state == RecoveryState.RUNNING:
            return self._claim(tx, incident, recovery, policy, now, taken_over=True)
        if not self._has_slot(tx, incident, recovery, policy, now):
            return None
        return self._claim(tx, incident, recovery, policy, now)

    def _has_slot(
        self, tx: Transaction, incident: Incident, recovery: Recovery, policy: Policy, now: int
    ) -> bool:
        """Return whether an attempt may begin; otherwise queue it."""
        name = f"{recovery.driver}, attempt {recovery.attempt}"
        is_queued = incident.held_by == HoldReason.CONCURRENCY
        if denied := admit(self._checks, tx, incident, policy, now):
            reason = f"{name}: {denied.reason}"
            if not is_queued:
                note(tx, incident, now, TimelineKind.HOLD, reason, held_by=denied.held_by)
            limits.queue_attempt(tx, incident, recovery, denied.until, reason, now)
            return False
        if is_queued:
            limits.leave_queue(tx, incident, f"{name}: has a free slot", now)
        return True

    def _end_running(
        self, tx: Transaction, incident: Incident, recovery: Recovery, now: int
    ) -> None:
        """End a recovery whose instance was seen running after the call of a driver."""
        if recovery.state == RecoveryState.RUNNING:
            recovery = self._take_over(tx, recovery, now)
        is_requested = recovery.state == RecoveryState.REQUESTED
        ending = RecoveryTransition.CANCEL if is_requested else RecoveryTransition.SUCCEED
        move_recovery(tx, recovery, ending, _RUNS_AGAIN, now)
        move(tx, incident, IncidentTransition.RUN, _RUNS_AGAIN, now)

    def _end_without_policy(
        self, tx: Transaction, incident: Incident, recovery: Recovery, now: int
    ) -> None:
        message = f"policy {recovery.policy} is no longer in force"
        if recovery.state == RecoveryState.REQUESTED:
            move_recovery(tx, recovery, RecoveryTransition.CANCEL, message, now)
        else:
            recovery = self._take_over(tx, recovery, now)
            move_recovery(tx, recovery, RecoveryTransition.FAIL, message, now)
        move(tx, incident, IncidentTransition.GIVE_UP, message, now)

    def _take_over(self, tx: Transaction, recovery: Recovery, now: int) -> Recovery:
        """Take a recovery from an engine whose lease has expired, to end it."""
        owner = str(uuid.uuid4())
        take_over = RecoveryTransition.TAKE_OVER
        return move_recovery(tx, recovery, take_over, TAKEN_OVER, now, lease_owner=owner)

    # -- claiming ------------------------------------------------------------------------------
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
            state=RecoveryState.REQUESTED,
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
        policy: Policy,
        now: int,
        taken_over: bool = False,
    ) -> Claim:
        claimed = move_recovery(
            tx,
            recovery,
            RecoveryTransition.TAKE_OVER if taken_over else RecoveryTransition.CLAIM,
            TAKEN_OVER if taken_over else "calling the driver",
            now,
            timeline.call_data(policy, recovery),
            # Each claim has an owner of its own: a driver that returns after its recovery was
            # taken over, even by the same engine, must not find its lease valid.
            lease_owner=str(uuid.uuid4()),
            lease_until=now + round(self._conf.recovery.lease * SECOND),
            called_at=now,
        )
        step = policy.steps[recovery.step]
        return Claim(
            recovery=claimed,
            incident=incident,
            step=step,
            taken_over=taken_over,
            dry_run=self._dry_run(policy, step),
        )

    def _dry_run(self, policy: Policy, step: PolicyStep) -> str:
        """Return the setting that makes a call a dry run; empty without one."""
        if self._conf.recovery.dry_run:
            return "[recovery] dry_run"
        if policy.dry_run:
            return f"policy {policy.name}"
        return f"the step of policy {policy.name}" if step.dry_run else ""

    # -- outcomes ------------------------------------------------------------------------------
    def finish(self, tx: Transaction, claim: Claim, outcome: Outcome) -> None:
        """Store the outcome of an attempt, and request what follows from it.

        :raises vmmonitor.model.errors.Conflict: another engine took the recovery over.
        """
        incident = incidents.lock(tx, claim.incident.incident_id)
        now = self._now()
        runs = incident.running_at is not None
        is_closed = incident.state != IncidentState.RECOVERING
        polls = claim.step.wait_for == WaitCondition.ACTIVE
        waits_for_event = claim.step.wait_for == WaitCondition.RUNNING and not runs
        data = timeline.outcome_data(outcome, claim.step, claim.recovery, now)
        if outcome.move == RecoveryTransition.WAIT and (polls or waits_for_event):
            until = now + round(claim.step.wait * SECOND)
            move_recovery(
                tx,
                claim.recovery,
                RecoveryTransition.WAIT,
                outcome.message,
                now,
                data,
                wait_until=until,
                look_at=self._next_poll(until, now) if polls else None,
            )
            return
        if runs and outcome.move == RecoveryTransition.FAIL and outcome.retry and not is_closed:
            # One of the two reports is late: a guest that was resumed and paused again at once
            # was reported as running, and the driver's answer can overtake the second event.
            message = f"{outcome.message}, but it was seen running: waits for further events"
            until = now + round(LATE_EVENT_WINDOW * SECOND)
            wait = RecoveryTransition.WAIT
            move_recovery(tx, claim.recovery, wait, message, now, data, wait_until=until)
            return
        has_waited = outcome.move == RecoveryTransition.WAIT
        ending = RecoveryTransition.SUCCEED if has_waited else RecoveryTransition(outcome.move)
        recovery = move_recovery(tx, claim.recovery, ending, outcome.message, now, data)
        if is_closed:
            return
        if ending == RecoveryTransition.FAIL:
            self._after_failure(tx, incident, recovery, outcome.retry, now)
        elif claim.dry_run:
            self._after_dry_run(tx, incident, claim, now)
        elif ending == RecoveryTransition.SKIP:
            move(tx, incident, IncidentTransition.PLAN, outcome.message, now)
        elif runs:
            move(tx, incident, IncidentTransition.RUN, _RUNS_AGAIN, now)
        else:
            reason = f"{recovery.driver} has done its part"
            move(tx, incident, IncidentTransition.LEAVE, reason, now)

    def _next_poll(self, until: int, now: int) -> int:
        """Return when to query the expectation again whether an instance runs."""
        return min(until, now + round(self._conf.recovery.active_poll_interval * SECOND))

    def _after_dry_run(self, tx: Transaction, incident: Incident, claim: Claim, now: int) -> None:
        """Request the next step if only this one is a dry run; otherwise leave the incident."""
        policy = self.policies.get(claim.recovery.policy)
        index = next_step(policy, claim.recovery.step) if claim.step.dry_run else None
        if policy is None or index is None or self._conf.recovery.dry_run or policy.dry_run:
            reason = f"dry run, set by {claim.dry_run}"
            move(tx, incident, IncidentTransition.LEAVE, reason, now)
            return
        self._request_step(tx, incident, policy, index, now)

    def _after_failure(
        self, tx: Transaction, incident: Incident, failed: Recovery, retry: bool, now: int
    ) -> None:
        """Request the next attempt or the next step, or give up."""
        if incident.state != IncidentState.RECOVERING:
            return
        if incident.running_at is not None:
            move(tx, incident, IncidentTransition.RUN, _RUNS_AGAIN, now)
            return
        policy = self.policies.get(failed.policy)
        step = _step(policy, failed)
        if policy is None or step is None:
            reason = f"policy {failed.policy} is no longer in force"
            move(tx, incident, IncidentTransition.GIVE_UP, reason, now)
            return
        if retry and (step.attempts == policies.WITHOUT_LIMIT or failed.attempt < step.attempts):
            delay = step.backoff.delay(failed.attempt, random.random())
            not_before = now + round(delay * SECOND)
            self._request(tx, incident, policy, failed.step, failed.attempt + 1, not_before, now)
            message = timeline.next_attempt_message(step, failed.attempt + 1, delay)
            note(tx, incident, now, TimelineKind.RECOVERY, message, not_before=not_before)
            return
        index = next_step(policy, failed.step)
        if index is None:
            reason = f"every step failed, the last with: {failed.message}"
            move(tx, incident, IncidentTransition.GIVE_UP, reason, now)
            return
        self._request_step(tx, incident, policy, index, now)

    def _request_step(
        self, tx: Transaction, incident: Incident, policy: Policy, index: int, now: int
    ) -> None:
        """Request the first attempt of a further step."""
        self._request(tx, incident, policy, index, 1, now, now)
        message = timeline.next_step_message(policy, index)
        note(tx, incident, now, TimelineKind.RECOVERY, message, step=index + 1)


def _step(policy: Policy | None, recovery: Recovery) -> PolicyStep | None:
    """Return the step that a recovery belongs to; None if the policy has changed since."""
    if policy is None or recovery.step >= len(policy.steps):
        return None
    step = policy.steps[recovery.step]
    return step if step.driver == recovery.driver else None


def next_step(policy: Policy | None, index: int) -> int | None:
    """Return the index of the next enabled step after ``index``; None without one."""
    if policy is None:
        return None
    later = range(index + 1, len(policy.steps))
    return next((i for i in later if policy.steps[i].enabled), None)
