# SPDX-License-Identifier: Apache-2.0
"""``agent list`` and ``agent show``."""

import argparse
import datetime
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from vmmonitor import text
from vmmonitor.client import base

#: Minimum width of a reason.
REASON = 16


class ListAgent(base.List):
    """List agents, which show whether each host is monitored."""

    NOUN = "agents"
    COLUMNS = (
        "host",
        "state",
        "reason",
        "version",
        "instances",
        "spool_depth",
        "last_event_at",
        "clock_offset_ms",
        "seen_at",
    )
    LONG = (
        "spool_refused",
        "interval",
        "started_at",
        "sent_at",
        "unwatched_since",
        "clock_correction_ms",
        "filter_checksum",
        "inventory_digest",
        "figures",
    )
    FILTERS = (base.STATE, base.HOST_OPTION)
    TIMES = False

    def rows(
        self, parsed_args: argparse.Namespace, found: Iterable[Mapping[str, Any]]
    ) -> tuple[Sequence[str], Iterator]:
        """Return the columns and the rows; a table without column options is shortened."""
        special = parsed_args.long or parsed_args.columns or parsed_args.sort_columns
        if parsed_args.formatter != "table" or special:
            return super().rows(parsed_args, found)
        width = shutil.get_terminal_size((base.TERMINAL_WIDTH, 24)).columns
        return shorten(list(found), width)


def shorten(
    found: Sequence[Mapping[str, Any]], width: int, now: datetime.datetime | None = None
) -> tuple[Sequence[str], Iterator]:
    """Return the headings and rows of a table that fits into a terminal if possible.

    :param found: agents in a response of the API.
    :param width: columns of the terminal.
    :param now: the current time; None for the local clock. Times of the same day are shown without
        their date.
    """
    today = (now or datetime.datetime.now(datetime.UTC)).date().isoformat()

    def time(value: str | None) -> str:
        if not value:
            return ""
        return value[11:19] if value.startswith(today) else value[:10]

    cells: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "host": lambda agent: text.printable_lines(agent["host"]),
        "state": lambda agent: agent["state"],
        "reason": lambda agent: text.printable_lines(agent["reason"]),
        "version": lambda agent: text.printable_lines(agent["version"]),
        "instances": lambda agent: str(agent["instances"]),
        "spool": lambda agent: str(agent["spool_depth"]),
        "last event": lambda agent: time(agent["last_event_at"]),
        "clock": lambda agent: _format_offset(agent["clock_offset_ms"]),
        "seen": lambda agent: time(agent["seen_at"]),
    }
    table = [{name: cell(agent) for name, cell in cells.items()} for agent in found]
    others = [name for name in cells if name != "reason"]
    taken = sum(max(len(name), *(len(row[name]) for row in table), 0) + 3 for name in others)
    room = max(REASON, width - taken - 4)
    for row in table:
        row["reason"] = "\n".join(textwrap.wrap(row["reason"], room))
    return tuple(cells), (tuple(row.values()) for row in table)


def _format_offset(milliseconds: float) -> str:
    for unit, size in (("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if abs(milliseconds) >= size:
            return f"{milliseconds / size:+,.1f} {unit}"
    return f"{milliseconds:+.0f} ms"


class ShowAgent(base.Show):
    """Show one agent."""

    NOUN = "agents"
    ARGUMENT = "host"
