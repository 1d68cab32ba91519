# SPDX-License-Identifier: Apache-2.0
"""``incident recover|resolve|hold|release``, ``recovery cancel|retry``, ``request list|show``."""

import argparse
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from osc_lib import exceptions

from vmmonitor import text
from vmmonitor.client import base

if TYPE_CHECKING:
    from vmmonitor.client import http

#: Maximum time to wait for an engine, and interval of the queries, in seconds.
TIMEOUT = 15.0
_POLL_INTERVAL = 0.2
#: State of a request that no engine has carried out yet, and of a refused one.
REQUESTED = "requested"
REFUSED = "refused"


def _parse_seconds(value: str) -> int:
    seconds = text.parse_duration(value)
    if seconds is None:
        raise argparse.ArgumentTypeError(f"{value!r} is not a duration such as 90s, 30m, 1h or 7d")
    return seconds


class SendRequest(base.Write):
    """Base class of the commands that send an operator request and wait for its result."""

    VERB: ClassVar[str]
    NOUN: ClassVar[str] = "incidents"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument("ident", metavar="<id>")
        parser.add_argument(
            "--comment", metavar="<text>", default="", help="reason, stored with the request"
        )
        parser.add_argument(
            "--no-wait",
            action="store_true",
            help=f"return at once; without it, wait up to {TIMEOUT:g} s for an engine",
        )
        return parser

    def options(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Return the options of the request."""
        return {}

    def change(
        self, client: "http.Client", parsed_args: argparse.Namespace, author: str | None
    ) -> Mapping[str, Any]:
        """Send the request, and return it with its result.

        :raises osc_lib.exceptions.CommandError: the request was refused, or no engine carried it
            out in time.
        """
        wanted = {"verb": self.VERB, "comment": parsed_args.comment, **self.options(parsed_args)}
        path = (self.NOUN, parsed_args.ident, "requests")
        request = client.post(*path, body={"request": wanted}, author=author)
        if parsed_args.no_wait:
            return request
        until = time.monotonic() + TIMEOUT
        while request["state"] == REQUESTED:
            if time.monotonic() > until:
                raise exceptions.CommandError(_describe_timeout(request))
            time.sleep(_POLL_INTERVAL)
            request = client.show("requests", request["request_id"])
        if request["state"] == REFUSED:
            raise exceptions.CommandError(f"refused: {text.printable_lines(request['message'])}")
        return request


def _describe_timeout(request: Mapping[str, Any]) -> str:
    reason = text.printable_lines(request["message"]) or (
        "no engine has processed it; check that an engine is running"
    )
    return (
        f"not done yet: {reason}. The request stays queued; check it with 'vmmonitor request show "
        f"{request['request_id']}'"
    )


class RecoverIncident(SendRequest):
    """Recover the instance of an incident now, regardless of limits and silences.

    The verdict is still requested: a planned stop or a deleted instance is not recovered.
    """

    VERB = "recover"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--policy",
            metavar="<name>",
            help="recovery policy to use (default: the policy of the incident)",
        )
        return parser

    def options(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Return the options of the request."""
        return {"policy": parsed_args.policy} if parsed_args.policy else {}


class ResolveIncident(SendRequest):
    """Resolve an incident. Cancels a queued recovery; resolving a storm releases its members."""

    VERB = "resolve"


class HoldIncident(SendRequest):
    """Hold the recovery of an incident, for a time or until it is released."""

    VERB = "hold"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--for",
            dest="seconds",
            metavar="<duration>",
            type=_parse_seconds,
            help="duration: 90s, 30m, 1h, 7d (default: until the incident is released)",
        )
        return parser

    def options(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Return the options of the request."""
        return {} if parsed_args.seconds is None else {"seconds": parsed_args.seconds}


class ReleaseIncident(SendRequest):
    """Release an incident from its hold, limit or silence; of a storm, release all members."""

    VERB = "release"


class CancelRecovery(SendRequest):
    """Cancel a recovery, and hold its incident until it is released.

    If a driver is running, the request waits until the driver has returned.
    """

    VERB = "cancel"
    NOUN = "recoveries"


class RetryRecovery(SendRequest):
    """Retry a failed recovery from the first step of its policy, or start a delayed one now."""

    VERB = "retry"
    NOUN = "recoveries"


class ListRequest(base.List):
    """List operator requests, newest first."""

    NOUN = "requests"
    COLUMNS = ("request_id", "created_at", "author", "verb", "incident_id", "state", "message")
    LONG = ("recovery_id", "comment", "options", "finished_at")
    FILTERS = (
        base.STATE,
        # NOTE: the shell takes --verb for an abbreviation of its own --verbose.
        (
            "--kind",
            {
                "dest": "verb",
                "metavar": "<verb>",
                "help": "filter by verb, for example recover or hold (repeatable)",
            },
        ),
        ("--author", {"help": "filter by author (repeatable)"}),
        base.INCIDENT_OPTION,
        (
            "--recovery",
            {
                "dest": "recovery_id",
                "metavar": "<id>",
                "help": "filter by recovery (repeatable)",
            },
        ),
    )


class ShowRequest(base.Show):
    """Show an operator request and its result."""

    NOUN = "requests"
