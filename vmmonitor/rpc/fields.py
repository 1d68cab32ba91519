# SPDX-License-Identifier: Apache-2.0
"""Read and check the fields that all messages share."""

from collections.abc import Mapping
from typing import Any

from vmmonitor.model.errors import InvalidMessage

#: Number of the format of every message.
SCHEMA = 1
#: Latest time, in microseconds since the epoch: the end of the year 9999.
LATEST = 253402300799_999999


def check_schema(form: Any) -> None:
    """Check that a message is an object of a format that this version can read.

    :raises vmmonitor.model.errors.InvalidMessage: it is not.
    """
    if not isinstance(form, Mapping):
        raise InvalidMessage("a message must be an object")
    if form.get("schema") != SCHEMA:
        raise InvalidMessage("unknown schema", schema=form.get("schema"), known=SCHEMA)


def text(form: Mapping[str, Any], key: str, limit: int | None, required: bool = False) -> str:
    """Return the text of a field.

    :param limit: maximum number of characters.
    :param required: whether the field must be present, without blanks at its ends.
    :raises vmmonitor.model.errors.InvalidMessage: it is not a text, too long, missing or blank.
    """
    value = form.get(key, "")
    if not isinstance(value, str):
        raise InvalidMessage(f"{key} must be a text")
    if required and not value:
        raise InvalidMessage(f"{key} is missing")
    if required and value != value.strip():
        # Some databases compare "x" and "x " as equal.
        raise InvalidMessage(f"{key} begins or ends with a blank")
    if limit is not None and len(value) > limit:
        raise InvalidMessage(f"{key} is longer than {limit} characters")
    return value


def number(form: Mapping[str, Any], key: str, default: int | None) -> int:
    """Return the integer of a field, from 0 to 2**63 - 1.

    :raises vmmonitor.model.errors.InvalidMessage: it is not such an integer.
    """
    value = form.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise InvalidMessage(f"{key} must be an integer from 0 to 2**63 - 1")
    return value


def time(form: Mapping[str, Any], key: str) -> int:
    """Return the time of a field, in microseconds since the epoch.

    :raises vmmonitor.model.errors.InvalidMessage: it is not a time.
    """
    value = number(form, key, None)
    if value > LATEST:
        raise InvalidMessage(f"{key} is after the year 9999")
    return value
