# SPDX-License-Identifier: Apache-2.0
"""Incidents with their timelines."""

import dataclasses
from typing import Any

from vmmonitor.api import query, timeline, times
from vmmonitor.api.handlers import event, recovery
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.api.schemas import incident as schema
from vmmonitor.db import events, incidents, recoveries, timeline_entries
from vmmonitor.db.page import Page
from vmmonitor.model import states
from vmmonitor.model.incident import Incident
from vmmonitor.model.states import IncidentState


def index(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/incidents``: list the matching incidents, newest first."""
    page = _in_states(query.read(request, schema.INDEX, sort="opened_at:desc"))
    return query.respond(request, page, incidents.page, "incidents", "incident_id", view)


def show(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/incidents/{incident_id}``: show one incident, with its timeline, recoveries
    and newest events.
    """
    incident_id = request.arguments["incident_id"]
    with request.database.reader() as tx:
        incident = incidents.get(tx, incident_id)
        stored = events.of_incident(tx, incident_id)
        entries = timeline_entries.of_incident(tx, incident_id)
        attempts = recoveries.of_incident(tx, incident_id)
    return {
        "incident": view(incident)
        | {
            "timeline": timeline.merge(incident, stored, entries, attempts),
            "recoveries": [recovery.view(attempt) for attempt in attempts],
            "events": [event.view(item) for item in stored],
        }
    }


def view(incident: Incident) -> dict[str, Any]:
    """Return the representation of an incident."""
    return {
        "incident_id": incident.incident_id,
        "kind": incident.kind,
        "instance": dataclasses.asdict(incident.instance),
        "host": incident.host,
        "cause": incident.cause,
        "severity": incident.severity,
        "state": incident.state,
        "reason": incident.reason,
        "policy": incident.policy,
        "event_count": incident.event_count,
        "opened_at": times.iso(incident.opened_at),
        "hold_until": times.iso(incident.hold_until),
        "running_at": times.iso(incident.running_at),
        "updated_at": times.iso(incident.updated_at),
        "closed_at": times.iso(incident.closed_at),
        "priority": incident.priority,
        "held_by": incident.held_by,
        "part_of": incident.part_of,
        "shared_cause": incident.shared_cause,
        "override": incident.override,
    }


def _in_states(page: Page) -> Page:
    """Replace the filters ``open`` and ``ignored`` by a filter of states."""
    filters = dict(page.filters)
    selected = set(states.INCIDENT_TRANSITIONS)
    for name, named in (
        ("open", states.OPEN_INCIDENT_STATES),
        ("ignored", {IncidentState.IGNORED}),
    ):
        value = filters.pop(name, None)
        if value is None:
            continue
        if "state" in filters:
            raise query.bad_parameter(f"{name}: cannot be combined with state")
        selected = selected & named if value == ["true"] else selected - named
    if selected < set(states.INCIDENT_TRANSITIONS):
        filters["state"] = sorted(selected)
    return dataclasses.replace(page, filters=filters)
