# SPDX-License-Identifier: Apache-2.0
"""``incident list`` and ``incident show``."""

import argparse
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmmonitor import text
from vmmonitor.client import base, columns

#: Kind of an incident -> beginning of its timeline.
BEGAN = {
    "instance": "the report of libvirt",
    "host": "the host was last monitored",
    "storm": "the storm began",
}
#: Fields that ``incident show`` omits in a table.
DETAILS = ("timeline", "recoveries", "events")
#: Maximum number of members of a storm to list; ``incident list --part-of`` lists all.
MEMBERS = 50


class ListIncident(base.List):
    """List incidents, newest first, without ignored ones (planned operations)."""

    NOUN = "incidents"
    COLUMNS = (
        "incident_id",
        "opened_at",
        "host",
        "instance_name",
        "cause",
        "severity",
        "state",
        "reason",
    )
    LONG = (
        "kind",
        "instance_uuid",
        "hypervisor_name",
        "project_id",
        "policy",
        "event_count",
        "hold_until",
        "running_at",
        "updated_at",
        "closed_at",
        "priority",
        "held_by",
        "part_of",
        "shared_cause",
        "override",
    )
    FILTERS = (
        base.STATE,
        (
            "--kind",
            {
                "choices": ("instance", "host", "storm"),
                "help": "filter by kind: failed instances, hosts without monitoring, or storms "
                "(repeatable)",
            },
        ),
        base.INSTANCE_OPTION,
        base.HOST_OPTION,
        ("--cause", {"help": "filter by cause, such as lifecycle.stopped/failed (repeatable)"}),
        base.SEVERITY_OPTION,
        base.PROJECT,
        ("--policy", {"help": "filter by recovery policy (repeatable)"}),
        ("--held-by", {"help": "filter by hold reason, for example storm (repeatable)"}),
        ("--part-of", {"help": "show only the members of the storm with this id (repeatable)"}),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        status = parser.add_mutually_exclusive_group()
        status.add_argument(
            "--open", action="store_const", const="true", help="show only open incidents"
        )
        status.add_argument(
            "--closed",
            action="store_const",
            const="false",
            dest="open",
            help="show only closed incidents",
        )
        parser.add_argument(
            "--all", action="store_true", help="show ignored incidents (planned operations) too"
        )
        return parser

    def params(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Return the query string of the command line."""
        ignored = None if parsed_args.all or parsed_args.state else "false"
        return super().params(parsed_args) | {"open": parsed_args.open, "ignored": ignored}


class ShowIncident(base.Show):
    """Show one incident with its timeline."""

    NOUN = "incidents"

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence]:
        """Return the columns and the one row; a table omits the fields of the timeline."""
        if parsed_args.formatter in base.PROGRAMS:
            return super().take_action(parsed_args)
        incident = base.api(self).show(self.NOUN, parsed_args.ident)
        self._timeline, self._began = incident["timeline"], BEGAN.get(incident["kind"], "")
        self._members = []
        if incident["kind"] == "storm":
            found = base.api(self).list(self.NOUN, {"part_of": parsed_args.ident}, MEMBERS)
            self._members = list(found)
        names = tuple(name for name in columns.flatten(incident) if name not in DETAILS)
        return names, columns.cells(names, incident)

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Any
    ) -> int:
        """Print the fields, and in a table the timeline and the members below."""
        code = super().produce_output(parsed_args, column_names, data)
        if parsed_args.formatter == "table" and not parsed_args.columns:
            width = shutil.get_terminal_size((base.TERMINAL_WIDTH, 24)).columns
            for line in format_timeline(self._timeline, width, self._began):
                self.app.stdout.write(f"{line}\n")
            for line in format_members(self._members, width):
                self.app.stdout.write(f"{line}\n")
        return code


def format_timeline(
    timeline: Sequence[Mapping[str, Any]], width: int, began: str = BEGAN["instance"]
) -> Iterator[str]:
    """Yield the lines of a timeline, none longer than ``width``.

    :param timeline: the timeline in a response of the API.
    :param width: columns of the terminal; 60 or more.
    :param began: description of the beginning of the incident.
    """
    size = max([len("ms"), *(len(f"{entry['ms']:,.1f}") for entry in timeline)])
    indent = " " * (size + 12)
    yield f"{'ms':>{size}}  {'':8}  since {began or 'its beginning'}"
    for entry in timeline:
        head = f"{entry['ms']:>{size},.1f}  {entry['kind']:8}  "
        yield from textwrap.wrap(
            text.printable_lines(entry["message"]),
            max(width, 60) - 1,
            initial_indent=head,
            subsequent_indent=indent,
        ) or [head.rstrip()]


def format_members(members: Sequence[Mapping[str, Any]], width: int) -> Iterator[str]:
    """Yield a heading and a line for each member of a storm, none longer than ``width``.

    :param members: incidents in a response of the API; empty if the incident is not a storm.
    :param width: columns of the terminal.
    """
    if members:
        yield f"members, the newest {len(members)}:" if len(members) > 1 else "member:"
    for member in members:
        name = member["instance"]["name"] or member["instance"]["uuid"]
        fields = (f"{member['state']:10}", member["host"], name, member["cause"])
        yield text.printable("  ".join((member["incident_id"], *fields)))[:width]
