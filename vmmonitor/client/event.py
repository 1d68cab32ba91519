# SPDX-License-Identifier: Apache-2.0
"""``event list`` and ``event show``."""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from osc_lib import exceptions

from vmmonitor.client import base

#: Default number of stored events that ``--follow`` prints first.
TAIL = 10


class ListEvent(base.List):
    """List events, newest first, or follow them as they are stored."""

    NOUN = "events"
    COLUMNS = (
        "event_id",
        "occurred_at",
        "host",
        "instance_name",
        "type",
        "detail",
        "severity",
        "action",
    )
    LONG = (
        "instance_uuid",
        "hypervisor_name",
        "project_id",
        "source",
        "sequence",
        "rule",
        "incident_id",
        "attributes",
        "corrected_at",
        "spooled_at",
        "sent_at",
        "received_at",
        "stored_at",
    )
    FILTERS = (
        base.HOST_OPTION,
        base.INSTANCE_OPTION,
        ("--source", {"help": "filter by source (repeatable)"}),
        ("--type", {"help": "filter by type, such as lifecycle.stopped (repeatable)"}),
        ("--detail", {"help": "filter by detail, such as failed (repeatable)"}),
        base.SEVERITY_OPTION,
        (
            "--action",
            {"choices": ("record", "incident"), "help": "filter by filter outcome (repeatable)"},
        ),
        base.INCIDENT_OPTION,
        base.PROJECT,
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--follow",
            action="store_true",
            help=f"print the last events (--limit, default: {TAIL}) and then each new event as it "
            "is stored, until interrupted",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterator]:
        """Return the columns and the rows; the rows of ``--follow`` do not end."""
        if not parsed_args.follow:
            return super().take_action(parsed_args)
        if parsed_args.sort or parsed_args.sort_columns:
            raise exceptions.CommandError(
                "--follow cannot be combined with --sort or --sort-column"
            )
        from vmmonitor.client import follow

        tail = TAIL if parsed_args.limit is None else parsed_args.limit
        find, params = base.api(self).list, self.params(parsed_args)
        return self.rows(parsed_args, follow.events(find, params, tail, self.log.warning))

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Any
    ) -> int:
        """Print the list; with ``--follow``, print each row when it arrives."""
        if not parsed_args.follow:
            return super().produce_output(parsed_args, column_names, data)
        from vmmonitor.client import stream

        names, selector = self._generate_columns_and_selector(parsed_args, column_names)
        if selector:
            data = (tuple(self._compress_iterable(row, selector)) for row in data)
        try:
            stream.STREAM_FORMATS[parsed_args.formatter](names, data, self.app.stdout)
        except KeyboardInterrupt:
            self.app.stdout.flush()
        return 0


class ShowEvent(base.Show):
    """Show one event."""

    NOUN = "events"
