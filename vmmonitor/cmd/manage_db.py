# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage db ...``: the database's tables and what is kept in them."""

import argparse
import sys
from collections.abc import Callable

from oslo_config import cfg

from vmmonitor.db import events, incidents, schema, silences
from vmmonitor.db.session import Database
from vmmonitor.model import errors

MICROSECONDS_PER_DAY = 86_400_000_000

#: Rows deleted in one transaction: short enough that the engines hardly wait.
CHUNK = 1000

Action = Callable[[Database, argparse.Namespace], None]


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``db`` with its subcommands.

    Each sets ``run``: a function of the configuration and the arguments that returns the exit
    code, 0 or 1.

    :param subparsers: those of ``vmmonitor-manage``.
    """
    what = "make, upgrade and shorten the database"
    parser = subparsers.add_parser("db", help=what, description=what)
    commands = parser.add_subparsers(dest="db_command", metavar="COMMAND", required=True)
    sync_parser = _add(commands, "sync", "make or upgrade the tables; safe to run again", sync)
    sync_parser.add_argument(
        "--revision", default="head", help="go up to this version (default: the newest)"
    )
    _add(commands, "version", "print the version that the database has, and the newest", version)
    purge_parser = _add(commands, "purge", "delete what is old and over", purge)
    purge_parser.add_argument(
        "--older-than",
        type=_count,
        required=True,
        metavar="DAYS",
        help="delete events stored, and incidents closed, more than this many days ago",
    )
    purge_parser.add_argument(
        "--keep-events",
        type=_count,
        default=0,
        metavar="N",
        help="keep at most the newest N events (default: no limit)",
    )


def sync(database: Database, args: argparse.Namespace) -> None:
    """Make or upgrade the tables."""
    before = schema.version(database)
    after = schema.sync(database, args.revision)
    if before == after:
        print(f"The database has version {after} already.")
    else:
        print(f"The database has version {after} now, {before or 'nothing'} before.")


def version(database: Database, args: argparse.Namespace) -> None:
    """Print the version that the database has, and the one that this code needs."""
    print(f"database: {schema.version(database) or 'no tables'}")
    print(f"needed:   {schema.head()}")


def purge(database: Database, args: argparse.Namespace) -> None:
    """Delete old events, then the incidents that are over, with all that belongs to them, and the
    silences that are over."""
    schema.ensure_current(database)
    before = database.now() - args.older_than * MICROSECONDS_PER_DAY

    def events_chunk() -> int:
        return database.run(events.purge, before, args.keep_events, CHUNK)

    def incidents_chunk() -> int:
        return database.run(incidents.purge, before, CHUNK)

    def silences_chunk() -> int:
        return database.run(silences.purge, before, CHUNK)

    _all(silences_chunk)
    print(f"{_all(events_chunk)} events and {_all(incidents_chunk)} incidents were deleted.")


def _all(chunk: Callable[[], int]) -> int:
    """Repeat until nothing is left; return how many were deleted."""
    total = 0
    while deleted := chunk():
        total += deleted
    return total


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    what: str,
    action: Action,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what)
    parser.set_defaults(run=lambda conf, args: _run(action, conf, args))
    return parser


def _run(action: Action, conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Open the database, act, and tell any trouble in one line."""
    try:
        database = Database(conf)
        try:
            action(database, args)
        finally:
            database.dispose()
    except errors.VmmonitorError as error:
        print(f"vmmonitor-manage: {error}", file=sys.stderr)
        return 1
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number
