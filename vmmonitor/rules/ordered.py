# SPDX-License-Identifier: Apache-2.0
"""An ordered list of named rows, of which the first that matches an event decides."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from vmmonitor.model.event import Event
from vmmonitor.rules import matchers
from vmmonitor.rules.document import Document, Problem, invalid
from vmmonitor.rules.matchers import Match, Matcher
from vmmonitor.rules.rate import Rate

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row(Generic[T]):
    """A named row.

    :param value: what it decides.
    :param rate: how often its match must hold before it decides; None: at once.
    """

    name: str
    match: Match
    value: T
    rate: Rate | None = None

    def decides(self, event: Event) -> bool:
        """Return whether it decides on the event, which is counted where that matters."""
        return self.match.holds(event) and (self.rate is None or self.rate.reached(event))

    def why_not(self, event: Event) -> str:
        """Return, for a person, why it does not decide; empty if it does. Counts nothing."""
        return self.match.why_not(event) or (self.rate.why_not(event) if self.rate else "")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """How one row did on an event.

    :param reason: which test failed, with the value that it saw; empty if it matched.
    """

    rule: str
    matched: bool
    reason: str = ""

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"{self.rule}: {'matches' if self.matched else 'no, ' + self.reason}"


class Rows(Generic[T]):
    """The rows of one file."""

    def __init__(self, rows: Sequence[Row[T]]):
        """Find out which event types each row can mean, to be quick afterwards."""
        self.rows = tuple(rows)
        self._types = [row.match.types() for row in self.rows]
        self._listed = {name for names in self._types for name in names or ()}
        self._rest = self._rows_for(None)
        self._by_type: dict[str, tuple[Row[T], ...]] = {}

    def first(self, event: Event) -> T | None:
        """Return what the first matching row decides; None if none matches."""
        rows = self._by_type.get(event.type)
        if rows is None:
            rows = self._rest
            if event.type in self._listed:
                rows = self._by_type[event.type] = self._rows_for(event.type)
        for row in rows:
            if row.decides(event):
                return row.value
        return None

    def _rows_for(self, kind: str | None) -> tuple[Row[T], ...]:
        """Return the rows that can mean events of a type, None for one that no row lists."""
        pairs = zip(self.rows, self._types, strict=True)
        return tuple(row for row, types in pairs if types is None or kind in types)

    def explain(self, event: Event) -> list[Trial]:
        """Return how every row did that was tried, in order; the last one may have matched."""
        trials: list[Trial] = []
        for row in self.rows:
            reason = row.why_not(event)
            trials.append(Trial(rule=row.name, matched=not reason, reason=reason))
            if not reason:
                break
        return trials


def build(
    document: Document,
    section: str,
    make: Callable[[Mapping[str, Any]], T],
    reserved: Sequence[str] = (),
) -> Rows[T]:
    """Return the rows of a document that its schema allows.

    :param section: key of the list of rows.
    :param make: turns a row of the file into what the row decides.
    :param reserved: names that no row may have.
    :raises vmmonitor.model.errors.InvalidRules: a name is there twice or reserved, or a regular
        expression is broken.
    """
    problems: list[Problem] = []
    rows: list[Row[T]] = []
    lines: dict[str, int] = {}
    for number, row in enumerate(document.value[section]):
        name, path = row["name"], (section, number, "name")
        problem = document.problem(path, f"{name!r} names another row too")
        if name in reserved:
            problems.append(document.problem(path, f"the name {name!r} is taken; choose another"))
        elif name in lines:
            reason = f"the name {name!r} is there twice, first on line {lines[name]}"
            problems.append(document.problem(path, reason))
        lines.setdefault(name, problem.line)
        match = read_match(document, (section, number, "match"), row["match"], problems)
        rate = Rate(**row["rate"]) if "rate" in row else None
        rows.append(Row(name=name, match=match, value=make(row), rate=rate))
    if problems:
        raise invalid(document.path, problems)
    return Rows(rows)


def read_match(
    document: Document, path: tuple[str | int, ...], match: Any, problems: list[Problem]
) -> Match:
    """Return a match that its schema allows.

    :param path: leads to it.
    :param problems: takes what is wrong all the same.
    """
    if isinstance(match, dict):
        return Match([_matchers(document, path, match, problems)])
    return Match(
        _matchers(document, (*path, number), tests, problems) for number, tests in enumerate(match)
    )


def _matchers(
    document: Document,
    path: tuple[str | int, ...],
    tests: Mapping[str, Any],
    problems: list[Problem],
) -> list[Matcher]:
    made = []
    for field, test in tests.items():
        for operator, operand in (test if isinstance(test, dict) else {"=": test}).items():
            try:
                made.append(Matcher(field, operator, operand))
            except matchers.BadPattern as error:
                problems.append(document.problem((*path, field, operator), str(error)))
    return made
