# SPDX-License-Identifier: Apache-2.0
"""The database as a command that reads it opens it, also where nothing for one is installed."""

import contextlib
import datetime
import importlib.util
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from oslo_config import cfg

from vmmonitor.model import errors

if TYPE_CHECKING:
    from vmmonitor.db.session import Database

_SPAN = re.compile(r"(\d{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


class Unreadable(errors.VmmonitorError):
    """There is no database to read from"""


@contextlib.contextmanager
def opened(conf: cfg.ConfigOpts) -> "Iterator[Database]":
    """Give the database that the configuration names.

    :raises Unreadable: nothing for a database is installed here.
    :raises vmmonitor.model.errors.VmmonitorError: it cannot be reached, or has other tables.
    """
    if not (importlib.util.find_spec("sqlalchemy") and importlib.util.find_spec("oslo_db")):
        reason = "nothing for a database is installed here: run this where an engine or the API is"
        raise Unreadable(reason)
    from vmmonitor.db import schema
    from vmmonitor.db.session import Database

    database = Database(conf)
    try:
        schema.ensure_current(database)
        yield database
    finally:
        database.dispose()


def moment(text: str, now: int) -> int:
    """Return a time in microseconds since the epoch.

    :param text: how long ago (``90s``, ``30m``, ``1h``, ``7d``, ``2w``), or ISO 8601, in UTC if
        it names no zone.
    :param now: microseconds since the epoch.
    :raises ValueError: it is neither; the message says so.
    """
    if ago := _SPAN.fullmatch(text):
        return max(0, now - int(ago[1]) * _SECONDS[ago[2]] * 1_000_000)
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        reason = f"{text!r} is neither a time span such as 30m, 1h or 7d nor a time in ISO 8601"
        raise ValueError(reason) from None
    return ((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MICROSECOND


def printable(text: str) -> str:
    """Return the text without what could command a terminal: anybody can name an instance."""
    return "".join(c if c.isprintable() else "?" for c in text)


def time(at: int) -> str:
    """Return a time for a person.

    :param at: microseconds since the epoch.
    """
    try:
        text = (_EPOCH + at * _MICROSECOND).isoformat(timespec="milliseconds")
    except OverflowError:
        return f"{at} us"
    return text.replace("+00:00", "Z")
