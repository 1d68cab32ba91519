# SPDX-License-Identifier: Apache-2.0
"""Opens the incident of a failure."""

import uuid

from vmmonitor.engine.incidents import timeline
from vmmonitor.engine.ingest import event_effects
from vmmonitor.engine.ingest.incident_changes import IncidentChanges, OpenIncident
from vmmonitor.model import storage
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import Incident
from vmmonitor.model.states import IncidentState
from vmmonitor.model.timeline import TimelineKind
from vmmonitor.rpc.event_wire import Delivery
from vmmonitor.rules.policies import Policies


def open_incident(changes: IncidentChanges, policies: Policies, delivery: Delivery) -> str:
    """Open an incident, held as its policy says, and return its id."""
    event, decision = delivery.event, delivery.decision
    policy = policies.choose(event)
    hold = policy.hold if policy else 0.0
    incident = Incident(
        incident_id=str(uuid.uuid4()),
        instance=event.instance,
        host=event.host,
        cause=event.cause,
        severity=decision.severity,
        state=IncidentState.PENDING,
        reason=f"held for {hold:g} s" if hold else "waits for a verdict",
        policy=policy.name if policy else "",
        opened_at=event.occurred_at,
        hold_until=changes.now + round(hold * SECOND),
        updated_at=changes.now,
        shared_cause=storage.shared_cause(event),
    )
    changes.add(
        OpenIncident(
            incident=incident,
            is_new=True,
            newly_held=True,
            more_than_hung=event_effects.is_more_than_hung(delivery),
        )
    )
    message = f"opened by {event.cause}: rule {decision.rule}, action {decision.action}"
    changes.add_entry(
        incident, TimelineKind.DECISION, message, event_id=event.event_id, rule=decision.rule
    )
    data = timeline.policy_data(policy, event)
    changes.add_entry(incident, TimelineKind.HOLD, timeline.hold_message(policy), **data)
    return incident.incident_id
