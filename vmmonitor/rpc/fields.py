# SPDX-License-Identifier: Apache-2.0
"""What all forms are made of."""

from collections.abc import Mapping
from typing import Any

from vmmonitor.model.errors import InvalidMessage

#: Number of the form of every message.
SCHEMA = 1
#: Greatest time that a signed 64 bit integer of microseconds and a date can both hold.
LATEST = 253402300799_999999


def check_schema(form: Any) -> None:
    """Refuse what is no object, or of a form that this version does not know.

    :raises vmmonitor.model.errors.InvalidMessage: so it is.
    """
    if not isinstance(form, Mapping):
        raise InvalidMessage("a message must be an object")
    if form.get("schema") != SCHEMA:
        raise InvalidMessage("unknown schema", schema=form.get("schema"), known=SCHEMA)


def text(form: Mapping[str, Any], key: str, limit: int | None, required: bool = False) -> str:
    """Return a text.

    :param limit: greatest number of characters.
    :raises vmmonitor.model.errors.InvalidMessage: it is none, longer, missing or blank.
    """
    value = form.get(key, "")
    if not isinstance(value, str):
        raise InvalidMessage(f"{key} must be a text")
    if required and not value:
        raise InvalidMessage(f"{key} is missing")
    if required and value != value.strip():
        # Some databases take "x" and "x " for the same text.
        raise InvalidMessage(f"{key} begins or ends with a blank")
    if limit is not None and len(value) > limit:
        raise InvalidMessage(f"{key} is longer than {limit} characters")
    return value


def number(form: Mapping[str, Any], key: str, default: int | None) -> int:
    """Return a whole number of 63 bits.

    :raises vmmonitor.model.errors.InvalidMessage: it is none.
    """
    value = form.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise InvalidMessage(f"{key} must be a whole number, not negative, of 63 bits")
    return value


def time(form: Mapping[str, Any], key: str) -> int:
    """Return a time, in microseconds since the epoch.

    :raises vmmonitor.model.errors.InvalidMessage: it is none.
    """
    value = number(form, key, None)
    if value > LATEST:
        raise InvalidMessage(f"{key} is after the year 9999")
    return value
