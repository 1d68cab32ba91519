# SPDX-License-Identifier: Apache-2.0
"""The effects of an event on the open incident of its instance, as pure functions."""

from vmmonitor.db import incidents
from vmmonitor.model import event as events
from vmmonitor.model import instance as instances
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident
from vmmonitor.rpc.event_wire import Delivery

#: Cause of the event at the end of a live migration, from the destination.
ARRIVED = "lifecycle.resumed/migrated"
#: Start of the causes of incidents whose instance has stopped.
ENDED = ("lifecycle.stopped", *events.WITHOUT_A_CAUSE)
#: Event types that concern only whether QEMU answers.
HANGS = (events.HUNG, events.STALLED, *events.RUNNING_AGAIN)
#: Event types of an instance that does not run, even if QEMU answers.
NOT_RUNNING_TYPES = tuple(
    kind for kind, state in instances.STATE_AFTER.items() if state != instances.RUNNING
)


def is_more_than_hung(delivery: Delivery) -> bool:
    """Return whether an event reports a failure that an answer of QEMU does not end."""
    event, action = delivery.event, delivery.decision.action
    is_other_failure = action == events.INCIDENT and event.type not in HANGS
    return is_other_failure or event.type in NOT_RUNNING_TYPES


def is_news(incident: Incident, event: Event) -> bool:
    """Return whether an event that reports a running instance is later than the failure.

    The events of one host arrive in order; those of another host may have waited in its spool.
    During a migration the instance does not run on the destination before it is resumed there.
    An instance that arrived runs as before, which matters only if it was considered stopped.
    """
    if event.cause == "lifecycle.started/migrated":
        return False
    if event.cause == ARRIVED and not incident.cause.startswith(ENDED):
        return False
    return event.host == incident.host or event.occurred_at > incident.opened_at


def is_awaited_cause(incident: Incident, delivery: Delivery) -> bool:
    """Return whether an event reports the cause of an incident that has none yet.

    The cause is another failure, or the event of the end of the instance.
    """
    event = delivery.event
    is_end = instances.STATE_AFTER.get(event.type) in (instances.SHUTOFF, instances.CRASHED)
    is_failure = delivery.decision.action == events.INCIDENT
    return (
        incident.cause in events.WITHOUT_A_CAUSE
        and event.type not in events.WITHOUT_A_CAUSE
        and incident.state in incidents.WAITING
        and event.host == incident.host
        and (is_end or is_failure)
    )
