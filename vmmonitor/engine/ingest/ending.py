# SPDX-License-Identifier: Apache-2.0
"""Ends an incident whose instance runs again, or whose drift is over."""

import dataclasses

from vmmonitor.db import events as stored_events
from vmmonitor.db import recoveries
from vmmonitor.engine.incidents.transitions import (
    LATE_EVENT_WINDOW,
    move,
    move_recovery,
)
from vmmonitor.engine.ingest import event_effects
from vmmonitor.engine.ingest.incident_changes import IncidentChanges, OpenIncident
from vmmonitor.model import event as events
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import (
    IncidentState,
    IncidentTransition,
    RecoveryState,
    RecoveryTransition,
)


def end_if_running(changes: IncidentChanges, opened: OpenIncident, event: Event) -> None:
    """Resolve an incident by an event that reports a running instance, if it is sufficient.

    An incident with a recovery that is not finished only gets the time of the event.
    """
    if not _is_sufficient(changes, opened, event):
        return
    opened.running_at = event.occurred_at
    changes.flush(opened)
    changes.attach_events(opened)
    opened.incident = dataclasses.replace(opened.incident, running_at=event.occurred_at)
    reason = f"the instance runs again: {event.cause}"
    is_recovering = opened.incident.state == IncidentState.RECOVERING
    if is_recovering and not _end_recovery(changes, opened.incident, reason):
        return
    move(changes.tx, opened.incident, IncidentTransition.RUN, reason, changes.now)
    changes.remove(opened)


def end_if_drift_is_over(changes: IncidentChanges, opened: OpenIncident) -> None:
    """Resolve an incident that reconciliation opened, unless a host reported a failure since."""
    incident = opened.incident
    by_reconciliation = incident.cause.startswith(events.RECONCILE_SOURCE)
    if not by_reconciliation or incident.state == IncidentState.RECOVERING:
        return
    if opened.host_reported_failure or _has_host_failure(changes, incident):
        return
    changes.flush(opened)
    changes.attach_events(opened)
    reason = "the instance is in its desired state again"
    move(changes.tx, opened.incident, IncidentTransition.RUN, reason, changes.now)
    changes.remove(opened)


def _is_sufficient(changes: IncidentChanges, opened: OpenIncident, event: Event) -> bool:
    """Return whether an event that reports a running instance can end the incident.

    A QEMU process that answers again does not prove that a paused or stopped guest runs.
    """
    if event.type == events.RECOVERED and (
        opened.more_than_hung or _has_more_than_hung(changes, opened.incident)
    ):
        return False
    return event_effects.is_news(opened.incident, event)


def _has_more_than_hung(changes: IncidentChanges, incident: Incident) -> bool:
    return stored_events.has_event_of(
        changes.tx,
        incident.incident_id,
        types=event_effects.NOT_RUNNING_TYPES,
        other_failures=event_effects.HANGS,
    )


def _has_host_failure(changes: IncidentChanges, incident: Incident) -> bool:
    """Return whether a host, not reconciliation, reported a failure before this transaction."""
    return any(
        stored.event.source != events.RECONCILE_SOURCE
        and stored.decision.action == events.INCIDENT
        for stored in stored_events.of_incident(changes.tx, incident.incident_id)
    )


def _end_recovery(changes: IncidentChanges, incident: Incident, reason: str) -> bool:
    """End the incident's recovery; return False if it ends by itself later."""
    recovery = recoveries.active_for(changes.tx, incident.incident_id)
    if recovery is None:
        return True
    waits_for_expectation = recovery.look_at is not None
    is_running = recovery.state == RecoveryState.RUNNING
    if is_running or waits_for_expectation or _follows_recent_failure(recovery, changes.now):
        return False
    is_waiting = recovery.state == RecoveryState.WAITING
    ending = RecoveryTransition.SUCCEED if is_waiting else RecoveryTransition.CANCEL
    move_recovery(changes.tx, recovery, ending, reason, changes.now)
    changes.freed_slot = True
    return True


def _follows_recent_failure(recovery: Recovery, now: int) -> bool:
    """Return whether the event may be a late effect of the attempt that just failed.

    A guest that was resumed and paused again reports that it runs. The next attempt reads the
    state of the instance when it is due.
    """
    is_next_attempt = recovery.state == RecoveryState.REQUESTED
    return is_next_attempt and now < recovery.created_at + round(LATE_EVENT_WINDOW * SECOND)
