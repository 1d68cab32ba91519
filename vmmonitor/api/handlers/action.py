# SPDX-License-Identifier: Apache-2.0
"""Actions: what operators want done, which an engine carries out."""

import uuid
from collections.abc import Mapping
from typing import Any

import webob

from vmmonitor.api import body, query, times
from vmmonitor.api.request import Request
from vmmonitor.api.schemas import action as schema
from vmmonitor.db import actions, incidents, recoveries
from vmmonitor.model import action as verbs
from vmmonitor.model import states
from vmmonitor.model.action import Action

#: Option -> the verb that it belongs to.
OPTIONS = {"policy": verbs.RECOVER, "seconds": verbs.HOLD}


def index(request: Request) -> dict[str, Any]:
    """``GET /v1/actions``: the actions that match, newest first."""
    page = query.read(request, schema.INDEX, sort="created_at:desc")
    return query.answer(request, page, actions.page, "actions", "action_id", view)


def show(request: Request) -> dict[str, Any]:
    """``GET /v1/actions/{action_id}``: one action, and what came of it."""
    with request.database.reader() as tx:
        action = actions.get(tx, request.arguments["action_id"])
    return {"action": view(action)}


def of_incident(request: Request) -> webob.Response:
    """``POST /v1/incidents/{incident_id}/actions``: have something done about an incident."""
    wanted = body.read(request, schema.OF_INCIDENT)["action"]
    with request.database.reader() as tx:
        incident = incidents.get(tx, request.arguments["incident_id"])
    return _wanted(request, wanted, incident.incident_id)


def of_recovery(request: Request) -> webob.Response:
    """``POST /v1/recoveries/{recovery_id}/actions``: have something done about a recovery."""
    wanted = body.read(request, schema.OF_RECOVERY)["action"]
    with request.database.reader() as tx:
        recovery = recoveries.get(tx, request.arguments["recovery_id"])
    return _wanted(request, wanted, recovery.incident_id, recovery.recovery_id)


def view(action: Action) -> dict[str, Any]:
    """Return an action as it is sent."""
    return {
        "action_id": action.action_id,
        "verb": action.verb,
        "incident_id": action.incident_id,
        "recovery_id": action.recovery_id or None,
        "author": action.author,
        "comment": action.comment,
        "options": dict(action.options),
        "state": action.state,
        "message": action.message,
        "created_at": times.iso(action.created_at),
        "finished_at": times.iso(action.finished_at),
    }


def _wanted(
    request: Request, wanted: Mapping[str, Any], incident_id: str, recovery_id: str = ""
) -> webob.Response:
    """Write it down for an engine to find."""
    options = {name: wanted[name] for name in OPTIONS if name in wanted}
    for name in options:
        if OPTIONS[name] != wanted["verb"]:
            raise body.bad(f"action.{name}: only to {OPTIONS[name]}, not to {wanted['verb']}")
    action = Action(
        action_id=str(uuid.uuid4()),
        verb=wanted["verb"],
        incident_id=incident_id,
        recovery_id=recovery_id,
        author=request.author,
        comment=wanted.get("comment", ""),
        options=options,
        created_at=request.database.now(),
        state=states.REQUESTED,
    )
    request.database.run(actions.insert, action)
    return body.accepted({"action": view(action)})
