# SPDX-License-Identifier: Apache-2.0
"""Schemas of the query strings of lists.

A query string is validated as an object of arrays, because parameters can be repeated.
``description`` completes the sentence "<value> is not ...".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.model import event

Schema = Mapping[str, Any]

TEXT: Schema = {
    "type": "string",
    "pattern": r"^[^\x00-\x1f\x7f]{1,255}$",
    "description": "a text of 1 to 255 printable characters",
}
UUID_SCHEMA: Schema = {
    "type": "string",
    "pattern": r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$",
    "description": "a UUID with its four hyphens",
}
TIME: Schema = {
    "type": "string",
    "format": "time",
    "description": "a time in ISO 8601, such as 2026-11-22T13:15:39Z",
}
_LIMIT: Schema = {
    "type": "string",
    "pattern": "^0{0,3}[1-9][0-9]{0,8}$",
    "description": "an integer above 0",
}


def one_of(values: Sequence[str]) -> Schema:
    """Return the schema of a value that is one of ``values``."""
    return {"enum": list(values), "description": f"one of {', '.join(values)}"}


def once(value: Schema) -> Schema:
    """Return the schema of a parameter that may be given once."""
    return {"type": "array", "items": value, "maxItems": 1}


def several(value: Schema) -> Schema:
    """Return the schema of a filter that may be repeated; any of its values matches."""
    return {"type": "array", "items": value, "maxItems": 100}


def of(
    filters: Mapping[str, Schema], sort_keys: Sequence[str], times: bool = True
) -> dict[str, Any]:
    """Return the schema of a list's query string.

    :param filters: name of each filter -> schema of its value.
    :param sort_keys: allowed sort keys.
    :param times: include ``since`` and ``until``.
    """
    key = f"({'|'.join(sort_keys)})(:(asc|desc))?"
    sort = {
        "type": "string",
        "pattern": f"^{key}(,{key}){{0,9}}$",
        "description": (
            f"a comma-separated list of {', '.join(sort_keys)}, each with :asc or :desc"
        ),
    }
    properties = {name: several(value) for name, value in filters.items()}
    properties |= {"limit": once(_LIMIT), "marker": once(TEXT), "sort": once(sort)}
    if times:
        properties |= {"since": once(TIME), "until": once(TIME)}
    return {"type": "object", "properties": properties, "additionalProperties": False}


SEVERITY = one_of(event.SEVERITIES)
