# SPDX-License-Identifier: Apache-2.0
"""Conversion of times: microseconds in the service, ISO 8601 in the API."""

import datetime

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_FIRST = (datetime.datetime.min.replace(tzinfo=datetime.UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime.datetime.max.replace(tzinfo=datetime.UTC) - _EPOCH) // _MICROSECOND


def iso(at: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC, with microseconds.

    :param at: microseconds since the epoch; a time outside the calendar, from a wrong clock of a
        host, becomes the first or last time of the calendar.
    :returns: None for None and 0, which both stand for no time.
    """
    if not at:
        return None
    moment = _EPOCH + min(max(at, _FIRST), _LAST) * _MICROSECOND
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def microseconds(text: str) -> int:
    """Return microseconds since the epoch.

    :param text: ISO 8601; UTC is the default time zone.
    :raises ValueError: the text is not ISO 8601.
    """
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) // _MICROSECOND
