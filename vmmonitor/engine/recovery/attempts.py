# SPDX-License-Identifier: Apache-2.0
"""The transactions of a recovery: attempts are claimed, and their outcomes are stored.

Each is one database transaction, which locks the incident's row before it reads the clock, so that
timeline entries are ordered. Nothing here calls a driver, waits, or has a thread.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from oslo_config import cfg

from vmmonitor.db import incidents, recoveries
from vmmonitor.db.session import Transaction
from vmmonitor.engine.incidents import timeline
from vmmonitor.engine.incidents.transitions import (
    LATE_EVENT_WINDOW,
    move,
    move_recovery,
    note,
)
from vmmonitor.engine.recovery.claims import Claim, Claims
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import Incident
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


class Attempts:
    """Decides about attempts, by the policies in force."""

    def __init__(self, conf: cfg.ConfigOpts, policies: Policies, now: Callable[[], int]):
        """Use these parts.

        :param now: returns the engines' common clock, in microseconds since the epoch.
        """
        self.policies = policies
        self.claims = Claims(conf)
        self._conf = conf
        self._now = now

    def first(
        self,
        tx: Transaction,
        incident: Incident,
        policy: Policy,
        now: int,
        earlier: Sequence[Recovery] = (),
    ) -> Claim | None:
        """Claim the first attempt for an incident whose recovery begins now.

        :param earlier: recoveries of the incident, which an operator had recovered before.
        :returns: None if the policy has no enabled step.
        """
        index = next_step(policy, -1)
        if index is None:
            return None
        number = max((_next_failure_number(each) for each in earlier), default=1)
        recovery = self.claims.request(tx, incident, policy, index, now, failure_number=number)
        return self.claims.claim(tx, incident, recovery, policy, now)

    # -- a recovery is due, and its driver is not called ----------------------------------------
    def end_wait(self, tx: Transaction, recovery: Recovery, is_active: bool = False) -> None:
        """End a waiting recovery whose instance runs or did not run in time, or continue to wait.

        :param is_active: the expectation reports the instance as running. Only for a recovery
            that waits for this.
        :raises vmmonitor.model.errors.Conflict: another engine changed the recovery first.
        """
        incident = incidents.lock(tx, recovery.incident_id)
        now = self._now()
        runs = incident.running_at is not None if recovery.look_at is None else is_active
        if runs and incident.state == IncidentState.RECOVERING:
            self.end_running(tx, incident, recovery, now)
        elif now < recovery.wait_until:
            recoveries.set_look_at(tx, recovery, self._next_poll(recovery.wait_until, now))
        else:
            message = "the instance was not seen running in time"
            recovery = move_recovery(tx, recovery, RecoveryTransition.FAIL, message, now)
            self.after_failure(tx, incident, recovery, True, now)

    def end_running(
        self, tx: Transaction, incident: Incident, recovery: Recovery, now: int
    ) -> None:
        """End a recovery whose instance was seen running after the call of a driver."""
        if recovery.state == RecoveryState.RUNNING:
            recovery = self.claims.take_over_to_end(tx, recovery, now)
        is_requested = recovery.state == RecoveryState.REQUESTED
        ending = RecoveryTransition.CANCEL if is_requested else RecoveryTransition.SUCCEED
        move_recovery(tx, recovery, ending, _RUNS_AGAIN, now)
        move(tx, incident, IncidentTransition.RUN, _RUNS_AGAIN, now)

    def end_without_policy(
        self, tx: Transaction, incident: Incident, recovery: Recovery, now: int
    ) -> None:
        """End a recovery whose policy, or step, is no longer in force."""
        message = f"policy {recovery.policy} is no longer in force"
        if recovery.state == RecoveryState.REQUESTED:
            move_recovery(tx, recovery, RecoveryTransition.CANCEL, message, now)
        else:
            recovery = self.claims.take_over_to_end(tx, recovery, now)
            move_recovery(tx, recovery, RecoveryTransition.FAIL, message, now)
        move(tx, incident, IncidentTransition.GIVE_UP, message, now)

    def end_planned(
        self, tx: Transaction, incident: Incident, recovery: Recovery, reason: str, now: int
    ) -> None:
        """Cancel a recovery whose instance was stopped on purpose or is gone.

        :param reason: of the verdict.
        """
        if recovery.state == RecoveryState.RUNNING:
            recovery = self.claims.take_over_to_end(tx, recovery, now)
        move_recovery(tx, recovery, RecoveryTransition.CANCEL, reason, now)
        move(tx, incident, IncidentTransition.PLAN, reason, now)

    def end_taken_over_too_often(
        self, tx: Transaction, incident: Incident, recovery: Recovery, now: int
    ) -> None:
        """Fail an attempt that engines did not survive."""
        times = "once" if recovery.takeovers == 1 else f"{recovery.takeovers} times"
        message = (
            f"it was taken over {times}, the maximum ([recovery] max_takeovers): its driver, or "
            "the storage of its outcome, ends engines or does not return"
        )
        recovery = self.claims.take_over_to_end(tx, recovery, now)
        recovery = move_recovery(tx, recovery, RecoveryTransition.FAIL, message, now)
        self.after_failure(tx, incident, recovery, True, now, answered=False)

    # -- outcomes ------------------------------------------------------------------------------
    def finish(self, tx: Transaction, claim: Claim, outcome: Outcome) -> None:
        """Store the outcome of an attempt, and request what follows from it.

        :raises vmmonitor.model.errors.Conflict: another engine took the recovery over.
        """
        incident = incidents.lock(tx, claim.incident.incident_id)
        now = self._now()
        data = timeline.outcome_data(outcome, claim.step, claim.recovery, now)
        if waiting := self._waits(incident, claim, outcome, now):
            message = waiting.pop("message", outcome.message)
            transition = RecoveryTransition.WAIT
            move_recovery(tx, claim.recovery, transition, message, now, data, **waiting)
            return
        has_waited = outcome.move == RecoveryTransition.WAIT
        ending = RecoveryTransition.SUCCEED if has_waited else RecoveryTransition(outcome.move)
        recovery = move_recovery(
            tx, claim.recovery, ending, outcome.message, now, data, returned_at=now
        )
        if incident.state != IncidentState.RECOVERING:
            return
        if ending == RecoveryTransition.FAIL:
            answered = outcome.answered
            self.after_failure(tx, incident, recovery, outcome.retry, now, answered=answered)
        elif claim.dry_run:
            self._after_dry_run(tx, incident, claim, now)
        elif ending == RecoveryTransition.SKIP:
            # The verdict was "failed". It is judged again, and closed if that has changed.
            move(tx, incident, IncidentTransition.LEAVE, outcome.message, now)
        elif incident.running_at is not None:
            move(tx, incident, IncidentTransition.RUN, _RUNS_AGAIN, now)
        else:
            reason = f"{recovery.driver} has done its part"
            move(tx, incident, IncidentTransition.LEAVE, reason, now)

    def _waits(
        self, incident: Incident, claim: Claim, outcome: Outcome, now: int
    ) -> dict[str, Any]:
        """Return the changes of a recovery that waits after its driver has returned; {} if none
        does."""
        runs = incident.running_at is not None
        polls = claim.step.wait_for == WaitCondition.ACTIVE
        waits_for_event = claim.step.wait_for == WaitCondition.RUNNING and not runs
        if outcome.move == RecoveryTransition.WAIT and (polls or waits_for_event):
            until = now + round(claim.step.wait * SECOND)
            look_at = self._next_poll(until, now) if polls else None
            return {"wait_until": until, "look_at": look_at, "returned_at": now}
        is_open = incident.state == IncidentState.RECOVERING
        if runs and outcome.move == RecoveryTransition.FAIL and outcome.retry and is_open:
            # One of the two reports is late: a guest that was resumed and paused again at once
            # was reported as running, and the driver's answer can overtake the second event.
            message = f"{outcome.message}, but it was seen running: waits for further events"
            until = now + round(LATE_EVENT_WINDOW * SECOND)
            return {"wait_until": until, "returned_at": now, "message": message}
        return {}

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
        number = claim.recovery.failure_number
        self._request_step(tx, incident, policy, index, now, number)

    def after_failure(
        self,
        tx: Transaction,
        incident: Incident,
        failed: Recovery,
        retry: bool,
        now: int,
        *,
        answered: bool = True,
    ) -> None:
        """Request the next attempt or the next step, or give up.

        :param retry: whether to repeat the step.
        :param answered: see ``Outcome``.
        """
        if incident.state != IncidentState.RECOVERING:
            return
        if incident.running_at is not None:
            move(tx, incident, IncidentTransition.RUN, _RUNS_AGAIN, now)
            return
        policy = self.policies.get(failed.policy)
        step = find_step(policy, failed)
        if policy is None or step is None:
            reason = f"policy {failed.policy} is no longer in force"
            move(tx, incident, IncidentTransition.GIVE_UP, reason, now)
            return
        number = failed.failure_number + answered
        if retry and (step.attempts == policies.WITHOUT_LIMIT or failed.attempt < step.attempts):
            delay = step.backoff.delay(failed.attempt, random.random())
            not_before = now + round(delay * SECOND)
            self.claims.request(
                tx,
                incident,
                policy,
                failed.step,
                now,
                attempt=failed.attempt + 1,
                failure_number=number,
                not_before=not_before,
            )
            message = timeline.next_attempt_message(step, failed.attempt + 1, delay)
            note(tx, incident, now, TimelineKind.RECOVERY, message, not_before=not_before)
            return
        index = next_step(policy, failed.step)
        if index is None:
            reason = f"every step failed, the last with: {failed.message}"
            move(tx, incident, IncidentTransition.GIVE_UP, reason, now)
            return
        not_before = now if answered else max(now, _end_of_order(failed, step))
        self._request_step(tx, incident, policy, index, now, number, not_before)

    def _request_step(
        self,
        tx: Transaction,
        incident: Incident,
        policy: Policy,
        index: int,
        now: int,
        failure_number: int,
        not_before: int | None = None,
    ) -> None:
        """Request the first attempt of a further step.

        :param not_before: None for now.
        """
        self.claims.request(
            tx,
            incident,
            policy,
            index,
            now,
            failure_number=failure_number,
            not_before=not_before,
        )
        delay = ((not_before or now) - now) / SECOND
        message = timeline.next_step_message(policy, index, delay)
        note(tx, incident, now, TimelineKind.RECOVERY, message, step=index + 1)


def _next_failure_number(recovery: Recovery) -> int:
    return recovery.failure_number + 1


def _end_of_order(recovery: Recovery, step: PolicyStep) -> int:
    """Return when the order of an attempt without an answer expires.

    Until then its host may still start the instance, and the next step may start it elsewhere.

    :returns: microseconds since the epoch, engines' clock.
    """
    return (recovery.called_at or recovery.created_at) + round(step.timeout * SECOND)


def find_step(policy: Policy | None, recovery: Recovery) -> PolicyStep | None:
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
