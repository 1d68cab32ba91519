# SPDX-License-Identifier: Apache-2.0
"""``incident list`` and ``incident show``."""

import argparse
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmmonitor.client import base, columns

#: Columns of a terminal, where it cannot be asked.
WIDTH = 100
#: Kind of an incident -> when it began.
BEGAN = {
    "instance": "the callback on the host",
    "host": "the host was last watched",
    "storm": "it was one too many",
}
#: What ``incident show`` has besides the facts.
DETAILS = ("timeline", "recoveries", "events")
#: Members of a storm that ``incident show`` names; ``incident list --part-of`` has all.
MEMBERS = 50


class ListIncident(base.List):
    """List incidents, newest first, without those that turned out to be planned."""

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
        ("--state", {"help": "only in this state; may be repeated"}),
        (
            "--kind",
            {
                "choices": ("instance", "host", "storm"),
                "help": "only about instances, about hosts that are not watched, or about storms "
                "of failures; may be repeated",
            },
        ),
        base.INSTANCE,
        base.HOST,
        ("--cause", {"help": "only with this cause (lifecycle.stopped/failed); may be repeated"}),
        base.SEVERITY,
        base.PROJECT,
        ("--policy", {"help": "only under this recovery policy; may be repeated"}),
        ("--held-by", {"help": "only held or silenced by this (storm); may be repeated"}),
        ("--part-of", {"help": "only the members of the storm with this id; may be repeated"}),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        over = parser.add_mutually_exclusive_group()
        over.add_argument(
            "--open", action="store_const", const="true", help="only those that are not over"
        )
        over.add_argument(
            "--closed",
            action="store_const",
            const="false",
            dest="open",
            help="only those that are over",
        )
        parser.add_argument(
            "--all", action="store_true", help="also those that turned out to be planned (ignored)"
        )
        return parser

    def params(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Return the query string that the command line asks for."""
        ignored = None if parsed_args.all or parsed_args.state else "false"
        return super().params(parsed_args) | {"open": parsed_args.open, "ignored": ignored}


class ShowIncident(base.Show):
    """Show one incident with its time line."""

    NOUN = "incidents"

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence]:
        """Return the columns and the one row; for a person without what the time line tells."""
        if parsed_args.formatter in base.PROGRAMS:
            return super().take_action(parsed_args)
        incident = base.api(self).show(self.NOUN, parsed_args.ident)
        self._timeline, self._began = incident["timeline"], BEGAN.get(incident["kind"], "")
        self._members = []
        if incident["kind"] == "storm":
            found = base.api(self).list(self.NOUN, {"part_of": parsed_args.ident}, MEMBERS)
            self._members = list(found)
        names = tuple(name for name in columns.flat(incident) if name not in DETAILS)
        return names, columns.cells(names, incident)

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Any
    ) -> int:
        """Print the facts, and for a person the time line below."""
        code = super().produce_output(parsed_args, column_names, data)
        if parsed_args.formatter == "table" and not parsed_args.columns:
            width = shutil.get_terminal_size((WIDTH, 24)).columns
            for line in drawn(self._timeline, width, self._began):
                self.app.stdout.write(f"{line}\n")
            for line in listed(self._members, width):
                self.app.stdout.write(f"{line}\n")
        return code


def drawn(
    timeline: Sequence[Mapping[str, Any]], width: int, began: str = BEGAN["instance"]
) -> Iterator[str]:
    """Yield the lines of a time line, none longer than ``width``.

    :param timeline: as the API tells it.
    :param width: columns of the terminal; less than 60 is not served.
    :param began: when the incident began, in words.
    """
    size = max([len("ms"), *(len(f"{line['ms']:,.1f}") for line in timeline)])
    indent = " " * (size + 12)
    yield f"{'ms':>{size}}  {'':8}  since {began or 'its beginning'}"
    for line in timeline:
        head = f"{line['ms']:>{size},.1f}  {line['kind']:8}  "
        yield from textwrap.wrap(
            columns.printable(line["message"]),
            max(width, 60) - 1,
            initial_indent=head,
            subsequent_indent=indent,
        ) or [head.rstrip()]


def listed(members: Sequence[Mapping[str, Any]], width: int) -> Iterator[str]:
    """Yield a heading and a line for each member of a storm, none longer than ``width``.

    :param members: as the API tells them; empty of an incident that is no storm.
    :param width: columns of the terminal.
    """
    if members:
        yield f"members, the newest {len(members)}:" if len(members) > 1 else "member:"
    for one in members:
        name = one["instance"]["name"] or one["instance"]["uuid"]
        words = f"{one['incident_id']}  {one['state']:10}  {one['host']}  {name}  {one['cause']}"
        yield columns.printable(words)[:width]
