# SPDX-License-Identifier: Apache-2.0
"""From the API's objects to columns and rows."""

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cliff import columns

_INSTANCE = {"uuid": "instance_uuid", "name": "instance_name"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Time(columns.FormattableColumn[str | None]):
    """A time: in milliseconds and without its T for a person, as the API says it otherwise."""

    def human_readable(self) -> str:
        """Return ``2026-11-22 13:15:39.123Z``, empty if there is none."""
        return f"{self._value[:23]}Z".replace("T", " ") if self._value else ""

    def machine_readable(self) -> str:
        """Return the time in ISO 8601, empty if there is none."""
        return self._value or ""


def flat(thing: Mapping[str, Any]) -> dict[str, Any]:
    """Return the API's object with its instance's fields beside its own, named as in filters."""
    fields: dict[str, Any] = {}
    for name, value in thing.items():
        if name == "instance":
            fields |= {_INSTANCE.get(key, key): inner for key, inner in value.items()}
        else:
            fields[name] = value
    return fields


def cells(names: Sequence[str], thing: Mapping[str, Any]) -> tuple:
    """Return a row's cells for formats that know text and numbers only.

    :param names: columns, as ``flat`` names them.
    """
    fields = flat(thing)
    return tuple(_cell(name, fields[name]) for name in names)


def values(names: Sequence[str], thing: Mapping[str, Any]) -> tuple:
    """Return a row's values as the API says them, for json and yaml.

    :param names: columns, as ``flat`` names them.
    """
    fields = flat(thing)
    return tuple(fields[name] for name in names)


def printable(text: str) -> str:
    """Return the text without what could command a terminal: anybody can name an instance."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _cell(name: str, value: Any) -> Any:
    if name.endswith(("_at", "_until", "_before", "_since")):
        return Time(value)
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, str):
        return printable(value)
    return "" if value is None else value


def span(text: str) -> int | None:
    """Return the seconds of a time span such as ``90s``, ``30m``, ``1h``, ``7d``, ``2w``; None
    if it is none."""
    found = re.fullmatch(r"(\d{1,9})([smhdw])", text)
    return int(found[1]) * _UNITS[found[2]] if found else None


def moment(text: str, now: datetime.datetime | None = None) -> str:
    """Return a time as the API reads it.

    :param text: ISO 8601, or how long ago: ``90s``, ``30m``, ``1h``, ``7d``, ``2w``.
    :param now: when "ago" begins; the local clock if None.
    :raises ValueError: it is neither.
    """
    ago = span(text)
    if ago is None:
        return datetime.datetime.fromisoformat(text).isoformat()
    now = now or datetime.datetime.now(datetime.UTC)
    try:
        return (now - datetime.timedelta(seconds=ago)).isoformat()
    except OverflowError:
        raise ValueError(f"{text!r} is before the calendar begins") from None
