# SPDX-License-Identifier: Apache-2.0
"""Changes an open incident when a further event reports its cause, its host or another failure."""

import dataclasses

from vmmonitor.db import incidents, storms
from vmmonitor.db.incidents import KEEP
from vmmonitor.engine.incidents import timeline
from vmmonitor.engine.incidents.transitions import move
from vmmonitor.engine.ingest.incident_changes import IncidentChanges, OpenIncident
from vmmonitor.model import event as events
from vmmonitor.model import storage
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import Event
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.states import IncidentState, IncidentTransition
from vmmonitor.model.timeline import TimelineKind
from vmmonitor.rpc.event_wire import Delivery
from vmmonitor.rules.policies import Policies, Policy

#: Time after the hold of an unhandled incident, in seconds. A failure within this time counts as
#: the one that opened the incident.
SAME_FAILURE = 60.0


def set_cause(
    changes: IncidentChanges, policies: Policies, opened: OpenIncident, delivery: Delivery
) -> None:
    """Set the cause of an incident that was opened by an event without a cause.

    The policy is chosen again. The verdict follows after the hold of that policy, or at once if
    the event is not a failure.
    """
    event, decision = delivery.event, delivery.decision
    policy = policies.choose(event)
    is_failure = decision.action == events.INCIDENT
    hold = policy.hold if policy and is_failure else 0.0
    hold_until = changes.now + round(hold * SECOND)
    if opened.incident.held_by == HoldReason.OPERATOR:
        hold_until = opened.incident.hold_until
    event_count = opened.incident.event_count + opened.new_events
    opened.new_events, opened.running_at = 0, KEEP
    reason = f"the cause is {event.cause} (rule {decision.rule})"
    changes.flush(opened)
    opened.incident = incidents.reschedule(
        changes.tx,
        opened.incident,
        hold_until,
        reason,
        changes.now,
        cause=event.cause,
        severity=decision.severity,
        event_count=event_count,
        running_at=None,
        policy=policy.name if policy else opened.incident.policy,
    )
    opened.newly_held = True
    message = f"the cause is {event.cause}: rule {decision.rule}, action {decision.action}"
    changes.add_entry(opened.incident, TimelineKind.DECISION, message, event_id=event.event_id)
    if is_failure:
        data = timeline.policy_data(policy, event)
        changes.add_entry(
            opened.incident, TimelineKind.HOLD, timeline.hold_message(policy), **data
        )


def set_shared_cause(changes: IncidentChanges, opened: OpenIncident, event: Event) -> None:
    """Store which storage fails, if an event after the first one reports it."""
    if shared_cause := storage.shared_cause(event):
        changes.flush(opened)
        storms.set_shared_cause(changes.tx, opened.incident.incident_id, shared_cause)
        opened.incident = dataclasses.replace(opened.incident, shared_cause=shared_cause)


def set_host(changes: IncidentChanges, opened: OpenIncident, host: str, event: Event) -> None:
    """Set the host of an incident whose instance moved.

    :param event: the event that reports it.
    """
    changes.flush(opened)
    before = opened.incident.host
    changes.relocate(opened, incidents.set_host(changes.tx, opened.incident, host, changes.now))
    message = f"the instance moved from host {before} to host {host}"
    changes.add_entry(opened.incident, TimelineKind.DECISION, message, event_id=event.event_id)


def add_failure(
    changes: IncidentChanges, policies: Policies, opened: OpenIncident, event: Event
) -> None:
    """Apply the policy of a further failure.

    A more severe failure ends the hold of a milder one. An incident without a policy gets the
    policy of this failure. An unhandled incident is judged again.
    """
    opened.running_at = None
    opened.host_reported_failure |= event.source != events.RECONCILE_SOURCE
    policy = policies.choose(event)
    if policy is None:
        return
    incident = opened.incident
    hold_until = changes.now + round(policy.hold * SECOND)
    reason = f"{event.cause} followed: policy {policy.name}"
    if _is_judged_again(incident, policy, changes.now):
        changes.flush(opened)
        opened.incident = move(
            changes.tx,
            incident,
            IncidentTransition.RELEASE,
            reason,
            changes.now,
            hold_until=hold_until,
            policy=policy.name,
        )
    elif _waits_without_policy(incident) or _shortens_hold(incident, hold_until):
        changes.flush(opened)
        opened.incident = incidents.reschedule(
            changes.tx, incident, hold_until, reason, changes.now, policy=policy.name
        )
    else:
        return
    opened.newly_held = True
    message = f"{event.cause} followed: {timeline.hold_message(policy)}"
    data = timeline.policy_data(policy, event)
    changes.add_entry(opened.incident, TimelineKind.HOLD, message, **data)


def _is_judged_again(incident: Incident, policy: Policy, now: int) -> bool:
    """Return whether a failure of an unhandled incident is not part of the failure before."""
    if incident.state != IncidentState.UNHANDLED or not policy.enabled_steps:
        return False
    is_later = now - incident.hold_until > SAME_FAILURE * SECOND
    return policy.name != incident.policy or is_later


def _waits_without_policy(incident: Incident) -> bool:
    is_held_by_operator = incident.held_by == HoldReason.OPERATOR
    return incident.state in incidents.WAITING and not incident.policy and not is_held_by_operator


def _shortens_hold(incident: Incident, hold_until: int) -> bool:
    return incident.state == IncidentState.PENDING and hold_until < incident.hold_until
