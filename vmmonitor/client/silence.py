# SPDX-License-Identifier: Apache-2.0
"""``silence create``, ``list``, ``show`` and ``expire``."""

import argparse
import datetime
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from osc_lib import exceptions

from vmmonitor.client import base, columns

if TYPE_CHECKING:
    from vmmonitor.client import http

#: Of several values of a field any may hold, or none of them may.
SEVERAL = {"=": "in", "!=": "not_in"}
_TEST = re.compile(r"\s*([A-Za-z_.]+)\s*(=~|!~|!=|=)(.*)", re.DOTALL)

Test = tuple[str, str, str]


class ListSilence(base.List):
    """List silences that are not over, newest first."""

    NOUN = "silences"
    COLUMNS = ("silence_id", "state", "starts_at", "ends_at", "author", "comment", "match")
    LONG = ("created_at", "expired_at", "expired_by")
    FILTERS = (("--author", {"help": "only by this author; may be repeated"}),)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        which = parser.add_mutually_exclusive_group()
        for name, states, what in (
            ("--active", ["active"], "only those that hold now"),
            ("--expired", ["expired"], "only those that are over"),
            ("--all", None, "also those that are over"),
        ):
            which.add_argument(name, action="store_const", const=states, dest="state", help=what)
        parser.set_defaults(state=["pending", "active"])
        return parser

    def params(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Return the query string that the command line asks for."""
        return super().params(parsed_args) | {"state": parsed_args.state}


class ShowSilence(base.Show):
    """Show one silence, and how many incidents it means."""

    NOUN = "silences"


class ExpireSilence(base.Write):
    """End a silence; what it muted is looked at again at once."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument("ident", metavar="<id>")
        return parser

    def change(
        self, client: "http.Client", parsed_args: argparse.Namespace, author: str | None
    ) -> Mapping[str, Any]:
        """End it."""
        return client.delete("silences", parsed_args.ident, author=author)


class CreateSilence(base.Write):
    """Mute incidents for a time: they are recorded, and looked at again when it is over.

    All tests must hold; of several values of one field, any. What is being recovered goes on.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--match",
            metavar="<field><operator><value>",
            type=_test,
            action="append",
            default=[],
            help="only incidents of which this is so, as in rule files: host=compute-7, "
            "'instance.name=~test-.*' (all of the name), instance.project_id!=...; operators are "
            "=, !=, =~ and !~; may be repeated",
        )
        for name, field, what in (
            ("--host", "host", "of this host (its maintenance)"),
            ("--instance", "instance.uuid", "of this instance"),
        ):
            parser.add_argument(
                name,
                metavar="<uuid>" if field.endswith("uuid") else "<host>",
                type=_equals(field),
                action="append",
                dest="match",
                help=f"only incidents {what}: --match {field}=...; may be repeated",
            )
        parser.add_argument(
            "--everything", action="store_true", help="all incidents, where no test is given"
        )
        end = parser.add_mutually_exclusive_group(required=True)
        end.add_argument(
            "--for",
            metavar="<span>",
            dest="duration",
            type=_seconds,
            help="how long: 90s, 30m, 2h, 7d, 2w",
        )
        end.add_argument(
            "--until", metavar="<time>", type=_moment, help="until when: ISO 8601, UTC if no zone"
        )
        parser.add_argument(
            "--from", metavar="<time>", dest="since", type=_moment, help="from when (default: now)"
        )
        parser.add_argument("--comment", metavar="<text>", required=True, help="why")
        return parser

    def change(
        self, client: "http.Client", parsed_args: argparse.Namespace, author: str | None
    ) -> Mapping[str, Any]:
        """Make it."""
        wanted = {
            "match": match(parsed_args.match),
            "everything": parsed_args.everything or None,
            "comment": parsed_args.comment,
            "starts_at": parsed_args.since,
            "ends_at": parsed_args.until,
            "duration": parsed_args.duration,
        }
        if parsed_args.everything and parsed_args.match:
            raise exceptions.CommandError("either --everything, or what it is to match")
        if not parsed_args.everything and not parsed_args.match:
            raise exceptions.CommandError(
                "what is to be muted? Say --match, --host or --instance; or --everything"
            )
        given = {name: value for name, value in wanted.items() if value is not None}
        return client.post("silences", body=given, author=author)


def match(tests: Iterable[Test]) -> dict[str, Any]:
    """Return tests as a rule file says them.

    :raises osc_lib.exceptions.CommandError: a field has two regular expressions of a kind.
    """
    found: dict[str, dict[str, Any]] = {}
    for field, operator, value in tests:
        found.setdefault(field, {}).setdefault(operator, []).append(value)
    for operators in found.values():
        for operator in list(operators):
            values = operators.pop(operator)
            several = len(values) > 1
            if several and operator not in SEVERAL:
                raise exceptions.CommandError(
                    f"{operator} is there twice for one field; write one expression: (a|b)"
                )
            operators[SEVERAL[operator] if several else operator] = (
                values if several else values[0]
            )
    return {
        field: operators["="] if set(operators) == {"="} else operators
        for field, operators in found.items()
    }


def _test(text: str) -> Test:
    found = _TEST.fullmatch(text)
    if not found:
        detail = f"{text!r} is not a field, an operator (=, !=, =~ or !~) and a value"
        raise argparse.ArgumentTypeError(detail)
    return found[1], found[2], found[3].strip()


def _equals(field: str) -> Any:
    def test(text: str) -> Test:
        return field, "=", text.lower() if field == "instance.uuid" else text

    return test


def _seconds(text: str) -> int:
    if seconds := columns.span(text):
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a time span such as 90s, 30m, 2h or 7d")


def _moment(text: str) -> str:
    try:
        return datetime.datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not ISO 8601") from None
