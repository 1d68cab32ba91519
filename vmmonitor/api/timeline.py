# SPDX-License-Identifier: Apache-2.0
"""Everything that happened to one incident, in the order in which it happened."""

from collections.abc import Iterator, Sequence
from typing import Any

from vmmonitor.api import times
from vmmonitor.model.event import StoredEvent, in_order
from vmmonitor.model.incident import Incident
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.timeline import TimelineEntry, TimelineKind


def merge(
    incident: Incident,
    events: Sequence[StoredEvent],
    steps: Sequence[TimelineEntry],
    recoveries: Sequence[Recovery],
) -> list[dict[str, Any]]:
    """Return the time line, oldest first.

    Everything stands at its time by the engines' clock. Events, whose times are corrected, stand
    in the order of their host whatever its clock did, and as far as its clock could not be known
    (``model.clock``) they may stand a little too early or late among the other lines. At equal
    times events come first, then steps in the order in which they were written.

    :param events: each host's in the order in which they were stored.

    A recovery tells when its driver was called and how it ended. A step of the same recovery
    (``data["recovery_id"]``) at the same time says it better, and stands for that line.

    :returns: objects with ``at`` (ISO 8601), ``ms`` (milliseconds since the callback that opened
        the incident), ``kind``, ``message`` and ``data``.
    """
    told = {(step.data.get("recovery_id"), step.at) for step in steps}
    placed = [(at, _of_event(incident, stored)) for at, stored in in_order(events)]
    placed += [(step.at, step) for step in steps]
    placed += [
        (line.at, line)
        for recovery in recoveries
        for line in _of_recovery(recovery)
        if (recovery.recovery_id, line.at) not in told
    ]
    placed.sort(key=lambda pair: pair[0])
    return [
        {
            "at": times.iso(line.at),
            "ms": _ms(line.at, incident.opened_at),
            "kind": line.kind,
            "message": line.message,
            "data": dict(line.data),
        }
        for _, line in placed
    ]


def _ms(at: int, since: int) -> float:
    return round((at - since) / 1000, 1)


def _of_event(incident: Incident, stored: StoredEvent) -> TimelineEntry:
    event, decision = stored.event, stored.decision
    there, here = event.occurred_at, stored.corrected_at
    stops = {
        name: _ms(at, since)
        for name, at, since in (
            ("spooled", stored.spooled_at, there),
            ("sent", stored.sent_at, there),
            ("received", stored.received_at, here),
            ("stored", stored.stored_at, here),
        )
        if at
    }
    return TimelineEntry(
        incident_id=incident.incident_id,
        at=stored.corrected_at,
        kind=TimelineKind.EVENT,
        message=f"{event.cause} on {event.host} ({decision.severity}, {decision.action} by rule "
        f"{decision.rule})",
        data={
            "event_id": event.event_id,
            "host": event.host,
            "type": event.type,
            "detail": event.detail,
            "attributes": dict(event.attributes),
            "action": decision.action,
            "severity": decision.severity,
            "rule": decision.rule,
            "stops_ms": stops,
        },
    )


def _of_recovery(recovery: Recovery) -> Iterator[TimelineEntry]:
    who = f"attempt {recovery.attempt} of step {recovery.step + 1}, driver {recovery.driver}"
    ended = f"{recovery.state}: {recovery.message}" if recovery.message else recovery.state
    moments = ((recovery.called_at, f"{who}: called"), (recovery.finished_at, f"{who}: {ended}"))
    for at, message in moments:
        if at is not None:
            yield TimelineEntry(
                incident_id=recovery.incident_id,
                at=at,
                kind=TimelineKind.RECOVERY,
                message=message,
                data={"recovery_id": recovery.recovery_id},
            )
