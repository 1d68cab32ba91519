# SPDX-License-Identifier: Apache-2.0
"""Incidents as the API returns them."""

import datetime
from typing import Any

NOW = datetime.datetime(2026, 11, 22, 13, 20, tzinfo=datetime.UTC)
BEGAN = "2026-11-22T13:15:00.000000Z"
STEPS = [
    {"driver": "libvirt", "enabled": True, "attempts": 2},
    {"driver": "log", "enabled": False, "attempts": 3},
    {"driver": "nova", "enabled": True, "attempts": -1},
]


def at(seconds: float) -> str:
    """Return the time ``seconds`` after NOW, in the format of the API."""
    return (NOW + datetime.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def entry(kind: str, message: str, **data: Any) -> dict[str, Any]:
    """Return a timeline entry."""
    return {"at": BEGAN, "ms": 1.0, "kind": kind, "message": message, "data": data}


def hold(**data: Any) -> dict[str, Any]:
    """Return the timeline entry of a selected policy."""
    known = {"policy": "restart", "hold": 0.0, "steps": STEPS, "event_id": "e"}
    return entry("hold", "policy restart: no hold", **known | data)


def recovery(state: str, **fields: Any) -> dict[str, Any]:
    """Return a recovery attempt."""
    known = {"driver": "libvirt", "step": 0, "attempt": 1, "message": "", "state": state}
    times = {name: None for name in ("not_before", "called_at", "lease_until", "wait_until")}
    known |= {"recovery_id": "7"}
    return {**known, **times, **fields}


def incident(state: str = "recovering", **fields: Any) -> dict[str, Any]:
    """Return an incident of an instance."""
    instance = {"uuid": "u", "name": "web", "hypervisor_name": "i-1"}
    known = {
        "incident_id": "9",
        "kind": "instance",
        "instance": {**instance, "project_id": "", "project_name": ""},
        "host": "compute-1",
        "cause": "lifecycle.stopped/failed",
        "state": state,
        "reason": "it failed",
        "policy": "restart",
        "event_count": 0,
        "opened_at": BEGAN,
        "hold_until": BEGAN,
        "running_at": None,
        "closed_at": None,
        "timeline": [hold()],
        "recoveries": [],
        "events": [],
    }
    return {**known, **fields}
