# SPDX-License-Identifier: Apache-2.0
"""Build the notifications that vmmonitor sends: event types, priorities and versioned payloads.

A payload has the format of nova's versioned notifications. Each change of ``SCHEMAS`` requires a
new version of the payload: a new minor number if a key is added, otherwise a new major number.
Version history:

* IncidentPayload 1.0, RecoveryPayload 1.0: first format.
"""

import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.model import states
from vmmonitor.model.event import CRITICAL
from vmmonitor.model.incident import Incident
from vmmonitor.model.instance import Instance
from vmmonitor.model.notification import Change, Notification
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import IncidentState, RecoveryState

_INFO = "info"
ERROR = "error"

#: Name of a payload -> its version.
VERSIONS = {"IncidentPayload": "1.0", "RecoveryPayload": "1.0"}

#: Maximum number of characters of a sentence in a payload; the database stores longer ones.
SENTENCE_LENGTH = 4096

#: States of an incident with a known failure that is not muted. Critical incidents in one of them
#: are notified with priority ``error``.
NEEDY = (IncidentState.UNHANDLED, IncidentState.HELD, IncidentState.RECOVERING)
#: Fields of an incident whose change is notified (``updated``) without a change of the state.
INCIDENT_UPDATES = ("host", "cause", "severity", "policy")
#: The same for a recovery: another engine has taken it over.
RECOVERY_UPDATES = ("lease_owner",)

_TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
_TIME = {"type": "string", "format": "date-time"}
TIME_OR_NULL = {"type": ["string", "null"], "format": "date-time"}
Schema = Mapping[str, Any]


def _state(table: Mapping[Any, Any]) -> dict[str, Schema]:
    return {"state": {"enum": sorted(table)}, "old_state": {"enum": [*sorted(table), None]}}


INSTANCE: Mapping[str, Schema] = {
    "instance_uuid": _TEXT,
    "instance_name": _TEXT,
    "hypervisor_name": _TEXT,
    "project_id": _TEXT,
    "project_name": _TEXT,
    "user_id": _TEXT,
    "user_name": _TEXT,
    "flavor": _TEXT,
}
#: Name of a payload -> JSON schema of each of its values. Payloads contain every value.
DATA: Mapping[str, Mapping[str, Schema]] = {
    "IncidentPayload": {
        "notification_id": _TEXT,
        "changed_at": _TIME,
        "incident_id": _TEXT,
        "kind": _TEXT,
        **_state(states.INCIDENT_TRANSITIONS),
        "cause": _TEXT,
        "severity": _TEXT,
        "reason": _TEXT,
        "policy": _TEXT,
        "host": _TEXT,
        **INSTANCE,
        "event_count": NUMBER,
        "opened_at": TIME_OR_NULL,
        "hold_until": TIME_OR_NULL,
        "running_at": TIME_OR_NULL,
        "closed_at": TIME_OR_NULL,
    },
    "RecoveryPayload": {
        "notification_id": _TEXT,
        "changed_at": _TIME,
        "recovery_id": _TEXT,
        "incident_id": _TEXT,
        **_state(states.RECOVERY_TRANSITIONS),
        "message": _TEXT,
        "policy": _TEXT,
        "driver": _TEXT,
        "step": NUMBER,
        "attempt": NUMBER,
        "host": _TEXT,
        **INSTANCE,
        "created_at": TIME_OR_NULL,
        "not_before": TIME_OR_NULL,
        "called_at": TIME_OR_NULL,
        "wait_until": TIME_OR_NULL,
        "finished_at": TIME_OR_NULL,
    },
}


def _schema(name: str) -> dict[str, Any]:
    values = DATA[name]
    outer = {
        "vmmonitor_object.name": {"const": name},
        "vmmonitor_object.namespace": {"const": "vmmonitor"},
        "vmmonitor_object.version": {"const": VERSIONS[name]},
        "vmmonitor_object.data": {
            "type": "object",
            "properties": dict(values),
            "required": list(values),
            "additionalProperties": False,
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{name} {VERSIONS[name]}",
        "type": "object",
        "properties": outer,
        "required": list(outer),
        "additionalProperties": False,
    }


#: Name of a payload -> JSON schema of the payload.
SCHEMAS = {name: _schema(name) for name in DATA}


def types() -> Sequence[str]:
    """Return the event types of the notifications."""
    nouns: dict[str, Mapping[Any, Any]] = {
        "incident": states.INCIDENT_TRANSITIONS,
        "recovery": states.RECOVERY_TRANSITIONS,
    }
    return [
        f"vmmonitor.{noun}.{word}" for noun, table in nouns.items() for word in (*table, "updated")
    ]


def notification(change: Change, instance: Instance) -> Notification | None:
    """Return the notification of a change; None if the change is not notified.

    :param instance: the instance of the incident, or of the incident of the recovery.
    """
    of_incident = isinstance(change.after, Incident)
    word = _word(change, INCIDENT_UPDATES if of_incident else RECOVERY_UPDATES)
    if not word:
        return None
    if isinstance(change.after, Incident):
        noun, name, data = "incident", "IncidentPayload", _incident(change.after)
        priority = _incident_priority(change.after, word)
    else:
        noun, name, data = "recovery", "RecoveryPayload", _recovery(change.after)
        priority = ERROR if word == RecoveryState.FAILED else _INFO
    data |= _instance(instance) | {
        "notification_id": str(uuid.uuid4()),
        "changed_at": iso(change.at),
        "old_state": change.before.state if change.before else None,
    }
    return Notification(
        incident_id=change.after.incident_id,
        event_type=f"vmmonitor.{noun}.{word}",
        priority=priority,
        payload=_wrapped(name, data),
        created_at=change.at,
    )


def iso(at: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC; None if it is not set (None or 0).

    :param at: microseconds since the epoch; a time beyond the range of ``datetime`` becomes the
        first or the last time of the range.
    """
    if not at:
        return None
    try:
        moment = _EPOCH + datetime.timedelta(microseconds=at)
    except OverflowError:
        moment = datetime.datetime.max if at > 0 else datetime.datetime.min
    return moment.isoformat(timespec="microseconds") + "Z"


_EPOCH = datetime.datetime(1970, 1, 1)


def _word(change: Change, updates: Sequence[str]) -> str:
    """Return the last word of the event type; empty if the change is not notified."""
    before, after = change.before, change.after
    if before is None or before.state != after.state:
        return after.state
    is_news = any(getattr(before, field) != getattr(after, field) for field in updates)
    return "updated" if is_news else ""


def _incident_priority(incident: Incident, word: str) -> str:
    grave = word in NEEDY and incident.severity == CRITICAL
    return ERROR if grave or word == IncidentState.UNRECOVERED else _INFO


def _wrapped(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vmmonitor_object.name": name,
        "vmmonitor_object.namespace": "vmmonitor",
        "vmmonitor_object.version": VERSIONS[name],
        "vmmonitor_object.data": {key: data[key] for key in DATA[name]},
    }


def _incident(incident: Incident) -> dict[str, Any]:
    return {
        "incident_id": incident.incident_id,
        "kind": incident.kind,
        "state": incident.state,
        "cause": incident.cause,
        "severity": incident.severity,
        "reason": incident.reason[:SENTENCE_LENGTH],
        "policy": incident.policy,
        "host": incident.host,
        "event_count": incident.event_count,
        "opened_at": iso(incident.opened_at),
        "hold_until": iso(incident.hold_until),
        "running_at": iso(incident.running_at),
        "closed_at": iso(incident.closed_at),
    }


def _recovery(recovery: Recovery) -> dict[str, Any]:
    return {
        "recovery_id": recovery.recovery_id,
        "incident_id": recovery.incident_id,
        "state": recovery.state,
        "message": recovery.message[:SENTENCE_LENGTH],
        "policy": recovery.policy,
        "driver": recovery.driver,
        "step": recovery.step,
        "attempt": recovery.attempt,
        "host": recovery.host,
        "created_at": iso(recovery.created_at),
        "not_before": iso(recovery.not_before),
        "called_at": iso(recovery.called_at),
        "wait_until": iso(recovery.wait_until),
        "finished_at": iso(recovery.finished_at),
    }


def _instance(instance: Instance) -> dict[str, str]:
    return {
        "instance_uuid": instance.uuid,
        "instance_name": instance.name,
        "hypervisor_name": instance.hypervisor_name,
        "project_id": instance.project_id,
        "project_name": instance.project_name,
        "user_id": instance.user_id,
        "user_name": instance.user_name,
        "flavor": instance.flavor,
    }
