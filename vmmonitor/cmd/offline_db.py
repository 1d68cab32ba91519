# SPDX-License-Identifier: Apache-2.0
"""Access to the database for commands that only read it, also on hosts without its libraries."""

import contextlib
import datetime
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from oslo_config import cfg

from vmmonitor import text
from vmmonitor.model import errors

if TYPE_CHECKING:
    from vmmonitor.db.session import Database

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_SECOND = 1_000_000


class DatabaseNotInstalled(errors.VmmonitorError):
    """The database libraries are not installed on this host"""


def is_installed() -> bool:
    """Return whether the database libraries are installed."""
    return bool(importlib.util.find_spec("sqlalchemy") and importlib.util.find_spec("oslo_db"))


@contextlib.contextmanager
def open_database(conf: cfg.ConfigOpts) -> "Iterator[Database]":
    """Open the configured database.

    :raises DatabaseNotInstalled: the database libraries are not installed.
    :raises vmmonitor.model.errors.VmmonitorError: the database cannot be reached, or has another
        schema.
    """
    if not is_installed():
        reason = "the database libraries are not installed; run this on a host of an engine or API"
        raise DatabaseNotInstalled(reason)
    from vmmonitor.db import schema
    from vmmonitor.db.session import Database

    database = Database(conf)
    try:
        schema.ensure_current(database)
        yield database
    finally:
        database.dispose()


def parse_time(value: str, now: int) -> int:
    """Return a time in microseconds since the epoch.

    :param value: a duration before now (``90s``, ``30m``, ``1h``, ``7d``, ``2w``), or ISO 8601,
        with UTC as the default time zone.
    :param now: microseconds since the epoch.
    :raises ValueError: the value is neither.
    """
    seconds = text.parse_duration(value)
    if seconds is not None:
        return max(0, now - seconds * _SECOND)
    try:
        time = datetime.datetime.fromisoformat(value)
    except ValueError:
        reason = f"{value!r} is neither a duration such as 30m, 1h or 7d nor an ISO 8601 time"
        raise ValueError(reason) from None
    return ((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MICROSECOND


def format_time(at: int) -> str:
    """Return a time in ISO 8601 with milliseconds.

    :param at: microseconds since the epoch.
    """
    try:
        formatted = (_EPOCH + at * _MICROSECOND).isoformat(timespec="milliseconds")
    except OverflowError:
        return f"{at} us"
    return formatted.replace("+00:00", "Z")
