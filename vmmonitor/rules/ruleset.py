# SPDX-License-Identifier: Apache-2.0
"""An ordered list of named rows; the first row that matches an event decides."""

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
    """A named row of a rule file: a rule of a filter, or a policy.

    :param value: the decision of the row.
    :param rate: how often the match must hold before the row decides; None for the first time.
    """

    name: str
    match: Match
    value: T
    rate: Rate | None = None

    def decides(self, event: Event) -> bool:
        """Return whether the row decides about the event; count the event if it has a rate."""
        return self.match.holds(event) and (self.rate is None or self.rate.reached(event))

    def why_not(self, event: Event) -> str:
        """Return the reason why the row does not decide, or '' if it does; count nothing."""
        return self.match.why_not(event) or (self.rate.why_not(event) if self.rate else "")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """The result of one row for an event.

    :param reason: the test that failed, with the value of the event; '' for a match.
    """

    rule: str
    matched: bool
    reason: str = ""

    def __str__(self) -> str:
        """Return the result as one line of text."""
        return f"{self.rule}: {'matches' if self.matched else 'no, ' + self.reason}"


class RuleSet(Generic[T]):
    """The rows of one file."""

    def __init__(self, rows: Sequence[Row[T]]):
        """Index the rows by the event types that they can match."""
        self.rows = tuple(rows)
        self._types = [row.match.types() for row in self.rows]
        self._listed = {name for names in self._types for name in names or ()}
        self._rest = self._rows_for(None)
        self._by_type: dict[str, tuple[Row[T], ...]] = {}

    def first(self, event: Event) -> T | None:
        """Return the decision of the first row that matches the event, or None."""
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
        """Return the rows that can match a type of event; None for any type not listed."""
        pairs = zip(self.rows, self._types, strict=True)
        return tuple(row for row, types in pairs if types is None or kind in types)

    def explain(self, event: Event) -> list[Trial]:
        """Return the result of each row, in order, up to the first match."""
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
) -> RuleSet[T]:
    """Return the rows of a document that its schema accepts.

    :param section: key of the list of rows.
    :param make: converts a row of the file to the row's decision.
    :param reserved: names that no row may have.
    :raises vmmonitor.model.errors.InvalidRules: a name is duplicate or reserved, or a regular
        expression is invalid.
    """
    problems: list[Problem] = []
    rows: list[Row[T]] = []
    lines: dict[str, int] = {}
    for number, row in enumerate(document.value[section]):
        name, place = row["name"], (section, number, "name")
        label = f"{section}[{number}].name"
        if name in reserved:
            problems.append(document.problem(place, f"{label}: {name!r} is a reserved name"))
        elif name in lines:
            reason = f"{label}: duplicate name {name!r}, first used on line {lines[name]}"
            problems.append(document.problem(place, reason))
        lines.setdefault(name, document.problem(place, "").line)
        match = read_match(document, (section, number, "match"), row["match"], problems)
        rate = Rate(**row["rate"]) if "rate" in row else None
        rows.append(Row(name=name, match=match, value=make(row), rate=rate))
    if problems:
        raise invalid(document.path, problems)
    return RuleSet(rows)


def read_match(
    document: Document, path: tuple[str | int, ...], match: Any, problems: list[Problem]
) -> Match:
    """Return a match that the schema accepts.

    :param path: path of the match in the document.
    :param problems: list; further problems are appended.
    """
    if isinstance(match, dict):
        return Match([_read_matchers(document, path, match, problems)])
    return Match(
        _read_matchers(document, (*path, number), tests, problems)
        for number, tests in enumerate(match)
    )


def _read_matchers(
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
            except matchers.InvalidPattern as error:
                problems.append(document.problem((*path, field, operator), str(error)))
    return made
