# SPDX-License-Identifier: Apache-2.0
"""``incident explain``: an incident in sentences."""

import argparse
import datetime
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from osc_lib.command import command

from vmmonitor import text
from vmmonitor.client import base, next_steps, timeline


class ExplainIncident(command.Command):
    """Explain an incident: its state, the next steps, its history and the reasons.

    For programs, use "incident show -f json".
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument("ident", metavar="<id>", help="id of the incident")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Print the explanation."""
        incident = base.api(self).show("incidents", parsed_args.ident)
        width = shutil.get_terminal_size((base.TERMINAL_WIDTH, 24)).columns
        now = datetime.datetime.now(datetime.UTC)
        for line in explain(incident, width, now):
            self.app.stdout.write(f"{line}\n")


def explain(incident: Mapping[str, Any], width: int, now: datetime.datetime) -> Iterator[str]:
    """Yield the lines of an incident's explanation.

    :param incident: the incident in a response of ``GET /v1/incidents/{id}``.
    :param width: columns of the terminal.
    :param now: the client's clock, for relative times such as "in 5 s".
    """
    yield text.printable(next_steps.headline(incident))
    yield from timeline.format_facts(next_steps.summarize(incident, now), width)
    yield ""
    yield "WHAT HAPPENED"
    yield from _mention_omitted_events(incident)
    yield from timeline.format_history(incident, width)
    if table := list(timeline.format_stages(incident)):
        yield ""
        yield from table
    yield ""
    yield from timeline.format_facts(_list_references(incident), width)


def _mention_omitted_events(incident: Mapping[str, Any]) -> Iterator[str]:
    missing = incident["event_count"] - len(incident["events"])
    if missing > 0:
        yield f"({missing} of its {incident['event_count']} events are omitted or deleted)"


def _list_references(incident: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the arguments of further commands."""
    yield "incident", incident["incident_id"]
    instance = incident["instance"]
    if instance["uuid"]:
        owner = instance["project_name"] or instance["project_id"]
        yield "instance", instance["uuid"] + (f", project {owner}" if owner else "")
    for event in incident["events"]:
        if "evidence" in event["attributes"]:
            yield "evidence", f"vmmonitor event evidence {event['event_id']}"
    if incident["policy"]:
        yield "policy", incident["policy"]
