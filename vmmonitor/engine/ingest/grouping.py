# SPDX-License-Identifier: Apache-2.0
"""Groups the events of one transaction into incidents.

Whoever comes here holds the lock of the incident's row (``db.incidents.open_for`` or ``lock``),
and takes the lock of a recovery's row only after it.
"""

import dataclasses
import uuid
from typing import Any

from vmmonitor.db import events as stored
from vmmonitor.db import incidents, recoveries, storms, timeline_entries
from vmmonitor.db.incidents import KEEP
from vmmonitor.db.session import Transaction
from vmmonitor.engine.incidents import timeline
from vmmonitor.engine.incidents.transitions import LATE_EVENT_WINDOW, move, move_recovery
from vmmonitor.engine.ingest import meaning
from vmmonitor.model import event as events
from vmmonitor.model import storage
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import Event
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.model.timeline import TimelineEntry, TimelineKind
from vmmonitor.rpc.event_wire import Delivery
from vmmonitor.rules.policies import Policies, Policy

#: Seconds after its hold within which a failure of an open incident is the one that opened it.
SAME_FAILURE = 60.0


@dataclasses.dataclass(kw_only=True, slots=True)
class OpenIncident:
    """An open incident, and what the events of this transaction add to it.

    :param held: its hold was set here.
    :param failed: a host told of a failure here.
    :param running_at: as for ``db.incidents.attach``.
    :param stands_still: an event of this transaction tells of more than a QEMU that hangs.
    """

    incident: Incident
    is_new: bool
    held: bool = False
    failed: bool = False
    count: int = 0
    running_at: Any = KEEP
    stands_still: bool = False


class IncidentGrouper:
    """Sorts the events of one transaction into incidents."""

    def __init__(
        self,
        tx: Transaction,
        open_incidents: dict[str, Incident],
        policies: Policies,
        now: int,
    ):
        """Start from the incidents that are open.

        :param open_incidents: instance uuid -> incident, for every instance that has events here.
        :param now: microseconds since the epoch, engines' clock.
        """
        self._tx = tx
        self._policies = policies
        self._now = now
        self._cases = {
            instance_uuid: OpenIncident(incident=incident, is_new=False)
            for instance_uuid, incident in open_incidents.items()
        }
        self._steps: list[TimelineEntry] = []
        #: Whether a recovery was ended here, whose turn is free then.
        self.freed_slot = False

    def add(self, delivery: Delivery) -> str | None:
        """Return the id of the incident that the event belongs to; None if to none.

        While an incident is open all events of its instance belong to it. Otherwise one is
        opened by an event that the rules want recovered.
        """
        event = delivery.event
        case = self._cases.get(event.instance.uuid)
        if case is None:
            if delivery.decision.action != events.INCIDENT:
                return None
            return self._open(delivery)
        case.count += 1
        case.stands_still |= meaning.stands_still(delivery)
        if delivery.decision.action == events.INCIDENT and not case.incident.shared_cause:
            self._learn_shared_cause(case, event)
        if meaning.has_moved(case.incident, event):
            self._follow_to(case, event)
        if event.type in events.RUNNING_AGAIN:
            if self._is_evidence(case, event):
                self._runs_again(case, event)
        elif event.type == events.AGREES_AGAIN:
            self._agrees_again(case)
        elif meaning.is_awaited_cause(case.incident, delivery):
            self._learn_cause(case, delivery)
        elif delivery.decision.action == events.INCIDENT:
            case.running_at = None
            case.failed |= event.source != events.RECONCILE_SOURCE
            self._fail_again(case, event)
        return case.incident.incident_id

    def held(self) -> list[Incident]:
        """Return the incidents whose hold begins, or was changed, here."""
        return [case.incident for case in self._cases.values() if case.held]

    def write(self) -> None:
        """Write what was decided, except the events themselves."""
        incidents.insert(self._tx, [case.incident for case in self._cases.values() if case.is_new])
        for case in self._cases.values():
            case.is_new = False
            self._attach(case)
        self._write_notes()

    # -- opening -------------------------------------------------------------------------------
    def _open(self, delivery: Delivery) -> str:
        event = delivery.event
        policy = self._policies.choose(event)
        hold = policy.hold if policy else 0.0
        incident = Incident(
            incident_id=str(uuid.uuid4()),
            instance=event.instance,
            host=event.host,
            cause=event.cause,
            severity=delivery.decision.severity,
            state=IncidentState.PENDING,
            reason=f"held for {hold:g} s" if hold else "to be judged",
            policy=policy.name if policy else "",
            opened_at=event.occurred_at,
            hold_until=self._now + round(hold * SECOND),
            updated_at=self._now,
            shared_cause=storage.shared_cause(event),
        )
        self._cases[event.instance.uuid] = OpenIncident(
            incident=incident, is_new=True, held=True, stands_still=meaning.stands_still(delivery)
        )
        self._note(
            incident,
            "decision",
            f"opened by {event.cause}: rule {delivery.decision.rule} says incident",
            event_id=event.event_id,
            rule=delivery.decision.rule,
        )
        self._note(incident, "hold", _hold_message(policy), **timeline.chosen(policy, event))
        return incident.incident_id

    def _learn_cause(self, case: OpenIncident, delivery: Delivery) -> None:
        """Give an incident that began with a bare fact its cause, and have it judged by that: at
        once if it was planned."""
        event = delivery.event
        policy = self._policies.choose(event)
        wanted = delivery.decision.action == events.INCIDENT
        hold = policy.hold if policy and wanted else 0.0
        count, case.count, case.running_at = case.count, 0, KEEP
        changes: dict[str, Any] = {
            "cause": event.cause,
            "severity": delivery.decision.severity,
            "event_count": case.incident.event_count + count,
            "running_at": None,
        }
        if policy:
            changes["policy"] = policy.name
        word = f"the cause is {event.cause}: rule {delivery.decision.rule}"
        self._insert_first(case)
        hold_until = self._now + round(hold * SECOND)
        if case.incident.held_by == HoldReason.OPERATOR:
            hold_until = case.incident.hold_until
        case.incident = incidents.reschedule(
            self._tx, case.incident, hold_until, word, self._now, **changes
        )
        case.held = True
        message = f"{word} says {delivery.decision.action}"
        self._note(case.incident, "decision", message, event_id=event.event_id)
        if wanted:
            told = timeline.chosen(policy, event)
            self._note(case.incident, "hold", _hold_message(policy), **told)

    def _learn_shared_cause(self, case: OpenIncident, event: Event) -> None:
        """Note which storage fails, if an event after the first one tells."""
        if shared_cause := storage.shared_cause(event):
            self._insert_first(case)
            storms.learn_cause(self._tx, case.incident.incident_id, shared_cause)
            case.incident = dataclasses.replace(case.incident, shared_cause=shared_cause)

    def _follow_to(self, case: OpenIncident, event: Event) -> None:
        """Let an incident go with its instance to the host to which that was migrated."""
        self._insert_first(case)
        left = case.incident.host
        case.incident = incidents.relocate(self._tx, case.incident, event.host, self._now)
        message = f"it was migrated from host {left} to host {event.host}"
        self._note(case.incident, "decision", message, event_id=event.event_id)

    def _fail_again(self, case: OpenIncident, event: Event) -> None:
        """Let a graver event end the hold that a milder one began, or one on which a policy acts
        have an incident judged on which none did."""
        policy = self._policies.choose(event)
        if policy is None:
            return
        incident = case.incident
        hold_until = self._now + round(policy.hold * SECOND)
        word = f"{event.cause} followed: policy {policy.name}"
        if incident.state == IncidentState.UNHANDLED and self._is_worth_another_look(
            incident, policy
        ):
            changes = {"hold_until": hold_until, "policy": policy.name}
            self._insert_first(case)
            case.incident = move(self._tx, incident, "release", word, self._now, **changes)
        elif _waits_in_vain(incident) or _hastens(incident, hold_until):
            self._insert_first(case)
            case.incident = incidents.reschedule(
                self._tx, case.incident, hold_until, word, self._now, policy=policy.name
            )
        else:
            return
        case.held = True
        message = f"{event.cause} followed: {_hold_message(policy)}"
        self._note(case.incident, "hold", message, **timeline.chosen(policy, event))

    def _is_worth_another_look(self, incident: Incident, policy: Policy) -> bool:
        """Tell whether a failure is not just one more event of the one that was acted upon."""
        if not policy.enabled_steps:
            return False
        since = self._now - incident.hold_until
        return policy.name != incident.policy or since > SAME_FAILURE * SECOND

    # -- the instance runs again ---------------------------------------------------------------
    def _is_evidence(self, case: OpenIncident, event: Event) -> bool:
        """Tell whether an event that says "it runs" is enough to end the incident.

        A QEMU that answers again says nothing of a guest that is paused or stopped besides.
        """
        if event.type == events.RECOVERED and (
            case.stands_still or self._tells_more(case.incident)
        ):
            return False
        return meaning.is_news(case.incident, event)

    def _runs_again(self, case: OpenIncident, event: Event) -> None:
        case.running_at = event.occurred_at
        self._insert_first(case)
        self._attach(case)
        incident = dataclasses.replace(case.incident, running_at=event.occurred_at)
        case.incident = incident
        word = f"the instance runs again: {event.cause}"
        if incident.state == IncidentState.RECOVERING and not self._end_recovery(incident, word):
            return
        move(self._tx, incident, "run", word, self._now)
        del self._cases[incident.instance.uuid]

    def _tells_more(self, incident: Incident) -> bool:
        return stored.tells_of(
            *(self._tx, incident.incident_id),
            types=meaning.NOT_RUNNING,
            failures_besides=meaning.HANGS,
        )

    def _agrees_again(self, case: OpenIncident) -> None:
        """End an incident that reconciliation opened, unless a host told of a failure since."""
        incident = case.incident
        opened = incident.cause.startswith(events.RECONCILE_SOURCE)
        if not opened or case.failed or incident.state == IncidentState.RECOVERING:
            return
        for told in stored.of_incident(self._tx, incident.incident_id):
            by_host = told.event.source != events.RECONCILE_SOURCE
            if by_host and told.decision.action == events.INCIDENT:
                return
        self._insert_first(case)
        self._attach(case)
        move(self._tx, case.incident, "run", "the instance is as it should be again", self._now)
        del self._cases[incident.instance.uuid]

    def _end_recovery(self, incident: Incident, word: str) -> bool:
        """End the incident's recovery; False where what comes next decides."""
        recovery = recoveries.active_for(self._tx, incident.incident_id)
        if recovery is None:
            return True
        waits_for_more = recovery.look_at is not None
        if (
            recovery.state == RecoveryState.RUNNING
            or waits_for_more
            or self._has_just_failed(recovery)
        ):
            return False
        ending = "succeed" if recovery.state == RecoveryState.WAITING else "cancel"
        move_recovery(self._tx, recovery, ending, word, self._now)
        self.freed_slot = True
        return True

    def _has_just_failed(self, recovery: Recovery) -> bool:
        """Tell whether an attempt failed so lately that the word may be of what it did: a guest
        was resumed, and paused again. The next attempt finds out when it is due."""
        is_next = recovery.state == RecoveryState.REQUESTED
        return is_next and self._now < recovery.created_at + round(LATE_EVENT_WINDOW * SECOND)

    # -- writing -------------------------------------------------------------------------------
    def _insert_first(self, case: OpenIncident) -> None:
        """A new incident must be a row, with its beginning told, before anything changes it."""
        if case.is_new:
            incidents.insert(self._tx, [case.incident])
            case.is_new = False
        self._write_notes()

    def _attach(self, case: OpenIncident) -> None:
        if case.count or case.running_at is not KEEP:
            incidents.attach(
                *(self._tx, case.incident.incident_id, case.count, case.running_at, self._now)
            )
            # Whoever judges it next asks again if events came that it does not know of.
            count = case.incident.event_count + case.count
            case.incident = dataclasses.replace(case.incident, event_count=count)
            case.count, case.running_at = 0, KEEP

    def _write_notes(self) -> None:
        timeline_entries.insert(self._tx, self._steps)
        self._steps = []

    def _note(self, incident: Incident, kind: str, message: str, **data: Any) -> None:
        self._steps.append(
            TimelineEntry(
                incident_id=incident.incident_id,
                at=self._now,
                kind=TimelineKind(kind),
                message=message,
                data=data,
            )
        )


def _waits_in_vain(incident: Incident) -> bool:
    by_hand = incident.held_by == HoldReason.OPERATOR
    return incident.state in incidents.WAITING and not incident.policy and not by_hand


def _hastens(incident: Incident, hold_until: int) -> bool:
    return incident.state == IncidentState.PENDING and hold_until < incident.hold_until


def _hold_message(policy: Policy | None) -> str:
    if policy is None:
        return "no policy matches: nothing will act"
    if not policy.hold:
        return f"policy {policy.name}: no hold"
    return f"policy {policy.name}: held for {policy.hold:g} s"
