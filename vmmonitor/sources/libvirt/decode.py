# SPDX-License-Identifier: Apache-2.0
"""Converts libvirt callbacks to raw events. Pure; any input yields a readable event."""

from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.model.event import RawEvent
from vmmonitor.model.instance import Instance
from vmmonitor.sources.libvirt import tables

LIBVIRT_SOURCE = "libvirt"

#: Bounds of attribute values, far above those that libvirt sends: characters of a text, items of a
#: list or mapping, depth of nesting.
MAX_VALUE_TEXT = 4096
MAX_VALUE_ITEMS = 256
MAX_VALUE_DEPTH = 6
#: Bound of the integers that every database and JSON reader preserves.
MAX_INTEGER = 2**63


def decode_event(
    event_id: int, uuid: str, name: str, arguments: Sequence[Any], occurred_at: int
) -> RawEvent:
    """Return the event of a callback.

    :param event_id: libvirt's event id; an unknown one becomes the type ``unknown-N``.
    :param uuid: UUID of the domain and of the instance.
    :param name: name of the domain.
    :param arguments: arguments of the callback, without connection, domain and opaque.
    :param occurred_at: time of the callback; microseconds since the epoch.
    """
    spec = (
        tables.CALLBACKS[event_id]
        if 0 <= event_id < len(tables.CALLBACKS)
        else tables.CallbackSpec(name=f"unknown-{event_id}")
    )
    type_, detail, attributes = (
        _decode_lifecycle(arguments)
        if event_id == tables.LIFECYCLE_ID
        else _decode_other(spec, arguments)
    )
    return RawEvent(
        source=LIBVIRT_SOURCE,
        type=type_,
        detail=detail,
        occurred_at=occurred_at,
        instance=Instance(
            uuid=uuid, name=to_plain_value(name), hypervisor_name=to_plain_value(name)
        ),
        attributes=attributes,
    )


def decode_state(number: int, reason: int) -> tuple[str, str]:
    """Return the names of a domain's state and of its reason.

    :param number: a virDomainState.
    :param reason: the reason, whose meaning depends on the state.
    """
    if not 0 <= number < len(tables.DOMAIN_STATES):
        return f"unknown-{number}", f"unknown-{reason}"
    name, reasons = tables.DOMAIN_STATES[number]
    return name, name_of(reasons, reason)


def name_of(names: Sequence[str], number: Any) -> str:
    """Return the name of a number, ``unknown-N`` if it has none."""
    if isinstance(number, int) and 0 <= number < len(names):
        return names[number]
    return f"unknown-{to_plain_value(number)}"


def to_plain_value(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON that every database can store.

    :param value: any value; bytes and text that are not valid Unicode are escaped.
    :param depth: depth of nesting of the value.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -MAX_INTEGER <= value < MAX_INTEGER else f"{value:#x}"
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, str | bytes):
        return _text(value)
    if depth < MAX_VALUE_DEPTH and isinstance(value, Mapping):
        items = list(value.items())[:MAX_VALUE_ITEMS]
        return {str(to_plain_value(name)): to_plain_value(item, depth + 1) for name, item in items}
    if depth < MAX_VALUE_DEPTH and isinstance(value, list | tuple):
        return [to_plain_value(item, depth + 1) for item in value[:MAX_VALUE_ITEMS]]
    return f"<{type(value).__name__}>"


def _text(value: str | bytes) -> str:
    cut = value[:MAX_VALUE_TEXT]
    raw = cut.encode("utf-8", "surrogatepass") if isinstance(cut, str) else bytes(cut)
    # PostgreSQL stores any character but NUL.
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _decode_lifecycle(arguments: Sequence[Any]) -> tuple[str, str, dict[str, Any]]:
    number, detail = (*arguments, None, None)[:2]
    known = isinstance(number, int) and 0 <= number < len(tables.LIFECYCLE)
    name, details = (
        tables.LIFECYCLE[number] if known else (f"unknown-{to_plain_value(number)}", ())
    )
    return f"lifecycle.{name}", name_of(details, detail), _name_arguments((), arguments[2:])


def _decode_other(
    spec: tables.CallbackSpec, arguments: Sequence[Any]
) -> tuple[str, str, dict[str, Any]]:
    attributes = {
        name: _decode_value(spec, name, value)
        for name, value in _name_arguments(spec.arguments, arguments).items()
    }
    detail = attributes.pop(spec.detail, "")
    return spec.name, str(detail), attributes


def _name_arguments(names: Sequence[str], arguments: Sequence[Any]) -> dict[str, Any]:
    """Return the arguments by name; those without a name are numbered."""
    named: dict[str, Any] = {}
    for position, value in enumerate(arguments):
        name = names[position] if position < len(names) else f"argument_{position}"
        if name == tables.ITEMS and isinstance(value, Mapping):
            named.update(to_plain_value(value))
        else:
            named["items" if name == tables.ITEMS else name] = to_plain_value(value)
    return named


def _decode_value(spec: tables.CallbackSpec, name: str, value: Any) -> Any:
    """Return a value with the numbers of enums, nested ones too, replaced by their names."""
    if isinstance(value, dict):
        return {key: _decode_value(spec, key, item) for key, item in value.items()}
    if name in spec.enums:
        return name_of(spec.enums[name], value)
    if name in tables.BIT_NAMES and isinstance(value, int):
        names = tables.BIT_NAMES[name]
        return [name_of(names, bit) for bit in range(value.bit_length()) if value >> bit & 1]
    return value
