# SPDX-License-Identifier: Apache-2.0
"""What an event means for the open incident of its instance. Pure."""

from vmmonitor.db import incidents
from vmmonitor.model import event as events
from vmmonitor.model import instance as instances
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident
from vmmonitor.rpc.event_wire import Delivery

#: How a live migration to a host ends.
ARRIVED = "lifecycle.resumed/migrated"
#: What begins so tells of an instance that runs no more.
ENDED = ("lifecycle.stopped", *events.WITHOUT_A_CAUSE)
#: Types of the events that an answer of QEMU ends, or that tell of a better one.
HANGS = (events.HUNG, events.STALLED, *events.RUNNING_AGAIN)
#: Types of the events after which the instance does not run, whatever QEMU answers.
NOT_RUNNING = tuple(
    kind for kind, state in instances.STATE_AFTER.items() if state != instances.RUNNING
)


def stands_still(delivery: Delivery) -> bool:
    """Tell whether an event says of its instance what no answer of its QEMU can end."""
    event, action = delivery.event, delivery.decision.action
    failed = action == events.INCIDENT and event.type not in HANGS
    return failed or event.type in NOT_RUNNING


def has_moved(incident: Incident, event: Event) -> bool:
    """Tell whether the instance arrived on another host, after the incident opened."""
    elsewhere = event.cause == ARRIVED and event.host != incident.host
    return elsewhere and event.occurred_at > incident.opened_at


def is_news(incident: Incident, event: Event) -> bool:
    """Tell whether an event that says "it runs" was not already true before the incident.

    A host's events come in their order; another host's may have waited for long in its spool. An
    instance that is only arriving by a migration does not run there before it is resumed. One
    that arrived runs as it did before: that is news only of one that was taken for stopped.
    """
    if event.cause == "lifecycle.started/migrated":
        return False
    if event.cause == ARRIVED and not incident.cause.startswith(ENDED):
        return False
    return event.host == incident.host or event.occurred_at > incident.opened_at


def is_awaited_cause(incident: Incident, delivery: Delivery) -> bool:
    """Tell whether an event says why that happened of which only the bare fact is known: another
    failure, or a word on its end."""
    event = delivery.event
    ends = instances.STATE_AFTER.get(event.type) in (instances.SHUTOFF, instances.CRASHED)
    fails = delivery.decision.action == events.INCIDENT
    return (
        incident.cause in events.WITHOUT_A_CAUSE
        and event.type not in events.WITHOUT_A_CAUSE
        and incident.state in incidents.WAITING
        and event.host == incident.host
        and (ends or fails)
    )
