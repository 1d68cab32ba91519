# SPDX-License-Identifier: Apache-2.0
"""Microseconds inside, ISO 8601 outside: the only place where one becomes the other."""

import datetime

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_FIRST = (datetime.datetime.min.replace(tzinfo=datetime.UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime.datetime.max.replace(tzinfo=datetime.UTC) - _EPOCH) // _MICROSECOND


def iso(at: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC, with microseconds.

    :param at: microseconds since the epoch; a host's clock can be anything, so what no calendar
        holds becomes the calendar's first or last moment.
    :returns: None for None and for 0, which both mean "it did not happen".
    """
    if not at:
        return None
    moment = _EPOCH + min(max(at, _FIRST), _LAST) * _MICROSECOND
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def microseconds(text: str) -> int:
    """Return microseconds since the epoch.

    :param text: ISO 8601; UTC if it names no time zone.
    :raises ValueError: it is not ISO 8601.
    """
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) // _MICROSECOND
