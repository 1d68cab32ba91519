# SPDX-License-Identifier: Apache-2.0
"""Decides whether the driver of a due recovery is called: a retry, a further step or a takeover.

The decision uses the same verdicts and admission checks as that on a first attempt. A denied
attempt stays requested, and its incident stays ``recovering``; ``held_by`` is the reason.
"""

from collections.abc import Callable, Sequence

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import incidents, limits
from vmmonitor.db.session import Transaction
from vmmonitor.engine.admission import Admission
from vmmonitor.engine.admission.check import AdmissionCheck, Denied, admit
from vmmonitor.engine.incidents.transitions import note
from vmmonitor.engine.recovery.attempts import Attempts, find_step
from vmmonitor.engine.recovery.claims import Claim
from vmmonitor.engine.recovery.decisions import (
    Outdated,
    deny_muted,
    deny_unknown,
    note_verdict,
    with_override,
)
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import HoldReason, Incident, Verdict, VerdictKind
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.model.timeline import TimelineKind
from vmmonitor.rules.policies import Policy

LOG = log.getLogger(__name__)


class NextAttempts:
    """Decides about requested recoveries, and about those whose engine has stopped."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        attempts: Attempts,
        admission: Admission,
        now: Callable[[], int],
    ):
        """Use these parts.

        :param now: returns the engines' common clock, in microseconds since the epoch.
        """
        self._conf = conf
        self._attempts = attempts
        self._admission = admission
        self._now = now

    def decide(
        self,
        tx: Transaction,
        recovery: Recovery,
        judged: Incident,
        verdict: Verdict,
        is_overdue: bool = False,
    ) -> Claim | Outdated | None:
        """Act on a verdict: claim the attempt, hold it, or end the recovery.

        :param judged: the incident as it was when the verdict was requested.
        :param is_overdue: act on the verdict although newer events are attached.
        :returns: the claim whose driver to call; None if there is nothing to call.
        :raises vmmonitor.model.errors.Conflict: another engine changed the recovery first.
        """
        incident = incidents.lock(tx, recovery.incident_id)
        now = self._now()
        if incident.state != IncidentState.RECOVERING:
            return None
        if incident.running_at is not None:
            self._attempts.end_running(tx, incident, recovery, now)
            return None
        policy = self._attempts.policies.get(recovery.policy)
        if policy is None or find_step(policy, recovery) is None:
            self._attempts.end_without_policy(tx, incident, recovery, now)
            return None
        if incident.event_count != judged.event_count and not is_overdue:
            return Outdated(incident)
        if verdict.kind in (VerdictKind.PLANNED, VerdictKind.GONE):
            note_verdict(tx, incident, verdict, now)
            self._attempts.end_planned(tx, incident, recovery, verdict.reason, now)
            return None
        is_known = incident.held_by == HoldReason.UNKNOWN
        if verdict.kind == VerdictKind.UNKNOWN and verdict.runs and is_known:
            self._attempts.end_running(tx, incident, recovery, now)
            return None
        if self._is_taken_over_too_often(recovery):
            self._attempts.end_taken_over_too_often(tx, incident, recovery, now)
            return None
        verdict = with_override(tx, incident, verdict)
        if denied := self._why_denied(tx, incident, recovery, verdict, policy, now):
            self._hold(tx, incident, recovery, verdict, denied, now)
            return None
        note_verdict(tx, incident, verdict, now)
        if incident.held_by:
            has = "has a free slot" if incident.held_by == HoldReason.CONCURRENCY else "is due"
            limits.release_attempt(tx, incident, f"{_name(recovery)}: {has}", now)
        return self._attempts.claims.claim(tx, incident, recovery, policy, now)

    def _is_taken_over_too_often(self, recovery: Recovery) -> bool:
        is_running = recovery.state == RecoveryState.RUNNING
        return is_running and recovery.takeovers >= self._conf.recovery.max_takeovers

    def _why_denied(
        self,
        tx: Transaction,
        incident: Incident,
        recovery: Recovery,
        verdict: Verdict,
        policy: Policy,
        now: int,
    ) -> Denied | None:
        """Return why the driver is not called now; None if it is.

        The restart budget and flapping count the recoveries of other incidents only, so that
        retries within one incident do not use them up.
        """
        match verdict.kind:
            case VerdictKind.UNKNOWN | VerdictKind.MANUAL:
                return deny_unknown(self._conf, verdict, now)
            case VerdictKind.MUTED:
                return deny_muted(self._conf, verdict, now)
        return admit(self._checks_of(recovery), tx, incident, policy, now)

    def _checks_of(self, recovery: Recovery) -> Sequence[AdmissionCheck]:
        """Return the checks for an attempt; a recovery that is taken over keeps its slot."""
        checks, slots = self._admission.checks, self._admission.slots
        if recovery.state != RecoveryState.RUNNING:
            return checks
        return [check for check in checks if check is not slots]

    def _hold(
        self,
        tx: Transaction,
        incident: Incident,
        recovery: Recovery,
        verdict: Verdict,
        denied: Denied,
        now: int,
    ) -> None:
        """Hold the attempt; it is examined again when the denial ends."""
        reason = f"{_name(recovery)}: {denied.reason}"
        # A queued attempt has a new reason each time that the queue changes.
        is_known = incident.held_by == denied.held_by and (
            incident.reason == reason or denied.held_by == HoldReason.CONCURRENCY
        )
        if not is_known:
            if denied.held_by not in (HoldReason.CONCURRENCY, HoldReason.UNKNOWN):
                note_verdict(tx, incident, verdict, now)
            note(tx, incident, now, TimelineKind.HOLD, reason, held_by=denied.held_by)
        changes = {"held_by": denied.held_by, "part_of": denied.part_of or incident.part_of}
        limits.hold_attempt(tx, incident, recovery, denied.until, reason, now, **changes)
        self._warn(incident, recovery, denied, reason, is_known, now)

    def _warn(
        self,
        incident: Incident,
        recovery: Recovery,
        denied: Denied,
        reason: str,
        is_known: bool,
        now: int,
    ) -> None:
        """Log a warning once if the attempt needs an operator."""
        if denied.held_by == HoldReason.UNKNOWN:
            # Once, in the examination after the limit.
            beyond = now - recovery.created_at - self._conf.recovery.unknown_limit * SECOND
            is_due = 0 <= beyond < self._conf.recovery.verdict_retry_interval * SECOND
        else:
            is_due = denied.held_by == HoldReason.BUDGET and not is_known
        if is_due:
            LOG.warning(
                "The recovery of incident %s of instance %s is held: %s",
                incident.incident_id,
                incident.instance.uuid,
                reason,
            )


def _name(recovery: Recovery) -> str:
    return f"{recovery.driver}, attempt {recovery.attempt}"
