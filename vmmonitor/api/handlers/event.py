# SPDX-License-Identifier: Apache-2.0
"""Events of the hosts."""

import dataclasses
from typing import Any

from vmmonitor.api import query, times
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.api.schemas import event as schema
from vmmonitor.db import events
from vmmonitor.model.event import StoredEvent


def index(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/events``: list the matching events, newest first."""
    page = query.read(request, schema.INDEX, sort="occurred_at:desc")
    return query.respond(request, page, events.page, "events", "event_id", view)


def show(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/events/{event_id}``: show one event."""
    with request.database.reader() as tx:
        stored = events.get(tx, request.arguments["event_id"])
    return {"event": view(stored)}


def view(stored: StoredEvent) -> dict[str, Any]:
    """Return the representation of an event."""
    event = stored.event
    return {
        "event_id": event.event_id,
        "host": event.host,
        "sequence": event.sequence,
        "instance": dataclasses.asdict(event.instance),
        "source": event.source,
        "type": event.type,
        "detail": event.detail,
        "attributes": dict(event.attributes),
        "action": stored.decision.action,
        "severity": stored.decision.severity,
        "rule": stored.decision.rule,
        "incident_id": stored.incident_id,
        "occurred_at": times.iso(event.occurred_at),
        "corrected_at": times.iso(stored.corrected_at),
        "spooled_at": times.iso(stored.spooled_at),
        "sent_at": times.iso(stored.sent_at),
        "received_at": times.iso(stored.received_at),
        "stored_at": times.iso(stored.stored_at),
    }
