# SPDX-License-Identifier: Apache-2.0
"""``silence create``, ``list``, ``show`` and ``expire``."""

import argparse
import datetime
import functools
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from osc_lib import exceptions

from vmmonitor import text
from vmmonitor.client import base

if TYPE_CHECKING:
    from vmmonitor.client import http

#: Operator of one value -> operator of several values of the same field.
SEVERAL = {"=": "in", "!=": "not_in"}
_CONDITION = re.compile(r"\s*([A-Za-z_.]+)\s*(=~|!~|!=|=)(.*)", re.DOTALL)

#: (field, operator, value)
Condition = tuple[str, str, str]


class ListSilence(base.List):
    """List active and pending silences, newest first."""

    NOUN = "silences"
    COLUMNS = ("silence_id", "state", "starts_at", "ends_at", "author", "comment", "match")
    LONG = ("created_at", "expired_at", "expired_by")
    FILTERS = (("--author", {"help": "filter by author (repeatable)"}),)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        which = parser.add_mutually_exclusive_group()
        for name, states, what in (
            ("--active", ["active"], "show only active silences"),
            ("--expired", ["expired"], "show only expired silences"),
            ("--all", None, "show expired silences too"),
        ):
            which.add_argument(name, action="store_const", const=states, dest="state", help=what)
        parser.set_defaults(state=["pending", "active"])
        return parser

    def params(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Return the query string of the command line."""
        return super().params(parsed_args) | {"state": parsed_args.state}


class ShowSilence(base.Show):
    """Show one silence, and the number of incidents that it matches."""

    NOUN = "silences"


class ExpireSilence(base.Write):
    """Expire a silence. Its incidents are evaluated again immediately."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument("ident", metavar="<id>")
        return parser

    def change(
        self, client: "http.Client", parsed_args: argparse.Namespace, author: str | None
    ) -> Mapping[str, Any]:
        """Expire the silence."""
        return client.delete("silences", parsed_args.ident, author=author)


class CreateSilence(base.Write):
    """Silence incidents for a time: they are recorded, but not recovered.

    When the silence expires, its incidents are evaluated again. An incident must meet every
    condition; several values of one field are alternatives. Running recoveries continue.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--match",
            metavar="<field><operator><value>",
            type=_parse_condition,
            action="append",
            default=[],
            help="silence only incidents that meet this condition, with a field of rule files: "
            "host=compute-7, 'instance.name=~test-.*' (matches the whole name), "
            "instance.project_id!=...; the operators are =, !=, =~ and !~ (repeatable)",
        )
        for name, field, scope in (
            ("--host", "host", "of this host, for example during its maintenance"),
            ("--instance", "instance.uuid", "of this instance"),
        ):
            parser.add_argument(
                name,
                metavar="<uuid>" if field.endswith("uuid") else "<host>",
                type=functools.partial(_parse_equality, field),
                action="append",
                dest="match",
                help=f"silence only incidents {scope}; same as --match {field}=... (repeatable)",
            )
        parser.add_argument("--everything", action="store_true", help="silence all incidents")
        end = parser.add_mutually_exclusive_group(required=True)
        end.add_argument(
            "--for",
            metavar="<duration>",
            dest="duration",
            type=_parse_duration,
            help="duration: 90s, 30m, 2h, 7d, 2w",
        )
        end.add_argument(
            "--until",
            metavar="<time>",
            type=_parse_time,
            help="end: ISO 8601 (default time zone: UTC)",
        )
        parser.add_argument(
            "--from",
            metavar="<time>",
            dest="since",
            type=_parse_time,
            help="start: ISO 8601 (default: now)",
        )
        parser.add_argument("--comment", metavar="<text>", required=True, help="reason")
        return parser

    def change(
        self, client: "http.Client", parsed_args: argparse.Namespace, author: str | None
    ) -> Mapping[str, Any]:
        """Create the silence."""
        wanted = {
            "match": match(parsed_args.match),
            "everything": parsed_args.everything or None,
            "comment": parsed_args.comment,
            "starts_at": parsed_args.since,
            "ends_at": parsed_args.until,
            "duration": parsed_args.duration,
        }
        if parsed_args.everything and parsed_args.match:
            raise exceptions.CommandError(
                "--everything cannot be combined with --match, --host or --instance"
            )
        if not parsed_args.everything and not parsed_args.match:
            raise exceptions.CommandError("specify --match, --host or --instance, or --everything")
        given = {name: value for name, value in wanted.items() if value is not None}
        return client.post("silences", body=given, author=author)


def match(conditions: Iterable[Condition]) -> dict[str, Any]:
    """Return conditions in the syntax of rule files.

    :raises osc_lib.exceptions.CommandError: a field has two regular expressions with the same
        operator.
    """
    found: dict[str, dict[str, Any]] = {}
    for field, operator, value in conditions:
        found.setdefault(field, {}).setdefault(operator, []).append(value)
    for operators in found.values():
        for operator in list(operators):
            values = operators.pop(operator)
            several = len(values) > 1
            if several and operator not in SEVERAL:
                raise exceptions.CommandError(
                    f"{operator} is used twice for one field; use one expression: (a|b)"
                )
            operators[SEVERAL[operator] if several else operator] = (
                values if several else values[0]
            )
    return {
        field: operators["="] if set(operators) == {"="} else operators
        for field, operators in found.items()
    }


def _parse_condition(value: str) -> Condition:
    found = _CONDITION.fullmatch(value)
    if not found:
        detail = f"{value!r} is not a field, an operator (=, !=, =~ or !~) and a value"
        raise argparse.ArgumentTypeError(detail)
    return found[1], found[2], found[3].strip()


def _parse_equality(field: str, value: str) -> Condition:
    return field, "=", value.lower() if field == "instance.uuid" else value


def _parse_duration(value: str) -> int:
    if seconds := text.parse_duration(value):
        return seconds
    raise argparse.ArgumentTypeError(f"{value!r} is not a duration such as 90s, 30m, 2h or 7d")


def _parse_time(value: str) -> str:
    try:
        return datetime.datetime.fromisoformat(value).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not an ISO 8601 time") from None
