# SPDX-License-Identifier: Apache-2.0
"""Convert the errors of a JSON schema to problems with place, field, reason and allowed values.

The messages of jsonschema are not passed on: they quote the whole value, and their wording
depends on the version.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from vmmonitor.rules import matchers
from vmmonitor.rules.document import Document, Path, Problem

#: Maximum length of a name or value that is quoted.
MAX_QUOTED = 100

_TYPE_NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "a boolean",
}
_PYTHON_TYPE_NAMES = {
    str: "a string",
    bool: "a boolean",
    dict: "a mapping",
    list: "a list",
    type(None): "empty",
}


def problems_of(document: Document, error: Any) -> Iterator[Problem]:
    """Yield the problems that a ``jsonschema.ValidationError`` stands for."""
    path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        pattern = error.schema.get("patternProperties")
        for name in error.instance:
            if name not in known and not (pattern and _is_attribute(name)):
                reason = _unknown_field(name, known, attributes=bool(pattern))
                yield document.problem((*path, name), f"{field(path)}: {reason}", key=True)
    elif error.validator == "required":
        # jsonschema yields this error once per missing field; the caller removes duplicates.
        for name in error.validator_value:
            if name not in error.instance:
                yield document.problem(path, f"{field(path)}: the field {name!r} is missing")
    else:
        yield document.problem(path, f"{field(path)}: {_reason(error)}")


def field(path: Path) -> str:
    """Return a path as text, such as ``rules[3].match.detail``."""
    text = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}"[:MAX_QUOTED] for part in path
    )
    return text.lstrip(".") or "the file"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a suffix that suggests the most similar known name, or '' if no name is similar."""
    close = difflib.get_close_matches(name[:MAX_QUOTED], list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _is_attribute(name: str) -> bool:
    return name.startswith(matchers.ATTRIBUTE_PREFIX) and all(name.split("."))


def _unknown_field(name: str, known: Mapping[str, Any], attributes: bool = True) -> str:
    """Return the reason for refusing an unknown field.

    :param attributes: whether the fields ``attributes.NAME`` are allowed.
    """
    quoted = repr(name[:MAX_QUOTED])
    if attributes and name.startswith(matchers.ATTRIBUTE_PREFIX):
        return f"{quoted} has no attribute name; write attributes.NAME"
    if attributes and name.split(".")[0] == "attribute":
        return f"unknown field {quoted}{suggestion(name, ['attributes.' + name[10:]])}"
    if close := suggestion(name, known):
        return f"unknown field {quoted}{close}"
    return f"unknown field {quoted}; known are {', '.join(known)}"


def _reason(error: Any) -> str:
    """Return the reason of an error that concerns one value."""
    if reason := _REASONS.get(error.validator):
        return reason(error.instance, error.validator_value)
    return f"{_quote(error.instance)} does not match the schema's {error.validator}"


def _not_in_enum(value: Any, allowed: Sequence[str]) -> str:
    listed = ", ".join(allowed)
    return f"{_quote(value)} is not one of {listed}{suggestion(str(value), allowed)}"


def _wrong_type(value: Any, allowed: str | Sequence[str]) -> str:
    allowed = [allowed] if isinstance(allowed, str) else allowed
    several = isinstance(value, list) and "array" not in allowed and "string" in allowed
    hint = "; for several values write in: [...]" if several else ""
    found = _PYTHON_TYPE_NAMES.get(type(value), "a number")
    wanted = " or ".join(_TYPE_NAMES[name] for name in allowed)
    return f"{_quote(value)} is {found}, not {wanted}{hint}"


def _quote(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return "the value"
    shown = repr(value)
    return shown if len(shown) <= MAX_QUOTED else shown[:MAX_QUOTED] + "..."


def _is_empty(value: Any, minimum: int) -> str:
    return "must not be empty"


def _too_many(value: Any, maximum: int) -> str:
    return f"has {len(value)} entries; the maximum is {maximum}"


#: Keyword of the schema -> function of the value and of the keyword's value.
_REASONS: Mapping[str, Callable[[Any, Any], str]] = {
    "anyOf": lambda value, _: _unknown_field(value, dict.fromkeys(matchers.FIELDS)),
    "const": lambda value, wanted: f"must be {wanted}, not {_quote(value)}",
    "enum": _not_in_enum,
    "maxItems": _too_many,
    "maxLength": lambda value, most: f"has {len(value)} characters; the maximum is {most}",
    "maxProperties": _too_many,
    "maximum": lambda value, most: f"{_quote(value)} is above the maximum of {most}",
    "minItems": _is_empty,
    "minLength": _is_empty,
    "minProperties": _is_empty,
    "minimum": lambda value, least: f"{_quote(value)} is below the minimum of {least}",
    # Only the number of attempts has this keyword.
    "not": lambda value, _: (
        "must be at least 1, or -1 for no limit; to turn a step off write enabled: false"
    ),
    "type": _wrong_type,
    "uniqueItems": lambda value, _: "must not contain an entry twice",
}
