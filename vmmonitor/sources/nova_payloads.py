# SPDX-License-Identifier: Apache-2.0
"""Converts nova's notifications to raw events. Pure.

Nova has two forms of notifications: the versioned one (``instance.power_off.start``, with its
values nested in ``nova_object.data``) and the legacy one (``compute.instance.power_off.start``,
flat). Both become the same event: type ``nova.power_off``, detail ``start``. Values that are
missing or have an unexpected type are omitted.
"""

import dataclasses
import datetime
import re
import uuid
from collections.abc import Mapping
from typing import Any

from vmmonitor.model import identifiers
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.event import NOVA_SOURCE, RawEvent
from vmmonitor.model.instance import Instance

VERSIONED_PREFIX = "instance."
LEGACY_PREFIX = "compute.instance."
PHASES = frozenset({"start", "end", "error"})
#: Type of the notification of an exception; its versioned form names no instance.
EXCEPTION_TYPE = "compute.exception"
#: Legacy name of an operation -> its versioned name, if they differ.
RENAMED_OPERATIONS = {
    "finish_resize": "resize_finish",
    "finish_revert_resize": "resize_revert",
}
#: Namespace of the event ids: the same notification gets the same id in every engine.
EVENT_ID_NAMESPACE = uuid.UUID("5f6d2a5e-0c43-5e0b-9a59-1f8f4a3c7d20")

_MAX_NAME_LENGTH = 48
#: Maximum number of characters of an attribute.
MAX_ATTRIBUTE_LENGTH = 1000
MAX_TIME = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)
UNIX_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

#: Attribute of the event -> keys of the payload, versioned and legacy.
PAYLOAD_KEYS = {
    "vm_state": ("state", "vm_state"),
    "task_state": ("task_state", "new_task_state"),
    "power_state": ("power_state",),
    "node": ("node",),
    "locked": ("locked",),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NovaMessage:
    """A message as it comes from the bus; each field may have any type."""

    publisher: Any = None
    event_type: Any = None
    payload: Any = None
    context: Any = None
    message_id: Any = None
    timestamp: Any = None


def decode_message(
    message: NovaMessage, now: int, instance_of_request: Instance | None = None
) -> RawEvent | None:
    """Return the event of a notification; None if it is not about an instance.

    :param now: time of arrival, used if the message has none; microseconds since the epoch.
    :param instance_of_request: the instance of an exception that names none.
    :raises vmmonitor.model.errors.InvalidMessage: a required field is missing or not valid.
    """
    if not isinstance(message.event_type, str) or not message.event_type:
        raise InvalidMessage("the event type is missing")
    if not isinstance(message.payload, Mapping):
        raise InvalidMessage("the payload is not a map")
    payload = _unwrap(message.payload)
    if message.event_type.startswith((VERSIONED_PREFIX, LEGACY_PREFIX)):
        kind, detail = _parse_operation(message.event_type)
    elif message.event_type == EXCEPTION_TYPE or _is_failed_call(payload):
        kind, detail = "error", "exception"
        payload = _describe_failed_call(message.event_type, payload)
    else:
        return None
    if detail != "exception" and not _text(payload, "uuid", "instance_id"):
        raise InvalidMessage("no instance is named")
    if kind == "update":
        kind, detail = _classify_update(payload)
    instance = _instance(payload) or instance_of_request
    return _event(message, kind, detail, instance, payload, now) if instance else None


def request_id_of(message: NovaMessage) -> str:
    """Return the id of the request during which nova sent the message; empty if unknown."""
    payload = _unwrap(message.payload) if isinstance(message.payload, Mapping) else {}
    context = message.context if isinstance(message.context, Mapping) else {}
    return _text(payload, "request_id") or _text(context, "request_id")


def _event(
    message: NovaMessage,
    kind: str,
    detail: str,
    instance: Instance,
    payload: Mapping[str, Any],
    now: int,
) -> RawEvent:
    return RawEvent(
        source=NOVA_SOURCE,
        type=f"nova.{kind}",
        detail=detail,
        occurred_at=_parse_time(message.timestamp, now),
        instance=instance,
        attributes=_attributes(message, payload),
        host=_text(payload, "host") or _publisher_host(message.publisher),
        event_id=_event_id(message.message_id),
    )


# -- operations --------------------------------------------------------------------------------
def _parse_operation(event_type: str) -> tuple[str, str]:
    """Return (operation, phase) of ``instance.power_off.start``."""
    prefix = LEGACY_PREFIX if event_type.startswith(LEGACY_PREFIX) else VERSIONED_PREFIX
    parts = event_type[len(prefix) : len(prefix) + 200].split(".")
    phase = parts.pop() if parts[-1] in PHASES else ""
    operation = "_".join(part.strip("_") for part in parts)
    return _to_name(RENAMED_OPERATIONS.get(operation, operation)) or "unknown", phase


def _classify_update(payload: Mapping[str, Any]) -> tuple[str, str]:
    """Return (type, detail) of an update: an error if nova has given up the instance."""
    update = _unwrap(payload.get("state_update"))
    old = _text(update, "old_state") or _text(payload, "old_state")
    new = _text(update, "state") or _text(payload, "state")
    if new == "error" and old != "error":
        return "error", "state"
    return "update", "state" if old and new != old else ""


def _is_failed_call(payload: Mapping[str, Any]) -> bool:
    """Return whether it is a legacy exception, whose event type is the name of a method."""
    return "exception" in payload and isinstance(payload.get("args"), Mapping)


def _describe_failed_call(event_type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the exception and its instance, without the other arguments of the method.

    The legacy form contains every argument, with the caller's token among them.
    """
    kept = {"fault": {"exception": payload.get("exception"), "operation": event_type}}
    if event_type == EXCEPTION_TYPE:
        kept["fault"] = {**payload, "operation": payload.get("function_name")}
    arguments = payload.get("args")
    instance = arguments.get("instance") if isinstance(arguments, Mapping) else None
    return {**(instance if isinstance(instance, Mapping) else {}), **kept}


# -- instances ---------------------------------------------------------------------------------
def _instance(payload: Mapping[str, Any]) -> Instance | None:
    found = _text(payload, "uuid", "instance_id").lower()
    if not found:
        return None
    if not identifiers.is_uuid(found):
        raise InvalidMessage(f"{found[:64]!r} is not the id of an instance")
    return Instance(
        uuid=found,
        name=_text(payload, "display_name"),
        project_id=_text(payload, "tenant_id", "project_id"),
        user_id=_text(payload, "user_id"),
        flavor=_text(_unwrap(payload.get("flavor")), "name") or _text(payload, "instance_type"),
    )


def _attributes(message: NovaMessage, payload: Mapping[str, Any]) -> dict[str, Any]:
    context = message.context if isinstance(message.context, Mapping) else {}
    fault = _unwrap(payload.get("fault"))
    update = _unwrap(payload.get("state_update"))
    given = {
        **{name: _text(payload, *keys) for name, keys in PAYLOAD_KEYS.items()},
        "was": _text(update, "old_state") or _text(payload, "old_state"),
        "request_id": request_id_of(message),
        "by_user_id": _text(payload, "action_initiator_user") or _text(context, "user_id", "user"),
        "by_user": _text(context, "user_name"),
        "publisher": _to_text(message.publisher),
        "operation": _to_name(_text(fault, "operation")),
        "exception": _text(fault, "exception"),
        "message": _text(fault, "exception_message"),
    }
    return {name: value[:MAX_ATTRIBUTE_LENGTH] for name, value in given.items() if value}


def _publisher_host(publisher: Any) -> str:
    """Return the host of ``nova-compute:node1``, or of the legacy ``compute.node1``."""
    name = _to_text(publisher)
    _, colon, host = name.partition(":")
    return host if colon else name.partition(".")[2]


# -- values ------------------------------------------------------------------------------------
def _unwrap(form: Any) -> Mapping[str, Any]:
    """Return the values of a versioned or legacy object; empty if it is not an object."""
    data = form.get("nova_object.data", form) if isinstance(form, Mapping) else None
    return data if isinstance(data, Mapping) else {}


def _text(form: Mapping[str, Any], *keys: str) -> str:
    """Return the first non-empty value of these keys, as text."""
    return next((text for key in keys if (text := _to_text(form.get(key)))), "")


def _to_text(value: Any) -> str:
    if isinstance(value, str):
        return value[: MAX_ATTRIBUTE_LENGTH * 2]
    if isinstance(value, bool):
        return "true" if value else ""
    return str(value) if isinstance(value, int) and abs(value) < 2**63 else ""


def _to_name(text: str) -> str:
    """Return a name of lower case letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text[:_MAX_NAME_LENGTH].lower()).strip("_")


def _parse_time(text: Any, now: int) -> int:
    """Return the microseconds since the epoch of a time in UTC."""
    if not isinstance(text, str) or len(text) > 64:
        return now
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        if not UNIX_EPOCH < moment < MAX_TIME:
            return now
        return (moment - UNIX_EPOCH) // datetime.timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return now


def _event_id(message_id: Any) -> str:
    """Return an id that is the same for the same message; empty if the message has none."""
    text = _to_text(message_id)
    return str(uuid.uuid5(EVENT_ID_NAMESPACE, text)) if text else ""
