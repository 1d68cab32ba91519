# SPDX-License-Identifier: Apache-2.0
"""What nova tells on the message bus, as raw events.

Pure. Nova has two forms of everything: the versioned one (``instance.power_off.start``, with its
values nested in ``nova_object.data``) and the legacy one (``compute.instance.power_off.start``,
flat). Both become the same event: type ``nova.power_off``, detail ``start``. Any value may be
missing, or be something else than it should: what is not there is left out.
"""

import dataclasses
import datetime
import re
import uuid
from collections.abc import Mapping
from typing import Any

from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.event import RawEvent
from vmmonitor.model.instance import Instance

SOURCE = "nova_notifications"

VERSIONED = "instance."
LEGACY = "compute.instance."
PHASES = frozenset({"start", "end", "error"})
#: Nova failed at something; the versioned form does not say on which instance.
EXCEPTION = "compute.exception"
#: Operations whose legacy names are made of other words than the versioned ones.
RENAMED = {
    "finish_resize": "resize_finish",
    "finish_revert_resize": "resize_revert",
}
#: Makes the same event of a notification, whichever engine is given it and however often.
EVENT_IDS = uuid.UUID("5f6d2a5e-0c43-5e0b-9a59-1f8f4a3c7d20")

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
WORD_LENGTH = 48
#: Characters of an error's text that are kept.
TEXT_LENGTH = 1000
LATEST = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

#: Attribute of the event -> the payload's key, versioned or legacy.
ATTRIBUTES = {
    "vm_state": ("state", "vm_state"),
    "task_state": ("task_state", "new_task_state"),
    "power_state": ("power_state",),
    "node": ("node",),
    "locked": ("locked",),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NovaMessage:
    """A message as it comes from the bus; each part may be anything."""

    publisher: Any = None
    event_type: Any = None
    payload: Any = None
    context: Any = None
    message_id: Any = None
    timestamp: Any = None


def decode(told: NovaMessage, now: int, whose: Instance | None = None) -> RawEvent | None:
    """Return the event that a notification tells of; None if it is of no instance.

    :param now: when it came; microseconds since the epoch. Stands for a time that is missing.
    :param whose: the instance of an exception that names none.
    :raises vmmonitor.model.errors.InvalidMessage: it cannot be read.
    """
    if not isinstance(told.event_type, str) or not told.event_type:
        raise InvalidMessage("it has no event type")
    if not isinstance(told.payload, Mapping):
        raise InvalidMessage("its payload is not a map")
    payload = _flat(told.payload)
    if told.event_type.startswith((VERSIONED, LEGACY)):
        kind, detail = _operation(told.event_type)
    elif told.event_type == EXCEPTION or _failed_call(payload):
        kind, detail = "error", "exception"
        payload = _of_failed_call(told.event_type, payload)
    else:
        return None
    if detail != "exception" and not _text(payload, "uuid", "instance_id"):
        raise InvalidMessage("it names no instance")
    if kind == "update":
        kind, detail = _change(payload)
    instance = _instance(payload) or whose
    return _event(told, kind, detail, instance, payload, now) if instance else None


def request_of(told: NovaMessage) -> str:
    """Return the id of the request in whose course nova sent it; empty if it does not say."""
    payload = _flat(told.payload) if isinstance(told.payload, Mapping) else {}
    context = told.context if isinstance(told.context, Mapping) else {}
    return _text(payload, "request_id") or _text(context, "request_id")


def _event(
    told: NovaMessage,
    kind: str,
    detail: str,
    instance: Instance,
    payload: Mapping[str, Any],
    now: int,
) -> RawEvent:
    return RawEvent(
        source=SOURCE,
        type=f"nova.{kind}",
        detail=detail,
        occurred_at=_moment(told.timestamp, now),
        instance=instance,
        attributes=_attributes(told, payload),
        host=_text(payload, "host") or _publisher_host(told.publisher),
        event_id=_event_id(told.message_id),
    )


# -- what happened -----------------------------------------------------------------------------
def _operation(event_type: str) -> tuple[str, str]:
    """Return (operation, phase) of ``instance.power_off.start``."""
    prefix = LEGACY if event_type.startswith(LEGACY) else VERSIONED
    words = event_type[len(prefix) : len(prefix) + 200].split(".")
    phase = words.pop() if words[-1] in PHASES else ""
    operation = "_".join(word.strip("_") for word in words)
    return _word(RENAMED.get(operation, operation)) or "unknown", phase


def _change(payload: Mapping[str, Any]) -> tuple[str, str]:
    """Tell whether an update says that nova gave an instance up, or just something new of it."""
    update = _flat(payload.get("state_update"))
    old = _text(update, "old_state") or _text(payload, "old_state")
    new = _text(update, "state") or _text(payload, "state")
    if new == "error" and old != "error":
        return "error", "state"
    return "update", "state" if old and new != old else ""


def _failed_call(payload: Mapping[str, Any]) -> bool:
    """Tell whether it is the legacy form of an exception, whose event type is a method's name."""
    return "exception" in payload and isinstance(payload.get("args"), Mapping)


def _of_failed_call(event_type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of an exception and its instance, and nothing of its arguments.

    The legacy form carries every argument of the method, with the caller's token in it.
    """
    kept = {"fault": {"exception": payload.get("exception"), "operation": event_type}}
    if event_type == EXCEPTION:
        kept["fault"] = {**payload, "operation": payload.get("function_name")}
    arguments = payload.get("args")
    instance = arguments.get("instance") if isinstance(arguments, Mapping) else None
    return {**(instance if isinstance(instance, Mapping) else {}), **kept}


# -- to whom -----------------------------------------------------------------------------------
def _instance(payload: Mapping[str, Any]) -> Instance | None:
    found = _text(payload, "uuid", "instance_id")
    if not found:
        return None
    if not UUID.fullmatch(found):
        raise InvalidMessage(f"{found[:64]!r} is no instance's id")
    return Instance(
        uuid=found.lower(),
        name=_text(payload, "display_name"),
        project_id=_text(payload, "tenant_id", "project_id"),
        user_id=_text(payload, "user_id"),
        flavor=_text(_flat(payload.get("flavor")), "name") or _text(payload, "instance_type"),
    )


def _attributes(told: NovaMessage, payload: Mapping[str, Any]) -> dict[str, Any]:
    context = told.context if isinstance(told.context, Mapping) else {}
    fault = _flat(payload.get("fault"))
    update = _flat(payload.get("state_update"))
    given = {
        **{name: _text(payload, *keys) for name, keys in ATTRIBUTES.items()},
        "was": _text(update, "old_state") or _text(payload, "old_state"),
        "request_id": request_of(told),
        "by_user_id": _text(payload, "action_initiator_user") or _text(context, "user_id", "user"),
        "by_user": _text(context, "user_name"),
        "publisher": _one(told.publisher),
        "operation": _word(_text(fault, "operation")),
        "exception": _text(fault, "exception"),
        "message": _text(fault, "exception_message"),
    }
    return {name: value[:TEXT_LENGTH] for name, value in given.items() if value}


def _publisher_host(publisher: Any) -> str:
    """Return the host of ``nova-compute:node1``, or of the legacy ``compute.node1``."""
    name = _one(publisher)
    _, colon, host = name.partition(":")
    return host if colon else name.partition(".")[2]


# -- reading -----------------------------------------------------------------------------------
def _flat(form: Any) -> Mapping[str, Any]:
    """Return the values of an object, versioned or legacy; none if it is something else."""
    data = form.get("nova_object.data", form) if isinstance(form, Mapping) else None
    return data if isinstance(data, Mapping) else {}


def _text(form: Mapping[str, Any], *keys: str) -> str:
    """Return the first of these values that says something, as text."""
    return next((text for key in keys if (text := _one(form.get(key)))), "")


def _one(value: Any) -> str:
    if isinstance(value, str):
        return value[: TEXT_LENGTH * 2]
    if isinstance(value, bool):
        return "true" if value else ""
    return str(value) if isinstance(value, int) and abs(value) < 2**63 else ""


def _word(text: str) -> str:
    """Return a name made of lower case letters, digits and underlines."""
    return re.sub(r"[^a-z0-9]+", "_", text[:WORD_LENGTH].lower()).strip("_")


def _moment(text: Any, now: int) -> int:
    """Return the microseconds since the epoch of a time in UTC."""
    if not isinstance(text, str) or len(text) > 64:
        return now
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        if not EPOCH < moment < LATEST:
            return now
        return (moment - EPOCH) // datetime.timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return now


def _event_id(message_id: Any) -> str:
    """Return the same id for the same message; empty if the message has none."""
    text = _one(message_id)
    return str(uuid.uuid5(EVENT_IDS, text)) if text else ""
