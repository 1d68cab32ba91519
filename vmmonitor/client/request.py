# SPDX-License-Identifier: Apache-2.0
"""``incident recover|resolve|hold|release``, ``recovery cancel|retry``, ``request list|show``."""

import argparse
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from osc_lib import exceptions

from vmmonitor.client import base, columns

if TYPE_CHECKING:
    from vmmonitor.client import http

#: Seconds for an engine to carry it out, and between two looks.
PATIENCE = 15.0
PACE = 0.2
#: The state of a request that no engine has carried out yet, and of one that none will.
REQUESTED = "requested"
REFUSED = "refused"


def _span(text: str) -> int:
    seconds = columns.span(text)
    if seconds is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time span such as 90s, 30m, 1h or 7d")
    return seconds


class Do(base.Write):
    """Has an engine do something, and waits until it is done."""

    VERB: ClassVar[str]
    NOUN: ClassVar[str] = "incidents"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument("ident", metavar="<id>")
        parser.add_argument(
            "--comment", metavar="<text>", default="", help="why, for those who look later"
        )
        parser.add_argument(
            "--no-wait",
            action="store_true",
            help=f"do not wait (at most {PATIENCE:g} s) until an engine has done it",
        )
        return parser

    def options(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Return what else the API is to know."""
        return {}

    def change(
        self, client: "http.Client", parsed_args: argparse.Namespace, author: str | None
    ) -> Mapping[str, Any]:
        """Write it down, and return what came of it.

        :raises osc_lib.exceptions.CommandError: it was refused, or no engine has done it.
        """
        wanted = {"verb": self.VERB, "comment": parsed_args.comment, **self.options(parsed_args)}
        path = (self.NOUN, parsed_args.ident, "requests")
        request = client.post(*path, body={"request": wanted}, author=author)
        if parsed_args.no_wait:
            return request
        until = time.monotonic() + PATIENCE
        while request["state"] == REQUESTED:
            if time.monotonic() > until:
                raise exceptions.CommandError(_waits(request))
            time.sleep(PACE)
            request = client.show("requests", request["request_id"])
        if request["state"] == REFUSED:
            raise exceptions.CommandError(f"refused: {columns.printable(request['message'])}")
        return request


def _waits(request: Mapping[str, Any]) -> str:
    why = columns.printable(request["message"]) or "no engine has taken it, perhaps none runs"
    return (
        f"not done yet: {why}. It stays wanted; 'vmmonitor request show {request['request_id']}' "
        "tells what becomes of it"
    )


class RecoverIncident(Do):
    """Have an incident's instance recovered now, whatever limit or silence stands against it.

    What the instance should be doing is still asked: what is planned or gone is left alone.
    """

    VERB = "recover"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--policy", metavar="<name>", help="by this policy (default: the incident's own)"
        )
        return parser

    def options(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Return what else the API is to know."""
        return {"policy": parsed_args.policy} if parsed_args.policy else {}


class ResolveIncident(Do):
    """End an incident, and its recovery if that only waits; a storm lets its members go."""

    VERB = "resolve"


class HoldIncident(Do):
    """Let nothing act on an incident, for a time or until it is released."""

    VERB = "hold"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--for",
            dest="seconds",
            metavar="<time>",
            type=_span,
            help="how long: 90s, 30m, 1h, 7d (default: until it is released)",
        )
        return parser

    def options(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Return what else the API is to know."""
        return {} if parsed_args.seconds is None else {"seconds": parsed_args.seconds}


class ReleaseIncident(Do):
    """Let an incident go on: past the limit, silence or person that holds it; of a storm all its
    members."""

    VERB = "release"


class CancelRecovery(Do):
    """End a recovery, and hold its incident until that is released.

    A driver that is at work is waited for: nobody can call it back.
    """

    VERB = "cancel"
    NOUN = "recoveries"


class RetryRecovery(Do):
    """Try again what failed, by the same policy from its first step; what waits its time, now."""

    VERB = "retry"
    NOUN = "recoveries"


class ListRequest(base.List):
    """List what operators wanted done, newest first."""

    NOUN = "requests"
    COLUMNS = ("request_id", "created_at", "author", "verb", "incident_id", "state", "message")
    LONG = ("recovery_id", "comment", "options", "finished_at")
    FILTERS = (
        ("--state", {"help": "only in this state; may be repeated"}),
        # NOTE: --verb would be taken for --verbose by the shell itself.
        (
            "--kind",
            {
                "dest": "verb",
                "metavar": "<verb>",
                "help": "only of this kind (recover, hold ...); may be repeated",
            },
        ),
        ("--author", {"help": "only of this person; may be repeated"}),
        base.INCIDENT,
        (
            "--recovery",
            {"dest": "recovery_id", "metavar": "<id>", "help": "only of this recovery"},
        ),
    )


class ShowRequest(base.Show):
    """Show what an operator wanted done, and what came of it."""

    NOUN = "requests"
