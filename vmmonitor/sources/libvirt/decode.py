# SPDX-License-Identifier: Apache-2.0
"""What a libvirt callback said, in words. Pure; whatever comes in, something readable goes out."""

from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.model.event import RawEvent
from vmmonitor.model.instance import Instance
from vmmonitor.sources.libvirt import tables

SOURCE = "libvirt"

#: A longer text is cut, a longer list too, and what is nested deeper is left out. Far above
#: anything that libvirt sends.
MAX_TEXT = 4096
MAX_ITEMS = 256
MAX_DEPTH = 6
#: Integers that every database and JSON reader keeps exactly as they are.
MAX_INTEGER = 2**63


def event(
    event_id: int, uuid: str, name: str, arguments: Sequence[Any], occurred_at: int
) -> RawEvent:
    """Return what happened.

    :param event_id: libvirt's event id; one that is not known becomes the type ``unknown-N``.
    :param uuid: the domain's UUID, and so the instance's.
    :param name: the domain's name.
    :param arguments: the callback's own arguments, without connection, domain and opaque.
    :param occurred_at: when the callback came; microseconds since the epoch.
    """
    kind = (
        tables.CALLBACKS[event_id]
        if 0 <= event_id < len(tables.CALLBACKS)
        else tables.CallbackSpec(name=f"unknown-{event_id}")
    )
    type_, detail, attributes = (
        _lifecycle(arguments) if event_id == tables.LIFECYCLE_ID else _other(kind, arguments)
    )
    return RawEvent(
        source=SOURCE,
        type=type_,
        detail=detail,
        occurred_at=occurred_at,
        instance=Instance(uuid=uuid, name=plain(name), hypervisor_name=plain(name)),
        attributes=attributes,
    )


def state(number: int, reason: int) -> tuple[str, str]:
    """Return the words for a domain's state and the reason of that state.

    :param number: a virDomainState.
    :param reason: the reason, whose meaning depends on the state.
    """
    if not 0 <= number < len(tables.STATES):
        return f"unknown-{number}", f"unknown-{reason}"
    name, reasons = tables.STATES[number]
    return name, word(reasons, reason)


def word(words: Sequence[str], number: Any) -> str:
    """Return the word for a number, ``unknown-N`` if there is none."""
    if isinstance(number, int) and 0 <= number < len(words):
        return words[number]
    return f"unknown-{plain(number)}"


def plain(value: Any, depth: int = 0) -> Any:
    """Return ``value`` as something that JSON and every database can hold.

    :param value: anything; bytes and text that are not valid Unicode are escaped.
    :param depth: how deep it is nested in what was asked about.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -MAX_INTEGER <= value < MAX_INTEGER else f"{value:#x}"
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, str | bytes):
        return _text(value)
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {str(plain(name)): plain(item, depth + 1) for name, item in items}
    if depth < MAX_DEPTH and isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value[:MAX_ITEMS]]
    return f"<{type(value).__name__}>"


def _text(value: str | bytes) -> str:
    cut = value[:MAX_TEXT]
    raw = cut.encode("utf-8", "surrogatepass") if isinstance(cut, str) else bytes(cut)
    # PostgreSQL holds any character but NUL.
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _lifecycle(arguments: Sequence[Any]) -> tuple[str, str, dict[str, Any]]:
    number, detail = (*arguments, None, None)[:2]
    known = isinstance(number, int) and 0 <= number < len(tables.LIFECYCLE)
    name, words = tables.LIFECYCLE[number] if known else (f"unknown-{plain(number)}", ())
    return f"lifecycle.{name}", word(words, detail), _named((), arguments[2:])


def _other(kind: tables.CallbackSpec, arguments: Sequence[Any]) -> tuple[str, str, dict[str, Any]]:
    attributes = {
        name: _said(kind, name, value) for name, value in _named(kind.arguments, arguments).items()
    }
    detail = attributes.pop(kind.detail, "")
    return kind.name, str(detail), attributes


def _named(names: Sequence[str], arguments: Sequence[Any]) -> dict[str, Any]:
    """Give each argument its name; those that have none are numbered."""
    named: dict[str, Any] = {}
    for position, value in enumerate(arguments):
        name = names[position] if position < len(names) else f"argument_{position}"
        if name == tables.ITEMS and isinstance(value, Mapping):
            named.update(plain(value))
        else:
            named["items" if name == tables.ITEMS else name] = plain(value)
    return named


def _said(kind: tables.CallbackSpec, name: str, value: Any) -> Any:
    """Put an enum's word for its number, also where it is nested."""
    if isinstance(value, dict):
        return {key: _said(kind, key, item) for key, item in value.items()}
    if name in kind.words:
        return word(kind.words[name], value)
    if name in tables.BITS and isinstance(value, int):
        words = tables.BITS[name]
        return [word(words, bit) for bit in range(value.bit_length()) if value >> bit & 1]
    return value
