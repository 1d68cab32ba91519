# SPDX-License-Identifier: Apache-2.0
"""``incident explain``: an incident in words."""

import argparse
import datetime
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from osc_lib.command import command

from vmmonitor.client import base, columns, narrative, prospect

#: Columns of a terminal, where it cannot be asked.
WIDTH = 100


class ExplainIncident(command.Command):
    """Explain an incident in words: how it stands, what comes next, what happened and why.

    What a program reads is in ``incident show -f json``.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument("ident", metavar="<id>")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Print the explanation."""
        incident = base.api(self).show("incidents", parsed_args.ident)
        width = shutil.get_terminal_size((WIDTH, 24)).columns
        now = datetime.datetime.now(datetime.UTC)
        for line in explained(incident, width, now):
            self.app.stdout.write(f"{line}\n")


def explained(incident: Mapping[str, Any], width: int, now: datetime.datetime) -> Iterator[str]:
    """Yield the lines of an incident's explanation.

    :param incident: as ``GET /v1/incidents/{id}`` answers.
    :param width: columns of the terminal.
    :param now: the clock by which "in 5 s" is told.
    """
    yield columns.printable(prospect.headline(incident))
    yield from narrative.facts(prospect.standing(incident, now), width)
    yield ""
    yield "WHAT HAPPENED"
    yield from _unseen(incident)
    yield from narrative.story(incident, width)
    if table := list(narrative.way(incident)):
        yield ""
        yield from table
    yield ""
    yield from narrative.facts(_more(incident), width)


def _unseen(incident: Mapping[str, Any]) -> Iterator[str]:
    missing = incident["event_count"] - len(incident["events"])
    if missing > 0:
        yield f"({missing} of its {incident['event_count']} events are left out, or deleted)"


def _more(incident: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "incident", incident["incident_id"]
    instance = incident["instance"]
    if instance["uuid"]:
        owner = instance["project_name"] or instance["project_id"]
        yield "instance", instance["uuid"] + (f", of project {owner}" if owner else "")
    for event in incident["events"]:
        if "evidence" in event["attributes"]:
            yield "evidence", f"vmmonitor event evidence {event['event_id']}"
    if incident["policy"]:
        yield "policy", incident["policy"]
