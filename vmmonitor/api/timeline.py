# SPDX-License-Identifier: Apache-2.0
"""The timeline of an incident, merged from its events, entries and recoveries."""

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
    entries: Sequence[TimelineEntry],
    recoveries: Sequence[Recovery],
) -> list[dict[str, Any]]:
    """Return the timeline, oldest first.

    Times are those of the engines' clock. Times of events are corrected by the clock offset of
    their host, and events of one host keep their order. Because an offset is not exact
    (``model.clock``), an event may be slightly misplaced among other entries. At equal times
    events come first, then entries in the order of storage.

    The call and the end of a recovery become entries too, unless a stored entry of the recovery
    (``data["recovery_id"]``) has the same time: that entry has more details.

    :param events: events of each host in the order of storage.
    :returns: objects with ``at`` (ISO 8601), ``ms`` (milliseconds since the report of libvirt that
        opened the incident), ``kind``, ``message`` and ``data``.
    """
    known = {(entry.data.get("recovery_id"), entry.at) for entry in entries}
    placed = [(at, _from_event(incident, stored)) for at, stored in in_order(events)]
    placed += [(entry.at, entry) for entry in entries]
    placed += [
        (entry.at, entry)
        for recovery in recoveries
        for entry in _from_recovery(recovery)
        if (recovery.recovery_id, entry.at) not in known
    ]
    placed.sort(key=lambda pair: pair[0])
    return [
        {
            "at": times.iso(entry.at),
            "ms": _milliseconds(entry.at, incident.opened_at),
            "kind": entry.kind,
            "message": entry.message,
            "data": dict(entry.data),
        }
        for _, entry in placed
    ]


def _milliseconds(at: int, since: int) -> float:
    return round((at - since) / 1000, 1)


def _from_event(incident: Incident, stored: StoredEvent) -> TimelineEntry:
    event, decision = stored.event, stored.decision
    by_host_clock, by_engine_clock = event.occurred_at, stored.corrected_at
    stops = {
        name: _milliseconds(at, since)
        for name, at, since in (
            ("spooled", stored.spooled_at, by_host_clock),
            ("sent", stored.sent_at, by_host_clock),
            ("received", stored.received_at, by_engine_clock),
            ("stored", stored.stored_at, by_engine_clock),
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


def _from_recovery(recovery: Recovery) -> Iterator[TimelineEntry]:
    name = f"attempt {recovery.attempt} of step {recovery.step + 1}, driver {recovery.driver}"
    ended = f"{recovery.state}: {recovery.message}" if recovery.message else recovery.state
    entries = (
        (recovery.called_at, f"{name}: called"),
        (recovery.finished_at, f"{name}: {ended}"),
    )
    for at, message in entries:
        if at is not None:
            yield TimelineEntry(
                incident_id=recovery.incident_id,
                at=at,
                kind=TimelineKind.RECOVERY,
                message=message,
                data={"recovery_id": recovery.recovery_id},
            )
