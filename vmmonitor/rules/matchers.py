# SPDX-License-Identifier: Apache-2.0
"""The one language in which filters and policies say which events they mean.

A match is a mapping from fields to tests, all of which must hold, or a list of such mappings,
one of which must. A test is a plain value, which means ``=``, or a mapping from operators to
operands, all of which must hold.

Values are compared by their natural text (``5`` is "5", ``true`` is "true"), numbers also by
their worth (5 is 5.0). What an event does not have, or what is a list or a mapping there, equals
nothing: ``=``, ``in`` and ``=~`` fail, ``!=``, ``not_in`` and ``!~`` hold. A regular expression
must match the whole text, of which the first MAX_TEXT characters are looked at; its dot stands
for line breaks too.
"""

import dataclasses
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from vmmonitor.model.instance import Instance

#: Characters of a text that a regular expression is shown.
MAX_TEXT = 4096
ATTRIBUTES = "attributes."
FIELDS = (
    "source",
    "type",
    "detail",
    "host",
    *(f"instance.{field.name}" for field in dataclasses.fields(Instance)),
)
OPERATORS = ("=", "!=", "in", "not_in", "=~", "!~")

_LITERAL = frozenset({"=", "in"})
_NEGATIVE = frozenset({"!=", "not_in", "!~"})


class Subject(Protocol):
    """What a match is held against: an event, or what looks like one."""

    @property
    def host(self) -> str:
        """Where it happened."""

    @property
    def instance(self) -> Instance:
        """To whom."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What else was told."""


class BadPattern(ValueError):
    """A regular expression that cannot be compiled; says where and why."""


class Matcher:
    """One field, one operator, one operand.

    :ivar wanted: what a literal operator compares with; None for a regular expression.
    """

    __slots__ = ("_pattern", "_read", "field", "operand", "operator", "wanted")

    def __init__(self, field: str, operator_: str, operand: Any):
        """Prepare the test.

        :param field: one of FIELDS, or ``attributes.`` and a name; dots reach into mappings.
        :param operator_: one of OPERATORS.
        :param operand: a list for ``in`` and ``not_in``, else a string, number or boolean.
        :raises BadPattern: the regular expression is none.
        """
        self.field = field
        self.operator = operator_
        self.operand = operand
        self.wanted: frozenset[Any] | None = None
        self._pattern: re.Pattern[str] | None = None
        self._read = reader(field)
        if operator_.endswith("~"):
            self._pattern = _compiled(text(operand) or "")
        else:
            operands = operand if isinstance(operand, list) else [operand]
            self.wanted = frozenset(key for one in operands for key in _keys(one))

    def holds(self, event: Subject) -> bool:
        """Return whether the event passes the test."""
        value = self._read(event)
        if self.wanted is None:
            equal = self._fits(value)
        elif type(value) is str:  # almost always, and this is the agent's hot path
            equal = value in self.wanted
        else:
            equal = not self.wanted.isdisjoint(_keys(value))
        return equal != (self.operator in _NEGATIVE)

    def _fits(self, value: Any) -> bool:
        seen = text(value)
        assert self._pattern is not None
        return seen is not None and self._pattern.fullmatch(seen[:MAX_TEXT]) is not None

    def why_not(self, event: Subject) -> str:
        """Return, for a person, the test that failed and the value that it saw."""
        value = self._read(event)
        seen = "there is none" if value is None else f"it is {_short(value)}"
        return f"{self} fails: {seen}"

    def implies(self, other: "Matcher") -> bool:
        """Return whether ``other`` surely holds wherever this one does; False if in doubt."""
        if self.field != other.field:
            return False
        if self.operator in _LITERAL and other.operator in _LITERAL:
            assert self.wanted is not None and other.wanted is not None
            return self.wanted <= other.wanted
        return self.operator == other.operator and self.operand == other.operand

    def __str__(self) -> str:
        """Return it as an operator would say it."""
        return f"{self.field} {self.operator} {_short(self.operand)}"


class Match:
    """Which events a rule means.

    :ivar alternatives: each a tuple of matchers that must all hold; one alternative must.
    """

    __slots__ = ("alternatives",)

    def __init__(self, alternatives: Iterable[Iterable[Matcher]]):
        """Keep the alternatives."""
        self.alternatives = tuple(tuple(matchers) for matchers in alternatives)

    def holds(self, event: Subject) -> bool:
        """Return whether the event is meant."""
        for matchers in self.alternatives:
            for matcher in matchers:
                if not matcher.holds(event):
                    break
            else:
                return True
        return False

    def why_not(self, event: Subject) -> str:
        """Return, for a person, what failed first in each alternative; empty if it holds."""
        failed = [
            next((one.why_not(event) for one in matchers if not one.holds(event)), "")
            for matchers in self.alternatives
        ]
        return "; ".join(failed) if all(failed) else ""

    def implies(self, other: "Match") -> bool:
        """Return whether ``other`` surely means every event that this means; False in doubt."""
        return all(
            any(_all_implied(mine, theirs) for theirs in other.alternatives)
            for mine in self.alternatives
        )

    def types(self) -> frozenset[str] | None:
        """Return the only event types that it can mean; None if they are not listed."""
        found: set[str] = set()
        for matchers in self.alternatives:
            listed = [m.wanted for m in matchers if m.field == "type" and m.operator in _LITERAL]
            if not listed:
                return None
            found.update(key for key in listed[0] or () if isinstance(key, str))
        return frozenset(found)


def _all_implied(mine: Iterable[Matcher], theirs: Iterable[Matcher]) -> bool:
    return all(any(one.implies(other) for one in mine) for other in theirs)


def text(value: Any) -> str | None:
    """Return a value's natural text; None if it has none (missing, a list, a mapping)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return None


def _keys(value: Any) -> tuple[Any, ...]:
    """Return everything by which a value may equal another."""
    natural = text(value)
    if natural is None:
        return ()
    if isinstance(value, str | bool):
        return (natural,)
    return (natural, value)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return (
            "[" + ", ".join(_short(one) for one in value[:10]) + ("]", ", ...]")[len(value) > 10]
        )
    if isinstance(value, Mapping):
        return "a mapping"
    return repr(value if not isinstance(value, str) else value[:100])


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.DOTALL)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadPattern(f"{pattern[:100]!r} is not a regular expression: {error}") from None


def reader(field: str) -> Callable[[Subject], Any]:
    """Return what reads a field of an event; it reads None where there is none.

    :param field: one of FIELDS, or ``attributes.`` and a name; dots reach into mappings.
    """
    if not field.startswith(ATTRIBUTES):
        return operator.attrgetter(field)
    names = field.removeprefix(ATTRIBUTES).split(".")

    def read(event: Subject) -> Any:
        value: Any = event.attributes
        for name in names:
            if not isinstance(value, Mapping):
                return None
            value = value.get(name)
        return value

    return read
