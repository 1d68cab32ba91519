# SPDX-License-Identifier: Apache-2.0
"""Base classes of the commands, for both shells."""

import abc
import argparse
import getpass
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from osc_lib.command import command

from vmmonitor.client import columns

if TYPE_CHECKING:
    from vmmonitor.client import http

#: Output formats for programs; they contain all columns.
PROGRAMS = ("json", "yaml")
#: Columns of a terminal whose width is unknown.
TERMINAL_WIDTH = 100

Option = tuple[str, dict[str, Any]]

HOST_OPTION: Option = ("--host", {"help": "filter by host (repeatable)"})
INSTANCE_OPTION: Option = (
    "--instance",
    {"dest": "instance_uuid", "metavar": "<uuid>", "help": "filter by instance (repeatable)"},
)
INCIDENT_OPTION: Option = (
    "--incident",
    {"dest": "incident_id", "metavar": "<id>", "help": "filter by incident (repeatable)"},
)
PROJECT: Option = (
    "--project",
    {"dest": "project_id", "metavar": "<id>", "help": "filter by project (repeatable)"},
)
SEVERITY_OPTION: Option = (
    "--severity",
    {"choices": ("info", "warning", "critical"), "help": "filter by severity (repeatable)"},
)
STATE: Option = ("--state", {"help": "filter by state (repeatable)"})


def _parse_author(value: str) -> str:
    if not value.strip() or len(value) > 255 or not value.isprintable():
        raise argparse.ArgumentTypeError(f"{value[:80]!r} must have 1 to 255 printable characters")
    return value.strip()


_AUTHOR: Option = (
    "--author",
    {
        "metavar": "<name>",
        "type": _parse_author,
        "help": "name to store with the change (default: your login name); an API with "
        "authentication stores the authenticated user instead",
    },
)


def _parse_time(value: str) -> str:
    try:
        return columns.parse_time(value)
    except ValueError:
        detail = f"{value!r} is neither an ISO 8601 time nor a duration such as 90s, 30m, 1h or 7d"
        raise argparse.ArgumentTypeError(detail) from None


def _parse_limit(value: str) -> int:
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} must be an integer of 0 or more")
    return int(value)


def add_long(parser: argparse.ArgumentParser) -> None:
    """Add ``--long`` to a parser."""
    parser.add_argument(
        "--long", action="store_true", help="show all columns (json and yaml always do)"
    )


def api(command: Any) -> "http.Client":
    """Return the client of the vmmonitor API that either shell provides."""
    return command.app.client_manager.vmmonitor


class List(command.Lister):
    """Base class of the commands that list a noun."""

    NOUN: ClassVar[str]
    #: Columns of each list, then the columns that ``--long``, json and yaml add.
    COLUMNS: ClassVar[Sequence[str]]
    LONG: ClassVar[Sequence[str]]
    #: The filters, as arguments of argparse's add_argument.
    FILTERS: ClassVar[Sequence[Option]]
    #: Add ``--since`` and ``--until``.
    TIMES: ClassVar[bool] = True

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        self._filters = [self._add_filter(parser, name, more) for name, more in self.FILTERS]
        if self.TIMES:
            for name, side in (("--since", "at or after"), ("--until", "before")):
                parser.add_argument(
                    name,
                    metavar="<time>",
                    type=_parse_time,
                    help=f"show only items {side} this time: ISO 8601 (default time zone: UTC) "
                    "or a duration before now (90s, 30m, 1h, 7d)",
                )
        parser.add_argument(
            "--limit",
            metavar="<number>",
            type=_parse_limit,
            help="maximum number of items; 0 for no limit (default: 100)",
        )
        parser.add_argument(
            "--sort",
            metavar="<key>[:<direction>][,...]",
            help="sort by these keys of the API, in direction asc or desc",
        )
        add_long(parser)
        return parser

    @staticmethod
    def _add_filter(parser: argparse.ArgumentParser, name: str, more: Mapping[str, Any]) -> str:
        if "choices" not in more and "metavar" not in more:
            more = {"metavar": f"<{name.lstrip('-')}>", **more}
        return parser.add_argument(name, action="append", **more).dest

    def params(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Return the query string of the command line."""
        names = [*self._filters, "sort", *(("since", "until") if self.TIMES else ())]
        return {name: getattr(parsed_args, name) for name in names}

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterator]:
        """Return the columns and the rows."""
        limit = 100 if parsed_args.limit is None else parsed_args.limit or None
        found = api(self).list(self.NOUN, self.params(parsed_args), limit)
        return self.rows(parsed_args, found)

    def rows(
        self, parsed_args: argparse.Namespace, found: Iterable[Mapping[str, Any]]
    ) -> tuple[Sequence[str], Iterator]:
        """Return the columns that the command line selects, and a row for each item."""
        return select_columns(parsed_args, found, self.COLUMNS, self.LONG)


def select_columns(
    parsed_args: argparse.Namespace,
    found: Iterable[Mapping[str, Any]],
    short: Sequence[str],
    long: Sequence[str],
) -> tuple[Sequence[str], Iterator]:
    """Return the columns that the command line selects, and a row for each item.

    :param short: columns of each list.
    :param long: columns that ``--long``, json and yaml add.
    """
    program = parsed_args.formatter in PROGRAMS
    everything = program or parsed_args.long or parsed_args.columns
    names = (*short, *(long if everything else ()))
    row = columns.values if program else columns.cells
    return names, (row(names, item) for item in found)


class Show(command.ShowOne):
    """Base class of the commands that show one item."""

    NOUN: ClassVar[str]
    ARGUMENT: ClassVar[str] = "id"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument("ident", metavar=f"<{self.ARGUMENT}>")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence]:
        """Return the columns and the one row."""
        return format_item(parsed_args, api(self).show(self.NOUN, parsed_args.ident))


class Write(command.ShowOne):
    """Base class of the commands that change an item and show the result."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        name, more = _AUTHOR
        parser.add_argument(name, **more)
        return parser

    @abc.abstractmethod
    def change(
        self, client: "http.Client", parsed_args: argparse.Namespace, author: str | None
    ) -> Mapping[str, Any]:
        """Send the change, and return the changed item from the response.

        :param author: name of the user who makes the change.
        """

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence]:
        """Return the columns and the one row."""
        author = parsed_args.author or login_name()
        return format_item(parsed_args, self.change(api(self), parsed_args, author))


def format_item(
    parsed_args: argparse.Namespace, item: Mapping[str, Any]
) -> tuple[Sequence[str], Sequence]:
    """Return the columns and the one row of an item, for the selected output format."""
    if parsed_args.formatter in PROGRAMS:
        return tuple(item), tuple(item.values())
    names = tuple(columns.flatten(item))
    return names, columns.cells(names, item)


def login_name() -> str | None:
    """Return the login name of the user; None if it is unknown."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None
