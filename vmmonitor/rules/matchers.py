# SPDX-License-Identifier: Apache-2.0
"""The language that filters, policies and silences use to match events and incidents.

A match is a mapping from fields to tests that must all hold, or a list of such mappings: then one
of them must hold. A test is a plain value, which stands for the operator ``=``, or a mapping from
operators to operands that must all hold.

Values are compared as text (``5`` is "5", ``true`` is "true"); numbers are also compared as
numbers (5 equals 5.0). A missing field, a list and a mapping equal no value: ``=``, ``in`` and
``=~`` fail, and ``!=``, ``not_in`` and ``!~`` hold. A regular expression must match the whole
text, cut after MAX_MATCHED_TEXT characters; its dot also matches line breaks.
"""

import dataclasses
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from vmmonitor.model.instance import Instance

#: Maximum length of a text that a regular expression is matched against.
MAX_MATCHED_TEXT = 4096
ATTRIBUTE_PREFIX = "attributes."
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


class Matchable(Protocol):
    """An object that can be matched: an event, or the fields of an incident."""

    @property
    def host(self) -> str:
        """Host of the event or incident."""

    @property
    def instance(self) -> Instance:
        """Instance of the event or incident."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Further values, by name."""


class InvalidPattern(ValueError):
    """A regular expression that cannot be compiled; the message gives position and reason."""


class Matcher:
    """A test of one field with one operator and one operand.

    :ivar wanted: the values of a literal operator; None for a regular expression.
    """

    __slots__ = ("_pattern", "_read", "field", "operand", "operator", "wanted")

    def __init__(self, field: str, operator_: str, operand: Any):
        """Prepare the test.

        :param field: one of FIELDS, or ``attributes.`` and a name; dots reach into mappings.
        :param operator_: one of OPERATORS.
        :param operand: a list for ``in`` and ``not_in``, else a string, number or boolean.
        :raises InvalidPattern: the regular expression cannot be compiled.
        """
        self.field = field
        self.operator = operator_
        self.operand = operand
        self.wanted: frozenset[Any] | None = None
        self._pattern: re.Pattern[str] | None = None
        self._read = reader(field)
        if operator_.endswith("~"):
            self._pattern = _compile(text(operand) or "")
        else:
            operands = operand if isinstance(operand, list) else [operand]
            self.wanted = frozenset(key for value in operands for key in _keys(value))

    def holds(self, event: Matchable) -> bool:
        """Return whether the test holds for the event."""
        value = self._read(event)
        if self.wanted is None:
            equal = self._matches_pattern(value)
        elif type(value) is str:  # the common case on the agent's hot path
            equal = value in self.wanted
        else:
            equal = not self.wanted.isdisjoint(_keys(value))
        return equal != (self.operator in _NEGATIVE)

    def _matches_pattern(self, value: Any) -> bool:
        seen = text(value)
        assert self._pattern is not None
        return seen is not None and self._pattern.fullmatch(seen[:MAX_MATCHED_TEXT]) is not None

    def why_not(self, event: Matchable) -> str:
        """Return a line with the test and the value of the event."""
        value = self._read(event)
        seen = "it is not set" if value is None else f"it is {_quote(value)}"
        return f"{self} fails: {seen}"

    def implies(self, other: "Matcher") -> bool:
        """Return whether ``other`` holds wherever this test holds; False if not certain."""
        if self.field != other.field:
            return False
        if self.operator in _LITERAL and other.operator in _LITERAL:
            assert self.wanted is not None and other.wanted is not None
            return self.wanted <= other.wanted
        return self.operator == other.operator and self.operand == other.operand

    def __str__(self) -> str:
        """Return the test as text."""
        return f"{self.field} {self.operator} {_quote(self.operand)}"


class Match:
    """A condition on events.

    :ivar alternatives: tuples of matchers. A match holds if all matchers of one tuple hold.
    """

    __slots__ = ("alternatives",)

    def __init__(self, alternatives: Iterable[Iterable[Matcher]]):
        """Create a match from its alternatives."""
        self.alternatives = tuple(tuple(matchers) for matchers in alternatives)

    def holds(self, event: Matchable) -> bool:
        """Return whether the match holds for the event."""
        for matchers in self.alternatives:
            for matcher in matchers:
                if not matcher.holds(event):
                    break
            else:
                return True
        return False

    def why_not(self, event: Matchable) -> str:
        """Return the first failed test of each alternative as text, or '' if the match holds."""
        failed = [
            next((matcher.why_not(event) for matcher in matchers if not matcher.holds(event)), "")
            for matchers in self.alternatives
        ]
        return "; ".join(failed) if all(failed) else ""

    def implies(self, other: "Match") -> bool:
        """Return whether ``other`` holds wherever this match holds; False if not certain."""
        return all(
            any(_all_implied(mine, theirs) for theirs in other.alternatives)
            for mine in self.alternatives
        )

    def types(self) -> frozenset[str] | None:
        """Return the event types that the match can hold for; None if it does not list them."""
        found: set[str] = set()
        for matchers in self.alternatives:
            listed = [m.wanted for m in matchers if m.field == "type" and m.operator in _LITERAL]
            if not listed:
                return None
            found.update(key for key in listed[0] or () if isinstance(key, str))
        return frozenset(found)


def _all_implied(mine: Iterable[Matcher], theirs: Iterable[Matcher]) -> bool:
    return all(any(matcher.implies(other) for matcher in mine) for other in theirs)


def text(value: Any) -> str | None:
    """Return a value as text; None for a missing value, a list or a mapping."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return None


def _keys(value: Any) -> tuple[Any, ...]:
    """Return the representations that are compared for equality."""
    natural = text(value)
    if natural is None:
        return ()
    if isinstance(value, str | bool):
        return (natural,)
    return (natural, value)


def _quote(value: Any) -> str:
    if isinstance(value, list):
        return (
            "[" + ", ".join(_quote(item) for item in value[:10]) + ("]", ", ...]")[len(value) > 10]
        )
    if isinstance(value, Mapping):
        return "a mapping"
    return repr(value if not isinstance(value, str) else value[:100])


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.DOTALL)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidPattern(f"{pattern[:100]!r} is not a regular expression: {error}") from None


def reader(field: str) -> Callable[[Matchable], Any]:
    """Return a function that returns a field of an event, or None if the event has no such field.

    :param field: one of FIELDS, or ``attributes.`` and a name; dots reach into mappings.
    """
    if not field.startswith(ATTRIBUTE_PREFIX):
        return operator.attrgetter(field)
    names = field.removeprefix(ATTRIBUTE_PREFIX).split(".")

    def read(event: Matchable) -> Any:
        value: Any = event.attributes
        for name in names:
            if not isinstance(value, Mapping):
                return None
            value = value.get(name)
        return value

    return read
