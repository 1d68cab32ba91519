# SPDX-License-Identifier: Apache-2.0
"""Directives for what the code already says, so that no page can say otherwise.

``.. state-table:: INCIDENT``: the moves of a table in ``vmmonitor.model.states``.
``.. import-table::``: who may import whom, as ``vmmonitor.tests.unit.test_imports`` holds it.
``.. bench-table::``: what ``tools/bench --json >doc/source/admin/bench.json`` said last.
"""

import ast
import inspect
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

from vmmonitor.model import states
from vmmonitor.tests.unit import test_imports

BENCH = pathlib.Path(__file__).parents[1] / "admin" / "bench.json"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> nodes.table:
    """Return a plain table.

    :param head: the columns' titles.
    :param rows: the cells' texts.
    """
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    body = nodes.tbody("", *[_row(cells) for cells in rows])
    group += [nodes.thead("", _row(head)), body]
    return nodes.table("", group)


def _row(cells: Sequence[str]) -> nodes.row:
    return nodes.row("", *[nodes.entry("", nodes.paragraph(text=cell)) for cell in cells])


def moves(name: str) -> list[tuple[str, str, str, str]]:
    """Return (state, move, next state, when) of a state table, in the code's order.

    :param name: ``INCIDENT``, ``RECOVERY`` or ``REQUEST``.
    """
    lines = inspect.getsource(states).splitlines()
    said: dict[str, str] = {}
    found = []
    for state, row in _literal(name):
        for key, value in zip(row.keys, row.values, strict=True):
            move = str(ast.literal_eval(key))
            if comment := re.search(r"#\s*(.*)$", lines[value.lineno - 1]):
                said[move] = comment[1]
            following = str(getattr(states, value.id))
            found.append((state, move, following, said.get(move, "")))
    return found


def _literal(name: str) -> Iterable[tuple[str, Any]]:
    for node in ast.parse(inspect.getsource(states)).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                yield str(getattr(states, key.id)), value


class StateTable(Directive):
    """The moves of one state table."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return [table(("State", "What happens", "Next state", "When"), moves(self.arguments[0]))]


class ImportTable(Directive):
    """Who may import whom."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = []
        for room, others in test_imports.MAY_IMPORT.items():
            everything = room in ("cmd", "wsgi")
            rows.append((room, "everything" if everything else ", ".join(sorted(others)) or "-"))
        return [table(("Room", "may import"), rows)]


class BenchTable(Directive):
    """The figures of one run of the bench."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        self.state.document.settings.env.note_dependency(str(BENCH))
        rows = [
            (part, name, _figure(value))
            for part, figures in json.loads(BENCH.read_text()).items()
            for name, value in figures.items()
        ]
        return [table(("Part", "Figure", "Measured"), rows)]


def _figure(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_inner(one)}" for name, one in value.items())
    return str(value)


def _inner(value: Any) -> str:
    return f"({_figure(value)})" if isinstance(value, dict) else str(value)


def setup(app: Any) -> dict[str, bool]:
    """Make the directives known to Sphinx."""
    app.add_directive("state-table", StateTable)
    app.add_directive("import-table", ImportTable)
    app.add_directive("bench-table", BenchTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
