# SPDX-License-Identifier: Apache-2.0
"""Sphinx directives that generate tables and figures from the code.

``.. state-table:: INCIDENT``: the transitions of a table in ``vmmonitor.model.states``.
``.. state-chart:: INCIDENT``: the same table as a figure.
``.. data-path::``: the figure of the path of an event.
``.. code-map::``: each package and module with the first sentence of its docstring.
``.. reading-path::``: the modules in the content, in this order, with the same sentence.
``.. import-table::``: the permitted imports, from ``vmmonitor.tests.unit.test_imports``.
``.. verdict-table::``: the verdicts by the state in nova, from ``vmmonitor.openstack``.
``.. bench-table::``: the figures of ``tools/bench --json >doc/source/admin/bench.json``.
"""

import ast
import inspect
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import figures
from docutils import nodes
from docutils.parsers.rst import Directive

import vmmonitor
from vmmonitor.model import states
from vmmonitor.openstack.server_states import SITUATIONS
from vmmonitor.tests.unit import test_imports

PACKAGE = pathlib.Path(vmmonitor.__file__).parent
#: Parts of the package that the code map leaves out: generated code and tests.
NOT_MAPPED = ("tests", "migrations/versions")
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


def transitions(name: str) -> list[tuple[str, str, str, str]]:
    """Return (state, transition, next state, cause) of a state table, in the code's order.

    :param name: ``INCIDENT``, ``RECOVERY`` or ``REQUEST``.
    """
    causes = _comments(f"{name.capitalize()}Transition")
    return [
        (str(state), str(transition), str(following), causes.get(transition.name, ""))
        for state, row in state_table(name).items()
        for transition, following in row.items()
    ]


def state_table(name: str) -> Mapping[Any, Mapping[Any, Any]]:
    """Return a table of ``vmmonitor.model.states``.

    :param name: ``INCIDENT``, ``RECOVERY`` or ``REQUEST``.
    """
    return getattr(states, f"{name}_TRANSITIONS")


def _comments(enumeration: str) -> dict[str, str]:
    """Return member -> the comment above it, in the source of an enumeration."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in inspect.getsource(getattr(states, enumeration)).splitlines():
        text = line.strip()
        if text.startswith("#: "):
            comment.append(text.removeprefix("#: "))
        elif member := re.match(r"([A-Z_]+) = ", text):
            found[member[1]] = " ".join(comment)
            comment = []
    return found


class StateTable(Directive):
    """The transitions of one state table."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        head = ("State", "Transition", "Next state", "Cause")
        return [table(head, transitions(self.arguments[0]))]


class ImportTable(Directive):
    """The permitted imports: of the packages, or of a table of ``test_imports`` by name."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = []
        name = self.arguments[0] if self.arguments else "MAY_IMPORT"
        for room, others in getattr(test_imports, name).items():
            everything = room in ("cmd", "wsgi")
            rows.append((room, "everything" if everything else ", ".join(sorted(others)) or "-"))
        return [table(("Room", "may import"), rows)]


class Figure(Directive):
    """An SVG figure, drawn from the code."""

    def draw(self) -> str:
        """Return the figure as SVG."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Return the figure; other builders than HTML leave it out."""
        return [
            nodes.raw(
                "", f'<div class="drawing" style="width: 100%">{self.draw()}</div>', format="html"
            )
        ]


class StateChart(Figure):
    """The chart of one state table."""

    required_arguments = 1

    def draw(self) -> str:
        """Return the figure as SVG."""
        [name] = self.arguments
        return figures.state_chart(name, state_table(name))


class DataPath(Figure):
    """The path of an event."""

    def draw(self) -> str:
        """Return the figure as SVG."""
        return figures.data_path()


def mapped_modules() -> dict[str, list[tuple[str, str]]]:
    """Return directory of the package -> (file, first sentence of its docstring) of its modules.

    Paths are relative to the checkout. The first module of a directory is its ``__init__.py``.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(PACKAGE.rglob("*.py"), key=lambda path: (path.parent, path.name)):
        inner = path.relative_to(PACKAGE).as_posix()
        if any(f"/{inner}".find(f"/{part}/") >= 0 for part in NOT_MAPPED):
            continue
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        directory = path.parent.relative_to(PACKAGE.parent).as_posix()
        name = path.relative_to(PACKAGE.parent).as_posix()
        found.setdefault(directory, []).append((name, first_sentence(docstring)))
    return found


def first_sentence(docstring: str) -> str:
    """Return the first sentence of a docstring, in one line."""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.:])\s", paragraph)[0].rstrip(".:")


class CodeMap(Directive):
    """Each package and module of vmmonitor, with its description."""

    def run(self) -> list[nodes.Node]:
        """Return a section per directory."""
        made: list[nodes.Node] = []
        for directory, modules in mapped_modules().items():
            section = nodes.section(ids=[nodes.make_id(directory)])
            section += nodes.title("", directory)
            rows = []
            for name, sentence in modules:
                if name.endswith("/__init__.py"):
                    section += nodes.paragraph(text=f"{sentence}." if sentence else "")
                else:
                    rows.append((name.rpartition("/")[2], sentence))
            if rows:
                section += table(("Module", "Description"), rows)
            made.append(section)
        return made


class ReadingPath(Directive):
    """Modules in an order that is good to read them in."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return a numbered list.

        :raises FileNotFoundError: a module does not exist.
        """
        items = []
        for name in filter(None, map(str.strip, self.content)):
            docstring = ast.get_docstring(ast.parse((PACKAGE.parent / name).read_text())) or ""
            paragraph = nodes.paragraph()
            paragraph += nodes.literal(text=name)
            paragraph += nodes.Text(f": {first_sentence(docstring)}.")
            items.append(nodes.list_item("", paragraph))
        return [nodes.enumerated_list("", *items)]


class VerdictTable(Directive):
    """The verdicts on a guest that ended, by the state of its server in nova."""

    head = ("State in nova", "Requested stop", "Failure", "No reason", "Outcome")

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return [table(self.head, verdicts())]


def verdicts() -> list[tuple[str, str, str, str, str]]:
    """Return the rows of the table of verdicts, in the code's order.

    A row has the state in nova, the verdicts on a requested stop, on a failure and without a
    reason, and the outcome.
    """
    return [
        (str(name), str(one.requested), str(one.failure), str(one.no_reason), one.outcome)
        for name, one in SITUATIONS.items()
    ]


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
    app.add_directive("verdict-table", VerdictTable)
    app.add_directive("state-chart", StateChart)
    app.add_directive("data-path", DataPath)
    app.add_directive("code-map", CodeMap)
    app.add_directive("reading-path", ReadingPath)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
