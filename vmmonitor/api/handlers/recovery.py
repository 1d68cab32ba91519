# SPDX-License-Identifier: Apache-2.0
"""Recovery attempts."""

from typing import Any

from vmmonitor.api import query, times
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.api.schemas import recovery as schema
from vmmonitor.db import recoveries
from vmmonitor.model.recovery import Recovery


def index(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/recoveries``: list the matching recoveries, newest first."""
    page = query.read(request, schema.INDEX, sort="created_at:desc")
    return query.respond(request, page, recoveries.page, "recoveries", "recovery_id", view)


def show(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/recoveries/{recovery_id}``: show one recovery."""
    with request.database.reader() as tx:
        recovery = recoveries.get(tx, request.arguments["recovery_id"])
    return {"recovery": view(recovery)}


def view(recovery: Recovery) -> dict[str, Any]:
    """Return the representation of a recovery."""
    return {
        "recovery_id": recovery.recovery_id,
        "incident_id": recovery.incident_id,
        "instance_uuid": recovery.instance_uuid,
        "host": recovery.host,
        "policy": recovery.policy,
        "driver": recovery.driver,
        "step": recovery.step,
        "attempt": recovery.attempt,
        "state": recovery.state,
        "message": recovery.message,
        "lease_owner": recovery.lease_owner,
        "lease_until": times.iso(recovery.lease_until),
        "not_before": times.iso(recovery.not_before),
        "wait_until": times.iso(recovery.wait_until),
        "created_at": times.iso(recovery.created_at),
        "called_at": times.iso(recovery.called_at),
        "finished_at": times.iso(recovery.finished_at),
    }
