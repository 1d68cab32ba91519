# SPDX-License-Identifier: Apache-2.0
"""Read a small YAML file strictly, with the line and column of each value.

Only a plain subset of YAML is accepted: no aliases (they can expand without limit), no tags, no
duplicate keys. Only ``true``, ``false``, plain numbers and ``null`` are converted; any other
scalar, including ``no`` and ``off``, is text.
"""

import dataclasses
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from vmmonitor.model import errors
from vmmonitor.text import one_line

MAX_FILE_BYTES = 1024 * 1024
MAX_NESTING = 20
MAX_PROBLEMS = 10

#: Path of a value: the keys and indexes that lead to it from the top.
Path = tuple[str | int, ...]

#: The parser of libyaml if PyYAML was built with it; it is 20 times as fast.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?[0-9]{1,15}\.[0-9]{1,15}")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """An error in a file.

    :param reason: text without the place.
    :param line: line, from 1; 0 if unknown, as for ``column``.
    """

    reason: str
    line: int = 0
    column: int = 0


def invalid(path: str, problems: Sequence[Problem]) -> errors.InvalidRules:
    """Return an error that lists the problems of a file in the order of their lines.

    :param problems: at least one; only the first MAX_PROBLEMS are listed.
    """
    lines = []
    for problem in sorted(problems, key=lambda problem: (problem.line, problem.column))[
        :MAX_PROBLEMS
    ]:
        place = f"{path}:{problem.line}:{problem.column}" if problem.line else path
        lines.append(f"{place}: {problem.reason}")
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"{path}: and {len(problems) - MAX_PROBLEMS} more")
    return errors.InvalidRules("\n".join(lines))


class WrittenFloat(float):
    """A fraction that keeps its notation, because 1.10 may be a name."""

    def __new__(cls, text: str) -> "WrittenFloat":
        """Convert ``text``."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str

    def __repr__(self) -> str:
        """Return the notation in the file."""
        return self.text


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """The content of a file.

    :param checksum: SHA-256 of its bytes, in hex.
    :param value: mappings, lists, strings, numbers, booleans and None.
    :param places: path of each value -> (line, column), from 1.
    :param keys: the same for the key of each value in a mapping.
    """

    path: str
    checksum: str
    value: Any
    places: dict[Path, tuple[int, int]]
    keys: dict[Path, tuple[int, int]]

    def problem(self, path: Path, reason: str, *, key: bool = False) -> Problem:
        """Return a problem with its place in the file.

        :param path: path of the wrong value.
        :param key: whether the key is wrong instead of the value.
        """
        places = self.keys if key else self.places
        return Problem(reason, *places.get(path, (0, 0)))


def read(path: str) -> Document:
    """Read a file.

    :raises vmmonitor.model.errors.InvalidRules: the file cannot be read, is too large, is empty,
        is not UTF-8, or is not plain YAML; the message gives place and reason.
    """
    content = _content(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = content[: error.start].decode("utf-8-sig")
        place = _place(good, len(good))
        raise invalid(path, [Problem("the file is not UTF-8 text", *place)]) from None
    if found := yaml.reader.Reader.NON_PRINTABLE.search(text):
        reason = f"control characters are not allowed (U+{ord(found[0]):04X})"
        raise invalid(path, [Problem(reason, *_place(text, found.start()))])
    builder = _Builder()
    try:
        value = builder.document(yaml.parse(text, Loader=_PARSER))
    except yaml.MarkedYAMLError as error:
        raise invalid(path, [_refusal_before(text, error) or _syntax(error)]) from None
    except yaml.YAMLError as error:
        raise invalid(path, [Problem(f"invalid YAML: {one_line(error, 200)}")]) from None
    except _Refused as error:
        builder.problems.append(error.problem)
    if builder.problems:
        raise invalid(path, builder.problems)
    if value is None:
        raise invalid(path, [Problem("the file is empty")])
    checksum = hashlib.sha256(content).hexdigest()
    return Document(path, checksum, value, builder.places, builder.keys)


def _content(path: str) -> bytes:
    """Return the bytes of a regular file."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise invalid(path, [Problem("the path is a directory, not a file")])
        # A FIFO or a device could block or never end.
        if not stat.S_ISREG(mode):
            raise invalid(path, [Problem("the path is not a regular file")])
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise invalid(path, [Problem(f"cannot read the file: {reason}")]) from None
    if len(content) > MAX_FILE_BYTES:
        raise invalid(path, [Problem(f"the file is larger than {MAX_FILE_BYTES} bytes")])
    return content


def _place(text: str, index: int) -> tuple[int, int]:
    """Return line and column, from 1, of a character."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def _syntax(error: yaml.MarkedYAMLError) -> Problem:
    reason = " ".join(part for part in (error.context, error.problem) if part)
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem(f"invalid YAML: {reason}")
    return Problem(f"invalid YAML: {reason}", mark.line + 1, mark.column + 1)


def _refusal_before(text: str, error: yaml.MarkedYAMLError) -> Problem | None:
    """Return the refusal of what stands before a syntax error, None if there is not any.

    A parser reads ahead and has limits of its own, so that it can end with an error before it
    yields the events that exceed MAX_NESTING.
    """
    if error.problem_mark is None:
        return None
    try:
        _Builder().document(yaml.parse(text[: error.problem_mark.index], Loader=_PARSER))
    except _Refused as refused:
        return refused.problem
    except yaml.YAMLError:
        return None
    return None


class _Refused(Exception):
    """A problem that makes the rest of the file unreadable."""

    def __init__(self, reason: str, mark: Any):
        super().__init__(reason)
        self.problem = Problem(reason, mark.line + 1, mark.column + 1)


class _Builder:
    """Builds values from the parser's events, one at a time, to limit their size."""

    def __init__(self) -> None:
        self.places: dict[Path, tuple[int, int]] = {}
        self.keys: dict[Path, tuple[int, int]] = {}
        self.problems: list[Problem] = []

    def document(self, events: Iterator[Any]) -> Any:
        """Return the value of the only document, or None for an empty file."""
        self._events = events
        value, seen = None, False
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    raise _Refused(
                        "only one document is allowed; a second one begins here", event.start_mark
                    )
                seen = True
                value = self._value(next(events), ())
        return value

    def _value(self, event: Any, path: Path) -> Any:
        self._refuse_extras(event)
        mark = event.start_mark
        if len(path) > MAX_NESTING:
            raise _Refused(f"nested more than {MAX_NESTING} levels deep", mark)
        self.places[path] = (mark.line + 1, mark.column + 1)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return _scalar(event.value) if event.implicit[0] else event.value

    def _refuse_extras(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise _Refused(
                "anchors and aliases (& and *) are not allowed; quote text that begins with them",
                event.start_mark,
            )
        if event.tag:
            raise _Refused(
                'tags (words after !) are not allowed; write "!=" and "!~" in quotes',
                event.start_mark,
            )

    def _mapping(self, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            self._refuse_extras(event)
            mark = event.start_mark
            if not isinstance(event, yaml.ScalarEvent):
                raise _Refused("a key must be a word, not a list or a mapping", mark)
            place = (mark.line + 1, mark.column + 1)
            below = (*path, event.value)
            if event.value in mapping:
                first = self.keys[below][0]
                reason = f"{event.value[:100]!r} is a duplicate key, first used on line {first}"
                self.problems.append(Problem(reason, *place))
            self.keys[below] = place
            mapping[event.value] = self._value(next(self._events), below)
            if isinstance(mapping[event.value], dict | list):
                # Report a wrong block at its key.
                self.places[below] = place
        return mapping

    def _sequence(self, path: Path) -> list[Any]:
        sequence: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            sequence.append(self._value(event, (*path, len(sequence))))
        return sequence


def _scalar(text: str) -> Any:
    """Return the value of an unquoted scalar."""
    word = text.lower() if text in (text.lower(), text.upper(), text.capitalize()) else text
    if word in _WORDS:
        return _WORDS[word]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return WrittenFloat(text)
    return text
