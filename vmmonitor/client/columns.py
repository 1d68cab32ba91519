# SPDX-License-Identifier: Apache-2.0
"""Columns and rows from objects of the API, and times from the command line."""

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cliff import columns

from vmmonitor import text

_INSTANCE = {"uuid": "instance_uuid", "name": "instance_name"}


class Time(columns.FormattableColumn[str | None]):
    """A time: shortened to milliseconds in tables, unchanged in formats for programs."""

    def human_readable(self) -> str:
        """Return ``2026-11-22 13:15:39.123Z``; empty if there is no time."""
        return f"{self._value[:23]}Z".replace("T", " ") if self._value else ""

    def machine_readable(self) -> str:
        """Return the time in ISO 8601; empty if there is no time."""
        return self._value or ""


def flatten(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object of the API with the fields of its instance at the top level.

    These fields have the names of the filters, for example ``instance_uuid``.
    """
    fields: dict[str, Any] = {}
    for name, value in item.items():
        if name == "instance":
            fields |= {_INSTANCE.get(key, key): inner for key, inner in value.items()}
        else:
            fields[name] = value
    return fields


def cells(names: Sequence[str], item: Mapping[str, Any]) -> tuple:
    """Return the cells of a row, for formats with only text and numbers.

    :param names: columns, named as by ``flatten``.
    """
    fields = flatten(item)
    return tuple(_cell(name, fields[name]) for name in names)


def values(names: Sequence[str], item: Mapping[str, Any]) -> tuple:
    """Return the unchanged values of a row, for json and yaml.

    :param names: columns, named as by ``flatten``.
    """
    fields = flatten(item)
    return tuple(fields[name] for name in names)


def _cell(name: str, value: Any) -> Any:
    if name.endswith(("_at", "_until", "_before", "_since")):
        return Time(value)
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, str):
        return text.printable_lines(value)
    return "" if value is None else value


def parse_time(value: str, now: datetime.datetime | None = None) -> str:
    """Return a time in the format of the API.

    :param value: ISO 8601, or a duration before now: ``90s``, ``30m``, ``1h``, ``7d``, ``2w``.
    :param now: the current time; None for the local clock.
    :raises ValueError: the value is neither.
    """
    seconds = text.parse_duration(value)
    if seconds is None:
        return datetime.datetime.fromisoformat(value).isoformat()
    now = now or datetime.datetime.now(datetime.UTC)
    try:
        return (now - datetime.timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        raise ValueError(f"{value!r} is before the year 1") from None
