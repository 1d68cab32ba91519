# SPDX-License-Identifier: Apache-2.0
"""Operator requests: stored here, carried out by an engine."""

import uuid
from collections.abc import Mapping
from typing import Any

import webob

from vmmonitor.api import body, query, times
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.api.schemas import operator_request as schema
from vmmonitor.db import incidents, recoveries, requests
from vmmonitor.model import request as verbs
from vmmonitor.model.request import OperatorRequest
from vmmonitor.model.states import RequestState

#: Option -> its verb.
_OPTIONS = {"policy": verbs.RECOVER, "seconds": verbs.HOLD}


def index(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/requests``: list the matching requests, newest first."""
    page = query.read(request, schema.INDEX, sort="created_at:desc")
    return query.respond(request, page, requests.page, "requests", "request_id", view)


def show(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/requests/{request_id}``: show one request and its result."""
    with request.database.reader() as tx:
        operator_request = requests.get(tx, request.arguments["request_id"])
    return {"request": view(operator_request)}


def of_incident(request: ApiRequest) -> webob.Response:
    """``POST /v1/incidents/{incident_id}/requests``: request an action on an incident."""
    wanted = body.read(request, schema.INCIDENT_REQUEST)["request"]
    with request.database.reader() as tx:
        incident = incidents.get(tx, request.arguments["incident_id"])
    return _store(request, wanted, incident.incident_id)


def of_recovery(request: ApiRequest) -> webob.Response:
    """``POST /v1/recoveries/{recovery_id}/requests``: request an action on a recovery."""
    wanted = body.read(request, schema.RECOVERY_REQUEST)["request"]
    with request.database.reader() as tx:
        recovery = recoveries.get(tx, request.arguments["recovery_id"])
    return _store(request, wanted, recovery.incident_id, recovery.recovery_id)


def view(operator_request: OperatorRequest) -> dict[str, Any]:
    """Return the representation of an operator request."""
    return {
        "request_id": operator_request.request_id,
        "verb": operator_request.verb,
        "incident_id": operator_request.incident_id,
        "recovery_id": operator_request.recovery_id or None,
        "author": operator_request.author,
        "comment": operator_request.comment,
        "options": dict(operator_request.options),
        "state": operator_request.state,
        "message": operator_request.message,
        "created_at": times.iso(operator_request.created_at),
        "finished_at": times.iso(operator_request.finished_at),
    }


def _store(
    request: ApiRequest, wanted: Mapping[str, Any], incident_id: str, recovery_id: str = ""
) -> webob.Response:
    """Store a request, which an engine will carry out."""
    options = {name: wanted[name] for name in _OPTIONS if name in wanted}
    for name in options:
        if _OPTIONS[name] != wanted["verb"]:
            raise body.bad(
                f"request.{name}: only allowed with {_OPTIONS[name]}, not with {wanted['verb']}"
            )
    operator_request = OperatorRequest(
        request_id=str(uuid.uuid4()),
        verb=wanted["verb"],
        incident_id=incident_id,
        recovery_id=recovery_id,
        author=request.author,
        comment=wanted.get("comment", ""),
        options=options,
        created_at=request.database.now(),
        state=RequestState.REQUESTED,
    )
    request.database.run(requests.insert, operator_request)
    return body.accepted({"request": view(operator_request)})
