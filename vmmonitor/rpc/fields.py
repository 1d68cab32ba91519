# SPDX-License-Identifier: Apache-2.0
"""Read and check the fields that all messages share."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from vmmonitor.model import identifiers
from vmmonitor.model.errors import InvalidMessage

#: Number of the format of every message.
SCHEMA = 1
#: Latest time, in microseconds since the epoch: the end of the year 9999.
LATEST = 253402300799_999999
#: Maximum lengths, in characters. Writers truncate longer texts; readers refuse them.
WORD_LENGTH = 64
NAME_LENGTH = 255

#: Control characters of ASCII and of ISO 8859, line and paragraph separators, and halves of
#: surrogate pairs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


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


def label(form: Mapping[str, Any], key: str, limit: int | None = NAME_LENGTH) -> str:
    """Return a text for people (a name, a reason), with ``?`` in place of control characters.

    A message is not refused because of them: tenants choose names, and an instance with an unusual
    name is recovered like any other.

    :raises vmmonitor.model.errors.InvalidMessage: it is not a text, or too long.
    """
    return printable(text(form, key, limit))


def printable(value: str) -> str:
    """Return a text with ``?`` in place of each control character."""
    return _CONTROL.sub("?", value)


def uuid(form: Mapping[str, Any], key: str, name: str = "") -> str:
    """Return the UUID of a field, in canonical form.

    :param name: name of the field in errors, if it is not ``key``.
    :raises vmmonitor.model.errors.InvalidMessage: it is not a UUID in canonical form.
    """
    value = form.get(key)
    if not isinstance(value, str) or not identifiers.is_uuid(value):
        raise InvalidMessage(f"{name or key} must be a UUID in lower case{_shown(value)}")
    return value


def host(form: Mapping[str, Any], key: str = "host") -> str:
    """Return the host name of a field.

    :raises vmmonitor.model.errors.InvalidMessage: it cannot be the name of a compute host.
    """
    value = form.get(key)
    if not isinstance(value, str) or not identifiers.is_host_name(value):
        raise InvalidMessage(
            f"{key} must be a host name of up to {NAME_LENGTH} letters, digits, periods, hyphens "
            f"and underscores{_shown(value)}"
        )
    return value


def word(form: Mapping[str, Any], key: str, required: bool = False) -> str:
    """Return the name of a source, type, detail, state or reason.

    :param required: whether the field must be present and not empty.
    :raises vmmonitor.model.errors.InvalidMessage: it is missing, too long, or has other characters
        than letters, digits and a few punctuation marks.
    """
    value = text(form, key, WORD_LENGTH, required)
    if value and not identifiers.is_word(value):
        raise InvalidMessage(
            f"{key} must consist of letters, digits and the characters _ . : + -{_shown(value)}"
        )
    return value


def choice(form: Mapping[str, Any], key: str, allowed: Collection[str]) -> str:
    """Return a text that must be one of the allowed ones.

    :raises vmmonitor.model.errors.InvalidMessage: it is not.
    """
    value = form.get(key)
    if not isinstance(value, str) or value not in allowed:
        raise InvalidMessage(f"{key} must be one of {', '.join(allowed)}{_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """Return a part of an invalid value for an error, without control characters."""
    return f", not {value[:NAME_LENGTH]!r}" if isinstance(value, str) and value else ""


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
