# SPDX-License-Identifier: Apache-2.0
"""Things to store, with whatever a test does not care about filled in."""

import uuid
from typing import Any

from vmmonitor.model.agent import AgentReport
from vmmonitor.model.event import CRITICAL, INCIDENT, Decision, Event, StoredEvent
from vmmonitor.model.incident import Incident
from vmmonitor.model.instance import Instance
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.silence import Silence
from vmmonitor.model.states import AgentState, IncidentState, RecoveryState

#: Some moment; microseconds since the epoch.
NOON = 1_700_000_000_000_000
SECOND = 1_000_000


def new_id() -> str:
    """An id that nothing has yet."""
    return str(uuid.uuid4())


def instance(**fields: Any) -> Instance:
    """An instance of nova's."""
    known = {
        "uuid": new_id(),
        "name": "web",
        "hypervisor_name": "instance-0000002a",
        "project_id": "5a1b",
        "project_name": "demo",
        "user_id": "77ab",
        "user_name": "alice",
        "flavor": "m1.small",
    }
    return Instance(**{**known, **fields})


def stored(at: int = NOON, incident_id: str | None = None, **fields: Any) -> StoredEvent:
    """An event that occurred and was stored at ``at``, on a host whose clock is right."""
    known = {
        "event_id": new_id(),
        "host": "compute-1",
        "instance": instance(),
        "source": "libvirt",
        "type": "lifecycle.stopped",
        "detail": "failed",
        "occurred_at": at,
        "attributes": {"reason": "failed"},
        "sequence": 1,
    }
    return StoredEvent(
        event=Event(**{**known, **fields}),
        decision=Decision(action=INCIDENT, severity=CRITICAL, rule="crashed"),
        incident_id=incident_id,
        spooled_at=at + 1,
        sent_at=at + 2,
        received_at=at + 3,
        stored_at=at,
        corrected_at=fields.get("occurred_at", at),
    )


def incident(**fields: Any) -> Incident:
    """A pending incident whose hold is over at NOON."""
    known = {
        "incident_id": new_id(),
        "instance": instance(),
        "host": "compute-1",
        "cause": "lifecycle.stopped/failed",
        "severity": CRITICAL,
        "state": IncidentState.PENDING,
        "reason": "waits for the hold",
        "policy": "restart",
        "opened_at": NOON,
        "hold_until": NOON,
        "updated_at": NOON,
    }
    return Incident(**{**known, **fields})


def recovery(**fields: Any) -> Recovery:
    """A recovery that may start at NOON."""
    known = {
        "recovery_id": new_id(),
        "incident_id": new_id(),
        "instance_uuid": new_id(),
        "host": "compute-1",
        "policy": "restart",
        "driver": "libvirt",
        "step": 0,
        "attempt": 1,
        "state": RecoveryState.REQUESTED,
        "not_before": NOON,
        "created_at": NOON,
    }
    return Recovery(**{**known, **fields})


def silence(**fields: Any) -> Silence:
    """A silence of host compute-1 that begins at NOON and lasts an hour."""
    known = {
        "silence_id": new_id(),
        "match": {"host": "compute-1"},
        "author": "ada",
        "comment": "kernel",
        "starts_at": NOON,
        "ends_at": NOON + 3600 * SECOND,
        "created_at": NOON,
    }
    return Silence(**{**known, **fields})


def report(**fields: Any) -> AgentReport:
    """What a healthy agent says."""
    known = {
        "host": "compute-1",
        "state": AgentState.UP,
        "reason": "",
        "version": "1.0",
        "sent_at": NOON,
        "started_at": NOON,
        "interval": 10.0,
        "spool_depth": 0,
        "spool_refused": 0,
        "last_event_at": NOON,
        "filter_checksum": "ab",
        "inventory_digest": "cd",
        "instances": 2,
        "figures": {"dropped": {"noise": 3}},
    }
    return AgentReport(**{**known, **fields})
