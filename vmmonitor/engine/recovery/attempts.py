# SPDX-License-Identifier: Apache-2.0
"""The transactions of a recovery: what is claimed, and made of an outcome.

Each is one database transaction that first locks the incident's row, and only then reads the
clock, so that time lines are in order; nothing here calls out, waits, or has a thread.
"""

import dataclasses
import random
import uuid
from collections.abc import Callable, Sequence

from oslo_config import cfg

from vmmonitor.db import incidents, limits, recoveries
from vmmonitor.db.session import Transaction
from vmmonitor.engine.admission import check
from vmmonitor.engine.admission.check import Gate
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
from vmmonitor.rules import policies
from vmmonitor.rules.policies import Policies, Policy, PolicyStep, WaitCondition

RUNS_AGAIN = "the instance runs again"
TAKEN_OVER = "taken over: its engine is gone"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A recovery that this engine has claimed, and what its driver needs to know.

    :param step: the step of the policy that it belongs to.
    :param dry_run: who says that nothing is to be called; empty: nobody.
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
        turns: Sequence[Gate] = (),
    ):
        """Keep the parts.

        :param now: the engines' common clock, in microseconds since the epoch.
        :param turns: asked before each attempt but the first, about which ``Decisions`` asks.
        """
        self.policies = policies
        self._conf = conf
        self._now = now
        self._turns = turns

    def first(self, tx: Transaction, incident: Incident, policy: Policy, now: int) -> Claim | None:
        """Claim the first attempt for an incident that is being recovered from now on.

        :returns: None if the policy has no step that is not skipped.
        """
        index = next_step(policy, -1)
        if index is None:
            return None
        recovery = self._request(tx, incident, policy, index, 1, now, now)
        return self._claim(tx, incident, recovery, policy, now)

    # -- a recovery is due ---------------------------------------------------------------------
    def take_up(self, tx: Transaction, recovery: Recovery, seen: bool = False) -> Claim | None:
        """Claim a recovery that is due, or end one that waited in vain.

        :param seen: the expectation says that the instance runs; only of one that waits for that.
        :returns: what to call now; None if nothing.
        :raises vmmonitor.model.errors.Conflict: another engine was faster.
        """
        incident = incidents.lock(tx, recovery.incident_id)
        now = self._now()
        policy = self.policies.get(recovery.policy)
        runs = incident.running_at is not None if recovery.look_at is None else seen
        if runs and incident.state == IncidentState.RECOVERING:
            self._runs(tx, incident, recovery, now)
            return None
        if recovery.state == RecoveryState.WAITING and now < recovery.wait_until:
            recoveries.set_look_at(tx, recovery, self._next_look(recovery.wait_until, now))
            return None
        if recovery.state == RecoveryState.WAITING:
            message = "the instance was not seen running in time"
            recovery = move_recovery(tx, recovery, RecoveryTransition.FAIL, message, now)
            self._after_failure(tx, incident, recovery, True, now)
            return None
        if policy is None or _step(policy, recovery) is None:
            self._without_policy(tx, incident, recovery, now)
            return None
        if recovery.state == RecoveryState.RUNNING:
            return self._claim(tx, incident, recovery, policy, now, taken_over=True)
        if not self._has_turn(tx, incident, recovery, policy, now):
            return None
        return self._claim(tx, incident, recovery, policy, now)

    def _has_turn(
        self, tx: Transaction, incident: Incident, recovery: Recovery, policy: Policy, now: int
    ) -> bool:
        """Tell whether an attempt may begin; if not, it waits for its turn."""
        what = f"{recovery.driver}, attempt {recovery.attempt}"
        if refusal := check.ask(self._turns, tx, incident, policy, now):
            reason = f"{what} {refusal.reason}"
            if incident.held_by != HoldReason.CONCURRENCY:
                note(tx, incident, now, "hold", reason, held_by=HoldReason.CONCURRENCY)
            limits.join(tx, incident, recovery, refusal.until, reason, now)
            return False
        if incident.held_by == HoldReason.CONCURRENCY:
            limits.leave(tx, incident, f"{what} has its turn", now)
        return True

    def _runs(self, tx: Transaction, incident: Incident, recovery: Recovery, now: int) -> None:
        """End a recovery whose instance was seen running since a driver was called."""
        if recovery.state == RecoveryState.RUNNING:
            recovery = self._take_over(tx, recovery, now)
        ending = (
            RecoveryTransition.CANCEL
            if recovery.state == RecoveryState.REQUESTED
            else RecoveryTransition.SUCCEED
        )
        move_recovery(tx, recovery, ending, RUNS_AGAIN, now)
        move(tx, incident, IncidentTransition.RUN, RUNS_AGAIN, now)

    def _without_policy(
        self, tx: Transaction, incident: Incident, recovery: Recovery, now: int
    ) -> None:
        message = f"policy {recovery.policy} is not in force any more"
        if recovery.state == RecoveryState.REQUESTED:
            move_recovery(tx, recovery, RecoveryTransition.CANCEL, message, now)
        else:
            recovery = self._take_over(tx, recovery, now)
            move_recovery(tx, recovery, RecoveryTransition.FAIL, message, now)
        move(tx, incident, IncidentTransition.GIVE_UP, message, now)

    def _take_over(self, tx: Transaction, recovery: Recovery, now: int) -> Recovery:
        """Take a recovery from an engine that is gone, to end it."""
        return move_recovery(
            tx,
            recovery,
            RecoveryTransition.TAKE_OVER,
            TAKEN_OVER,
            now,
            lease_owner=str(uuid.uuid4()),
        )

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
            "take_over" if taken_over else "claim",
            TAKEN_OVER if taken_over else "calling the driver",
            now,
            timeline.call(policy, recovery),
            # NOTE: a name of its own for each claim, so that a driver that comes back after its
            # recovery was taken over, be it by the same engine, finds its lease gone.
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
        """Return who says that nothing is to be called; empty if nobody does."""
        if self._conf.recovery.dry_run:
            return "[recovery] dry_run"
        if policy.dry_run:
            return f"policy {policy.name}"
        return f"the step of policy {policy.name}" if step.dry_run else ""

    # -- what came of it -----------------------------------------------------------------------
    def finish(self, tx: Transaction, claim: Claim, outcome: Outcome) -> None:
        """Write down what came of an attempt, and what follows from it.

        :raises vmmonitor.model.errors.Conflict: the recovery was taken over meanwhile.
        """
        incident = incidents.lock(tx, claim.incident.incident_id)
        now = self._now()
        runs = incident.running_at is not None
        is_over = incident.state != IncidentState.RECOVERING
        asks = claim.step.wait_for == WaitCondition.ACTIVE
        wants_to_see = claim.step.wait_for == WaitCondition.RUNNING and not runs
        told = timeline.answer(outcome, claim.step, claim.recovery, now)
        if outcome.move == "wait" and (asks or wants_to_see):
            until = now + round(claim.step.wait * SECOND)
            look_at = self._next_look(until, now) if asks else None
            move_recovery(
                *(tx, claim.recovery, RecoveryTransition.WAIT, outcome.message, now, told),
                wait_until=until,
                look_at=look_at,
            )
            return
        if runs and outcome.move == "fail" and outcome.retry and not is_over:
            # One of the two words is late: a guest that was resumed and paused again at once
            # was told to run, and the driver's answer may outrun what says that it does not.
            message = f"{outcome.message}, but it was seen running: what comes next tells"
            until = now + round(LATE_EVENT_WINDOW * SECOND)
            move_recovery(
                tx, claim.recovery, RecoveryTransition.WAIT, message, now, told, wait_until=until
            )
            return
        ending = "succeed" if outcome.move == "wait" else outcome.move
        recovery = move_recovery(tx, claim.recovery, ending, outcome.message, now, told)
        if is_over:
            return
        if ending == "fail":
            self._after_failure(tx, incident, recovery, outcome.retry, now)
        elif claim.dry_run:
            self._after_dry_run(tx, incident, claim, now)
        elif ending == "skip":
            move(tx, incident, IncidentTransition.PLAN, outcome.message, now)
        elif runs:
            move(tx, incident, IncidentTransition.RUN, RUNS_AGAIN, now)
        else:
            move(
                tx, incident, IncidentTransition.LEAVE, f"{recovery.driver} has done its part", now
            )

    def _next_look(self, until: int, now: int) -> int:
        """Return when to ask the expectation again whether an instance runs."""
        return min(until, now + round(self._conf.recovery.active_poll_interval * SECOND))

    def _after_dry_run(self, tx: Transaction, incident: Incident, claim: Claim, now: int) -> None:
        """Go on to the next step if only this one is tried out; else leave the incident open."""
        policy = self.policies.get(claim.recovery.policy)
        index = next_step(policy, claim.recovery.step) if claim.step.dry_run else None
        if policy is None or index is None or self._conf.recovery.dry_run or policy.dry_run:
            move(tx, incident, IncidentTransition.LEAVE, f"dry run, as {claim.dry_run} says", now)
            return
        self._request(tx, incident, policy, index, 1, now, now)
        note(tx, incident, now, "recovery", timeline.next_step(policy, index), step=index + 1)

    def _after_failure(
        self, tx: Transaction, incident: Incident, failed: Recovery, retry: bool, now: int
    ) -> None:
        """Ask for the next attempt, or the next step, or give up."""
        if incident.state != IncidentState.RECOVERING:
            return
        if incident.running_at is not None:
            move(tx, incident, IncidentTransition.RUN, RUNS_AGAIN, now)
            return
        policy = self.policies.get(failed.policy)
        step = _step(policy, failed)
        if policy is None or step is None:
            move(
                tx,
                incident,
                IncidentTransition.GIVE_UP,
                f"policy {failed.policy} is not in force any more",
                now,
            )
            return
        if retry and (step.attempts == policies.WITHOUT_LIMIT or failed.attempt < step.attempts):
            delay = step.backoff.delay(failed.attempt, random.random())
            not_before = now + round(delay * SECOND)
            self._request(tx, incident, policy, failed.step, failed.attempt + 1, not_before, now)
            word = timeline.next_attempt(step, failed.attempt + 1, delay)
            note(tx, incident, now, "recovery", word, not_before=not_before)
            return
        index = next_step(policy, failed.step)
        if index is None:
            move(
                tx,
                incident,
                IncidentTransition.GIVE_UP,
                f"every step failed, at last: {failed.message}",
                now,
            )
            return
        self._request(tx, incident, policy, index, 1, now, now)
        note(tx, incident, now, "recovery", timeline.next_step(policy, index), step=index + 1)


def _step(policy: Policy | None, recovery: Recovery) -> PolicyStep | None:
    """Return the step that a recovery belongs to; None if the policy has changed since."""
    if policy is None or recovery.step >= len(policy.steps):
        return None
    step = policy.steps[recovery.step]
    return step if step.driver == recovery.driver else None


def next_step(policy: Policy | None, index: int) -> int | None:
    """Return the index of the next step that is not skipped; None if there is none."""
    if policy is None:
        return None
    later = range(index + 1, len(policy.steps))
    return next((i for i in later if policy.steps[i].enabled), None)
