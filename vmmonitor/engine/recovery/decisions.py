# SPDX-License-Identifier: Apache-2.0
"""Decides what follows from a verdict: an incident is ignored, left, put off, or recovered.

Each decision is one transaction, which locks the incident's row before it reads the clock.
"""

import dataclasses
from collections.abc import Callable, Sequence

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import incidents, requests, timeline_entries
from vmmonitor.db.session import Transaction
from vmmonitor.engine.admission.check import (
    DENIED_STATES,
    NEEDS_OPERATOR,
    AdmissionCheck,
    Denied,
    admit,
)
from vmmonitor.engine.incidents import timeline
from vmmonitor.engine.incidents.transitions import move, note
from vmmonitor.engine.recovery.attempts import Attempts, next_step
from vmmonitor.engine.recovery.claims import Claim
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import HoldReason, Incident, Verdict, VerdictKind
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import IncidentState, IncidentTransition
from vmmonitor.model.timeline import TimelineKind

LOG = log.getLogger(__name__)

#: Maximum delay, in seconds, of the decision on an incident after its hold, if it continuously
#: receives new events.
DECIDE_AFTER = 10.0
#: Verdicts that count as failed if an operator requested the recovery.
OVERRIDDEN = (VerdictKind.UNKNOWN, VerdictKind.MANUAL, VerdictKind.MUTED)


@dataclasses.dataclass(frozen=True, slots=True)
class Outdated:
    """Events arrived since the verdict was requested, and may show that all of it was planned.

    :param incident: the incident as it is now.
    """

    incident: Incident


class Decisions:
    """Decides about incidents whose hold is over."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        attempts: Attempts,
        checks: Sequence[AdmissionCheck],
        now: Callable[[], int],
    ):
        """Use these parts.

        :param attempts: has the policies in force, and claims first attempts.
        :param checks: the admission checks, in order.
        :param now: returns the engines' common clock, in microseconds since the epoch.
        """
        self._conf = conf
        self._attempts = attempts
        self._checks = checks
        self._now = now

    def decide(
        self,
        tx: Transaction,
        judged: Incident,
        verdict: Verdict,
        earlier: Sequence[Recovery] = (),
    ) -> Claim | Outdated | None:
        """Act on a verdict: claim a first attempt, or leave, ignore or hold the incident.

        :param judged: the incident as it was when the verdict was requested.
        :param earlier: recoveries of the incident, which an operator had recovered before.
        :returns: the claim whose driver to call; None if there is nothing to call.
        :raises vmmonitor.model.errors.Conflict: another engine changed the incident first.
        """
        incident = incidents.lock(tx, judged.incident_id)
        now = self._now()
        if incident.state not in incidents.WAITING or incident.hold_until > now:
            return None
        is_overdue = now - incident.hold_until > DECIDE_AFTER * SECOND
        if incident.event_count != judged.event_count and not is_overdue:
            return Outdated(incident)
        verdict = with_override(tx, incident, verdict)
        match verdict.kind:
            case VerdictKind.PLANNED | VerdictKind.GONE:
                note_verdict(tx, incident, verdict, now)
                move(tx, incident, IncidentTransition.PLAN, verdict.reason, now)
            case VerdictKind.UNKNOWN if verdict.runs and incident.reason == verdict.reason:
                # It was found running before, and no later event contradicts that.
                note_verdict(tx, incident, verdict, now)
                move(tx, incident, IncidentTransition.RUN, verdict.reason, now)
            case VerdictKind.UNKNOWN:
                self._retry_verdict(tx, incident, verdict, now)
            case VerdictKind.MUTED:
                self._put_off(tx, incident, verdict, deny_muted(self._conf, verdict, now), now)
            case VerdictKind.FAILED | VerdictKind.MANUAL:
                return self._recover(tx, incident, verdict, earlier, now)
        return None

    def review(self, tx: Transaction, judged: Incident, verdict: Verdict) -> bool:
        """Close an unhandled incident whose instance was stopped on purpose or is gone.

        One that a MANUAL verdict left to an operator is released when the state that caused that
        is over: nova has confirmed a resize. Any other one stays with the operator.

        :param judged: the incident as it was when the verdict was requested.
        :returns: whether it was released, and is due.
        :raises vmmonitor.model.errors.Conflict: another engine changed the incident first.
        """
        if verdict.kind not in (VerdictKind.PLANNED, VerdictKind.GONE, VerdictKind.FAILED):
            return False
        incident = incidents.lock(tx, judged.incident_id)
        now = self._now()
        is_same = incident.event_count == judged.event_count
        if incident.state != IncidentState.UNHANDLED or not is_same:
            return False
        if verdict.kind != VerdictKind.FAILED:
            note_verdict(tx, incident, verdict, now)
            move(tx, incident, IncidentTransition.PLAN, verdict.reason, now)
            return False
        if timeline_entries.last_verdict(tx, incident.incident_id) != VerdictKind.MANUAL:
            return False
        reason = f"a recovery is possible now: {verdict.reason}"
        move(tx, incident, IncidentTransition.RELEASE, reason, now, hold_until=now)
        return True

    def _recover(
        self,
        tx: Transaction,
        incident: Incident,
        verdict: Verdict,
        earlier: Sequence[Recovery],
        now: int,
    ) -> Claim | None:
        """Claim a first attempt, if a policy acts on the incident and admission allows it.

        No policy acts on a MANUAL verdict, unless an operator requested the recovery.
        """
        is_manual = verdict.kind == VerdictKind.MANUAL
        policy = None if is_manual else self._attempts.policies.get(incident.policy)
        acts = next_step(policy, -1) is not None
        incident = dataclasses.replace(incident, priority=verdict.priority)
        if denied := admit(self._checks, tx, incident, policy if acts else None, now):
            self._put_off(tx, incident, verdict, denied, now)
            return None
        note_verdict(tx, incident, verdict, now)
        if policy is None or not acts:
            without = f"policy {policy.name} has no step" if policy else "no policy acts on it"
            reason = verdict.reason if is_manual else without
            move(tx, incident, IncidentTransition.LEAVE, reason, now)
            return None
        incident = move(
            tx,
            incident,
            IncidentTransition.CONFIRM,
            verdict.reason,
            now,
            running_at=None,
            priority=verdict.priority,
        )
        return self._attempts.first(tx, incident, policy, now, earlier)

    def _retry_verdict(
        self, tx: Transaction, incident: Incident, verdict: Verdict, now: int
    ) -> None:
        """Request the verdict again later; hold the incident if it stays unknown for long."""
        unknown = deny_unknown(self._conf, verdict, now)
        waited = now - incident.opened_at
        if waited >= self._conf.recovery.unknown_limit * SECOND:
            silenced = admit(self._checks, tx, incident, None, now)
            self._put_off(tx, incident, verdict, silenced or unknown, now)
            return
        if incident.reason != verdict.reason:
            note_verdict(tx, incident, verdict, now)
        # An incident that was held for another reason leaves the queue of that reason.
        is_held = incident.state == IncidentState.HELD
        changes = {"held_by": HoldReason.UNKNOWN} if is_held else {}
        incidents.reschedule(tx, incident, unknown.until, verdict.reason, now, **changes)

    def _put_off(
        self,
        tx: Transaction,
        incident: Incident,
        verdict: Verdict,
        denied: Denied,
        now: int,
    ) -> None:
        """Hold or silence an incident until it is examined again."""
        changes = {
            "held_by": denied.held_by,
            "part_of": denied.part_of or incident.part_of,
            "priority": incident.priority,
        }
        if incident.state == DENIED_STATES[denied.transition]:
            if (incident.held_by, incident.reason) != (denied.held_by, denied.reason):
                kind, held_by = TimelineKind.HOLD, denied.held_by
                note(tx, incident, now, kind, denied.reason, held_by=held_by)
            incidents.reschedule(tx, incident, denied.until, denied.reason, now, **changes)
            return
        note_verdict(tx, incident, verdict, now)
        move(
            tx,
            incident,
            denied.transition,
            denied.reason,
            now,
            hold_until=denied.until,
            **changes,
        )
        if denied.held_by in NEEDS_OPERATOR:
            LOG.warning(
                "Incident %s of instance %s is held: %s",
                incident.incident_id,
                incident.instance.uuid,
                denied.reason,
            )


def with_override(tx: Transaction, incident: Incident, verdict: Verdict) -> Verdict:
    """Return the verdict on an incident that an operator may have requested to recover.

    The operator saw the failure. An unknown or manual verdict therefore counts as failed, and the
    maintenance of the host does not mute it; both only for the verdict that the request waits
    for, not for retries. An instance that was stopped on purpose or is gone stays as it is.
    """
    if not incident.override or verdict.kind not in OVERRIDDEN:
        return verdict
    if not requests.awaits_verdict(tx, incident.incident_id):
        return verdict
    reason = f"{verdict.reason}; {incident.override} requested the recovery"
    return dataclasses.replace(verdict, kind=VerdictKind.FAILED, reason=reason)


def deny_unknown(conf: cfg.ConfigOpts, verdict: Verdict, now: int) -> Denied:
    """Return a denial until the verdict is requested again."""
    until = now + round(conf.recovery.verdict_retry_interval * SECOND)
    return Denied(IncidentTransition.HOLD, HoldReason.UNKNOWN, verdict.reason, until)


def deny_muted(conf: cfg.ConfigOpts, verdict: Verdict, now: int) -> Denied:
    """Return a denial until the maintenance of the host is checked again."""
    until = now + round(conf.recovery.maintenance_interval * SECOND)
    return Denied(IncidentTransition.SILENCE, HoldReason.MAINTENANCE, verdict.reason, until)


def note_verdict(tx: Transaction, incident: Incident, verdict: Verdict, now: int) -> None:
    """Add the query of the expectation and its answer to the timeline."""
    message, data = timeline.verdict_message(verdict), timeline.verdict_data(verdict)
    note(tx, incident, now, TimelineKind.QUESTION, message, **data)
