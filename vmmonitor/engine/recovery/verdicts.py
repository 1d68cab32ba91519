# SPDX-License-Identifier: Apache-2.0
"""What follows from a verdict: an incident is ignored, left, put off, or recovered.

One transaction, which first locks the incident's row, and only then reads the clock.
"""

import dataclasses
from collections.abc import Callable, Sequence

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import incidents
from vmmonitor.db.session import Transaction
from vmmonitor.engine.admission import check as gates
from vmmonitor.engine.admission.check import Gate, Refusal
from vmmonitor.engine.incidents import timeline
from vmmonitor.engine.incidents.transitions import move, note
from vmmonitor.engine.recovery.attempts import Attempts, Claim, next_step
from vmmonitor.model.clock import SECOND
from vmmonitor.model.errors import Conflict
from vmmonitor.model.incident import HoldReason, Incident, Verdict, VerdictKind
from vmmonitor.model.states import IncidentState

LOG = log.getLogger(__name__)

#: Seconds after its hold at which an instance that never falls silent is decided on all the same.
UNDECIDED = 10.0


class Outdated(Conflict):
    """Events came in since, which may tell that all of this was planned"""

    def __init__(self, incident: Incident):
        """Keep the incident as it is now."""
        super().__init__()
        self.incident = incident


class Decisions:
    """Decides about incidents whose hold is over."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        attempts: Attempts,
        gates: Sequence[Gate],
        now: Callable[[], int],
    ):
        """Keep the parts.

        :param attempts: has the policies in force, and claims what is decided on.
        :param gates: asked in this order.
        :param now: the engines' common clock, in microseconds since the epoch.
        """
        self._conf = conf
        self._attempts = attempts
        self._gates = gates
        self._now = now

    def decide(self, tx: Transaction, judged: Incident, verdict: Verdict) -> Claim | None:
        """Act on a verdict: claim a first attempt, or leave, ignore or hold the incident.

        :param judged: the incident as it was before the verdict on it was asked for.
        :returns: what to call now; None if nothing, or if another engine was faster.
        :raises Outdated: the verdict is to be asked for again.
        :raises vmmonitor.model.errors.Conflict: another engine was faster.
        """
        incident = incidents.lock(tx, judged.incident_id)
        now = self._now()
        if incident.state not in incidents.WAITING or incident.hold_until > now:
            return None
        overdue = now - incident.hold_until > UNDECIDED * SECOND
        if incident.event_count != judged.event_count and not overdue:
            raise Outdated(incident)
        if verdict.kind in (VerdictKind.PLANNED, VerdictKind.GONE):
            _tell(tx, incident, verdict, now)
            move(tx, incident, "plan", verdict.reason, now)
            return None
        if verdict.kind == VerdictKind.UNKNOWN:
            self._ask_again(tx, incident, verdict, now)
            return None
        if verdict.kind == VerdictKind.MUTED:
            until = now + round(self._conf.recovery.maintenance_interval * SECOND)
            muted = Refusal("silence", HoldReason.MAINTENANCE, verdict.reason, until)
            self._put_off(tx, incident, verdict, muted, now)
            return None
        return self._act(tx, incident, verdict, now)

    def _act(
        self, tx: Transaction, incident: Incident, verdict: Verdict, now: int
    ) -> Claim | None:
        """It is a failure: claim a first attempt if a policy wants to act, and may."""
        policy = self._attempts.policies.get(incident.policy)
        acts = next_step(policy, -1) is not None
        incident = dataclasses.replace(incident, priority=verdict.priority)
        if refusal := gates.ask(self._gates, tx, incident, policy if acts else None, now):
            self._put_off(tx, incident, verdict, refusal, now)
            return None
        _tell(tx, incident, verdict, now)
        if policy is None or not acts:
            reason = f"policy {policy.name} has no step" if policy else "no policy acts on it"
            move(tx, incident, "leave", reason, now)
            return None
        incident = move(
            *(tx, incident, "confirm", verdict.reason, now),
            running_at=None,
            priority=verdict.priority,
        )
        return self._attempts.first(tx, incident, policy, now)

    def _ask_again(self, tx: Transaction, incident: Incident, verdict: Verdict, now: int) -> None:
        """Nobody knows: never act blindly, ask again later; tell a person if that goes on."""
        again = now + round(self._conf.recovery.verdict_retry_interval * SECOND)
        waited = now - incident.opened_at
        if waited >= self._conf.recovery.unknown_limit * SECOND:
            silenced = gates.ask(self._gates, tx, incident, None, now)
            unknown = Refusal("hold", HoldReason.UNKNOWN, verdict.reason, again)
            self._put_off(tx, incident, verdict, silenced or unknown, now)
            return
        if incident.reason != verdict.reason:
            _tell(tx, incident, verdict, now)
        # Who was held for another reason is held for this one now: it waits for no turn.
        changes = {"held_by": HoldReason.UNKNOWN} if incident.state == IncidentState.HELD else {}
        incidents.reschedule(tx, incident, again, verdict.reason, now, **changes)

    def _put_off(
        self,
        tx: Transaction,
        incident: Incident,
        verdict: Verdict,
        refusal: Refusal,
        now: int,
    ) -> None:
        """Hold or silence an incident until it is to be looked at again."""
        changes = {
            "held_by": refusal.held_by,
            "part_of": refusal.part_of or incident.part_of,
            "priority": incident.priority,
        }
        if incident.state == gates.STATES[refusal.move]:
            if (incident.held_by, incident.reason) != (refusal.held_by, refusal.reason):
                note(tx, incident, now, "hold", refusal.reason, held_by=refusal.held_by)
            incidents.reschedule(tx, incident, refusal.until, refusal.reason, now, **changes)
            return
        _tell(tx, incident, verdict, now)
        until = refusal.until
        move(tx, incident, refusal.move, refusal.reason, now, hold_until=until, **changes)
        if refusal.held_by in gates.ALERTING:
            LOG.warning(
                "Incident %s of instance %s is held: %s",
                *(incident.incident_id, incident.instance.uuid, refusal.reason),
            )


def _tell(tx: Transaction, incident: Incident, verdict: Verdict, now: int) -> None:
    """Write down who was asked what, and what came of it."""
    note(tx, incident, now, "question", timeline.message(verdict), **timeline.data(verdict))
