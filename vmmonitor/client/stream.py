# SPDX-License-Identifier: Apache-2.0
"""Formatters that print each row when it arrives; those of cliff wait for the last row."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TextIO

import yaml
from cliff.columns import FormattableColumn

#: Minimum widths of columns in a table.
_WIDTHS = {"event_id": 36, "occurred_at": 24, "host": 16, "instance_name": 20, "type": 20}
_WIDTH = 10


def _machine_readable(cell: Any) -> Any:
    return cell.machine_readable() if isinstance(cell, FormattableColumn) else cell


def _human_readable(cell: Any) -> str:
    return str(cell.human_readable() if isinstance(cell, FormattableColumn) else cell)


def table(names: Sequence[str], rows: Iterable[Sequence], out: TextIO) -> None:
    """Print a heading and one line per row, in columns."""
    widths = [_WIDTHS.get(name, _WIDTH) for name in names]

    def show(cells: Iterable[str]) -> None:
        lines = (cell.replace("\n", " ") for cell in cells)
        padded = (line.ljust(width) for line, width in zip(lines, widths, strict=True))
        print("  ".join(padded).rstrip(), file=out, flush=True)

    show(names)
    for row in rows:
        show(_human_readable(cell) for cell in row)


def value(names: Sequence[str], rows: Iterable[Sequence], out: TextIO) -> None:
    """Print the values of each row, separated by spaces."""
    for row in rows:
        print(" ".join(str(_machine_readable(cell)) for cell in row), file=out, flush=True)


def json_lines(names: Sequence[str], rows: Iterable[Sequence], out: TextIO) -> None:
    """Print each row as one JSON object on one line."""
    for row in rows:
        print(json.dumps(_object(names, row)), file=out, flush=True)


def yaml_items(names: Sequence[str], rows: Iterable[Sequence], out: TextIO) -> None:
    """Print each row as one item of a YAML list."""
    for row in rows:
        text = yaml.safe_dump([_object(names, row)], sort_keys=False, allow_unicode=True)
        print(text, end="", file=out, flush=True)


def comma_separated(names: Sequence[str], rows: Iterable[Sequence], out: TextIO) -> None:
    """Print a heading and each row as CSV."""
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(names)
    out.flush()
    for row in rows:
        writer.writerow([_machine_readable(cell) for cell in row])
        out.flush()


def _object(names: Sequence[str], row: Sequence) -> Mapping[str, Any]:
    return dict(zip(names, map(_machine_readable, row), strict=True))


#: Name of a format of cliff -> its formatter.
STREAM_FORMATS: Mapping[str, Callable[[Sequence[str], Iterable[Sequence], TextIO], None]] = {
    "table": table,
    "value": value,
    "json": json_lines,
    "yaml": yaml_items,
    "csv": comma_separated,
}
