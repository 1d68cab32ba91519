# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage db ...``: the schema and the contents of the database."""

import argparse
import functools
import sys
from collections.abc import Callable

from oslo_config import cfg

from vmmonitor.db import events, incidents, schema, silences
from vmmonitor.db.session import Database
from vmmonitor.model import errors

MICROSECONDS_PER_DAY = 86_400_000_000

#: Maximum number of rows to delete in one transaction, so that engines are not delayed.
_CHUNK = 1000

DatabaseCommand = Callable[[Database, argparse.Namespace], None]


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``db`` with its subcommands.

    Each sets ``run``: a function of the configuration and the arguments that returns the exit
    code, 0 or 1.

    :param subparsers: the subparsers of ``vmmonitor-manage``.
    """
    description = "create, upgrade and purge the database"
    parser = subparsers.add_parser("db", help=description, description=description)
    commands = parser.add_subparsers(dest="db_command", metavar="COMMAND", required=True)
    sync_parser = _add(commands, "sync", "create or upgrade the tables; safe to repeat", sync)
    sync_parser.add_argument(
        "--revision", default="head", help="revision to upgrade to (default: the latest)"
    )
    _add(commands, "version", "print the current and the required revision", version)
    purge_parser = _add(commands, "purge", "delete old events and closed incidents", purge)
    purge_parser.add_argument(
        "--older-than",
        type=_parse_count,
        required=True,
        metavar="DAYS",
        help="delete events stored, and incidents closed, more than this number of days ago",
    )
    purge_parser.add_argument(
        "--keep-events",
        type=_parse_count,
        default=0,
        metavar="N",
        help="maximum number of events to keep, newest first (default: no limit)",
    )


def sync(database: Database, args: argparse.Namespace) -> None:
    """Create or upgrade the tables."""
    before = schema.version(database)
    after = schema.sync(database, args.revision)
    if before == after:
        print(f"The database is already at revision {after}.")
    else:
        print(f"Upgraded the database from {before or 'an empty one'} to revision {after}.")


def version(database: Database, args: argparse.Namespace) -> None:
    """Print the revision of the database, and the revision that this version needs."""
    print(f"database: {schema.version(database) or 'no tables'}")
    print(f"needed:   {schema.head()}")


def purge(database: Database, args: argparse.Namespace) -> None:
    """Delete expired silences, old events, and closed incidents with their rows."""
    schema.ensure_current(database)
    before = database.now() - args.older_than * MICROSECONDS_PER_DAY
    _repeat(database, silences.purge, before, _CHUNK)
    deleted_events = _repeat(database, events.purge, before, args.keep_events, _CHUNK)
    deleted_incidents = _repeat(database, incidents.purge, before, _CHUNK)
    print(f"Deleted {deleted_events} events and {deleted_incidents} incidents.")


def _repeat(database: Database, purge_chunk: Callable[..., int], *arguments: int) -> int:
    """Run a purge until no row is left to delete, and return the number of deleted rows.

    :param purge_chunk: function of a transaction and ``arguments``; returns the number of rows
        that it deleted.
    """
    total = 0
    while deleted := database.run(purge_chunk, *arguments):
        total += deleted
    return total


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    description: str,
    command: DatabaseCommand,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=description, description=description)
    parser.set_defaults(run=functools.partial(_run, command))
    return parser


def _run(command: DatabaseCommand, conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Run a command with an open database, and print an expected error as one line."""
    try:
        database = Database(conf)
        try:
            command(database, args)
        finally:
            database.dispose()
    except errors.VmmonitorError as error:
        print(f"vmmonitor-manage: {error}", file=sys.stderr)
        return 1
    return 0


def _parse_count(value: str) -> int:
    number = int(value)
    if number < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number
