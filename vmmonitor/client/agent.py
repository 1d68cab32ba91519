# SPDX-License-Identifier: Apache-2.0
"""``agent list`` and ``agent show``."""

import argparse
import datetime
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from vmmonitor.client import base, columns

#: Columns of a terminal, where it cannot be asked.
WIDTH = 100
#: Least width of a reason.
REASON = 16


class ListAgent(base.List):
    """List agents: which hosts are watched, and which are not."""

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
    FILTERS = (("--state", {"help": "only in this state; may be repeated"}), base.HOST)
    TIMES = False

    def rows(
        self, parsed_args: argparse.Namespace, found: Iterable[Mapping[str, Any]]
    ) -> tuple[Sequence[str], Iterator]:
        """Return the columns and the rows; briefly, if a person asked for nothing particular."""
        special = parsed_args.long or parsed_args.columns or parsed_args.sort_columns
        if parsed_args.formatter != "table" or special:
            return super().rows(parsed_args, found)
        return brief(list(found), shutil.get_terminal_size((WIDTH, 24)).columns)


def brief(
    found: Sequence[Mapping[str, Any]], width: int, now: datetime.datetime | None = None
) -> tuple[Sequence[str], Iterator]:
    """Return headings and rows of a table that is not wider than a terminal, if that can be.

    :param found: agents, as the API tells them.
    :param width: columns of the terminal.
    :param now: what decides which times are of today; the local clock if None.
    """
    today = (now or datetime.datetime.now(datetime.UTC)).date().isoformat()

    def time(value: str | None) -> str:
        if not value:
            return ""
        return value[11:19] if value.startswith(today) else value[:10]

    cells: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "host": lambda agent: columns.printable(agent["host"]),
        "state": lambda agent: agent["state"],
        "reason": lambda agent: columns.printable(agent["reason"]),
        "version": lambda agent: columns.printable(agent["version"]),
        "instances": lambda agent: str(agent["instances"]),
        "spool": lambda agent: str(agent["spool_depth"]),
        "last event": lambda agent: time(agent["last_event_at"]),
        "clock": lambda agent: _offset(agent["clock_offset_ms"]),
        "seen": lambda agent: time(agent["seen_at"]),
    }
    table = [{name: cell(agent) for name, cell in cells.items()} for agent in found]
    others = [name for name in cells if name != "reason"]
    taken = sum(max(len(name), *(len(row[name]) for row in table), 0) + 3 for name in others)
    room = max(REASON, width - taken - 4)
    for row in table:
        row["reason"] = "\n".join(textwrap.wrap(row["reason"], room))
    return tuple(cells), (tuple(row.values()) for row in table)


def _offset(milliseconds: float) -> str:
    for unit, size in (("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if abs(milliseconds) >= size:
            return f"{milliseconds / size:+,.1f} {unit}"
    return f"{milliseconds:+.0f} ms"


class ShowAgent(base.Show):
    """Show one agent."""

    NOUN = "agents"
    ARGUMENT = "host"
