# SPDX-License-Identifier: Apache-2.0
"""Prints rows one by one as they come; cliff's formatters need the last one first."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TextIO

import yaml
from cliff.columns import FormattableColumn

#: Columns' least widths in a table.
_WIDTHS = {"event_id": 36, "occurred_at": 24, "host": 16, "instance_name": 20, "type": 20}
_WIDTH = 10


def _plain(cell: Any) -> Any:
    return cell.machine_readable() if isinstance(cell, FormattableColumn) else cell


def _for_person(cell: Any) -> str:
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
        show(_for_person(cell) for cell in row)


def value(names: Sequence[str], rows: Iterable[Sequence], out: TextIO) -> None:
    """Print the values of each row, with blanks between them."""
    for row in rows:
        print(" ".join(str(_plain(cell)) for cell in row), file=out, flush=True)


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
        writer.writerow([_plain(cell) for cell in row])
        out.flush()


def _object(names: Sequence[str], row: Sequence) -> Mapping[str, Any]:
    return dict(zip(names, map(_plain, row), strict=True))


#: Name of cliff's format -> what prints rows in it.
FORMATS: Mapping[str, Callable[[Sequence[str], Iterable[Sequence], TextIO], None]] = {
    "table": table,
    "value": value,
    "json": json_lines,
    "yaml": yaml_items,
    "csv": comma_separated,
}
