# SPDX-License-Identifier: Apache-2.0
"""What the commands of every noun have in common. They run in both shells."""

import abc
import argparse
import getpass
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from osc_lib.command import command

from vmmonitor.client import columns

if TYPE_CHECKING:
    from vmmonitor.client import http

#: Formats that a program reads; they get everything.
PROGRAMS = ("json", "yaml")

Option = tuple[str, dict[str, Any]]

HOST: Option = ("--host", {"help": "only on this host; may be repeated"})
INSTANCE: Option = (
    "--instance",
    {
        "dest": "instance_uuid",
        "metavar": "<uuid>",
        "help": "only of this instance; may be repeated",
    },
)
INCIDENT: Option = (
    "--incident",
    {"dest": "incident_id", "metavar": "<id>", "help": "only of this incident; may be repeated"},
)
PROJECT: Option = (
    "--project",
    {"dest": "project_id", "metavar": "<id>", "help": "only of this project; may be repeated"},
)
SEVERITY: Option = (
    "--severity",
    {"choices": ("info", "warning", "critical"), "help": "only this severity; may be repeated"},
)


def _author(text: str) -> str:
    if not text.strip() or len(text) > 255 or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no name of 1 to 255 characters")
    return text.strip()


AUTHOR: Option = (
    "--author",
    {
        "metavar": "<name>",
        "type": _author,
        "help": "who does this (default: your login name); where the API has authentication, "
        "the user that it knows",
    },
)


def _moment(text: str) -> str:
    try:
        return columns.moment(text)
    except ValueError:
        detail = f"{text!r} is neither ISO 8601 nor a time span such as 90s, 30m, 1h or 7d"
        raise argparse.ArgumentTypeError(detail) from None


def _limit(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def api(command: Any) -> "http.Client":
    """Return the vmmonitor API as either shell provides it."""
    return command.app.client_manager.vmmonitor


class List(command.Lister):
    """Lists one noun."""

    NOUN: ClassVar[str]
    #: Columns of a list for a person, then those that ``--long``, json and yaml add.
    COLUMNS: ClassVar[Sequence[str]]
    LONG: ClassVar[Sequence[str]]
    #: The filters, as argparse's add_argument takes them.
    FILTERS: ClassVar[Sequence[Option]]
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
                    type=_moment,
                    help=f"only {side} this time: ISO 8601 (UTC if it names no zone), or how "
                    "long ago (90s, 30m, 1h, 7d)",
                )
        parser.add_argument(
            "--limit",
            metavar="<number>",
            type=_limit,
            help="at most so many, over any number of pages; 0 for all (default: 100)",
        )
        parser.add_argument(
            "--sort",
            metavar="<key>[:<direction>][,...]",
            help="order: keys of the API with :asc or :desc",
        )
        parser.add_argument(
            "--long", action="store_true", help="all columns (json and yaml always have them)"
        )
        return parser

    @staticmethod
    def _add_filter(parser: argparse.ArgumentParser, name: str, more: Mapping[str, Any]) -> str:
        if "choices" not in more and "metavar" not in more:
            more = {"metavar": f"<{name.lstrip('-')}>", **more}
        return parser.add_argument(name, action="append", **more).dest

    def params(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Return the query string that the command line asks for."""
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
        """Return the columns that the command line asks for, and a row for each thing."""
        program = parsed_args.formatter in PROGRAMS
        everything = program or parsed_args.long or parsed_args.columns
        names = (*self.COLUMNS, *(self.LONG if everything else ()))
        row = columns.values if program else columns.cells
        return names, (row(names, one) for one in found)


class Show(command.ShowOne):
    """Shows one thing."""

    NOUN: ClassVar[str]
    ARGUMENT: ClassVar[str] = "id"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument("ident", metavar=f"<{self.ARGUMENT}>")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence]:
        """Return the columns and the one row."""
        return shown(parsed_args, api(self).show(self.NOUN, parsed_args.ident))


class Write(command.ShowOne):
    """Changes something, and shows it as it is then."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        name, more = AUTHOR
        parser.add_argument(name, **more)
        return parser

    @abc.abstractmethod
    def change(
        self, client: "http.Client", parsed_args: argparse.Namespace, author: str | None
    ) -> Mapping[str, Any]:
        """Do it, and return what the API tells of the thing then.

        :param author: who does it.
        """

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence]:
        """Return the columns and the one row."""
        author = parsed_args.author or login_name()
        return shown(parsed_args, self.change(api(self), parsed_args, author))


def shown(
    parsed_args: argparse.Namespace, thing: Mapping[str, Any]
) -> tuple[Sequence[str], Sequence]:
    """Return the columns and the one row of a thing, as its format wants them."""
    if parsed_args.formatter in PROGRAMS:
        return tuple(thing), tuple(thing.values())
    names = tuple(columns.flat(thing))
    return names, columns.cells(names, thing)


def login_name() -> str | None:
    """Return who is logged in here; None if nobody can tell."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None
