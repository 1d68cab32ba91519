# SPDX-License-Identifier: Apache-2.0
"""What the rule files may say, as JSON schema, and its errors in an operator's words."""

import difflib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema

from vmmonitor.model import event, evidence
from vmmonitor.rules import matchers
from vmmonitor.rules.document import Document, Path, Problem, invalid

VERSION = 1
#: Steps of one policy, also after its step lists are inserted.
MAX_STEPS = 100
#: No file of at most 1 MiB that a person wrote has more; it bounds the work on a hostile one.
_MAX_ERRORS = 1000

_SCALAR = {"type": ["string", "number", "boolean"]}
_STRING = {"type": "string", "maxLength": 4096}
_LIST = {"type": "array", "minItems": 1, "maxItems": 1000, "items": _SCALAR}
_NAME = {"type": "string", "minLength": 1, "maxLength": 64}
_ATTRIBUTE = r"^attributes\.[^.]+(\.[^.]+)*$"
_OPERATORS = {
    "=": _SCALAR,
    "!=": _SCALAR,
    "in": _LIST,
    "not_in": _LIST,
    "=~": _STRING,
    "!~": _STRING,
}

_TEST = {
    "if": {"type": "object"},
    "then": {"minProperties": 1, "additionalProperties": False, "properties": _OPERATORS},
    "else": _SCALAR,
}
_TESTS = {
    "type": "object",
    "additionalProperties": False,
    "properties": dict.fromkeys(matchers.FIELDS, _TEST),
    "patternProperties": {_ATTRIBUTE: _TEST},
}
#: What an incident has for a silence's match.
SILENCE_FIELDS = (
    *("host", "cause", "type", "detail", "severity", "policy", "priority", "shared_cause"),
    *(field for field in matchers.FIELDS if field.startswith("instance.")),
)
_SILENCE_TESTS = {
    "type": "object",
    "additionalProperties": False,
    "properties": dict.fromkeys(SILENCE_FIELDS, _TEST),
}


def _match(tests: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of one set of tests, or of a list of alternatives."""
    return {
        "if": {"type": "array"},
        "then": {"minItems": 1, "maxItems": 1000, "items": tests},
        "else": tests,
    }


_MATCH = _match(_TESTS)
_ROW = {"name": _NAME, "description": {"type": "string"}, "match": _MATCH}


def _object(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": dict(properties),
        "required": list(required),
    }


def _number(least: float, most: float) -> dict[str, Any]:
    return {"type": "number", "minimum": least, "maximum": most}


_DECISION = {
    "action": {"type": "string", "enum": list(event.ACTIONS)},
    "severity": {"type": "string", "enum": list(event.SEVERITIES)},
    "evidence": {
        "type": "array",
        "uniqueItems": True,
        "items": {"type": "string", "enum": list(evidence.KINDS)},
    },
}
_PER = {
    "type": "string",
    "maxLength": 255,
    "anyOf": [{"enum": list(matchers.FIELDS)}, {"pattern": _ATTRIBUTE}],
}
_RATE = {
    "count": {"type": "integer", "minimum": 2, "maximum": 1000},
    "seconds": _number(0.1, 86400),
    "per": {"type": "array", "minItems": 1, "maxItems": 10, "items": _PER},
}
_BACKOFF = {
    "initial": _number(0, 86400),
    "factor": _number(1, 100),
    "max": _number(0, 86400),
    "jitter": _number(0, 1),
}
_STEP = {
    "driver": _NAME,
    "enabled": {"type": "boolean"},
    "attempts": {"type": "integer", "minimum": -1, "maximum": 1000000, "not": {"const": 0}},
    "timeout": _number(0.1, 86400),
    "wait_for": {"type": "string", "enum": ["running", "active", "nothing"]},
    "wait": _number(0, 86400),
    "backoff": _object(_BACKOFF),
    "dry_run": {"type": "boolean"},
    # Each driver knows its own.
    "options": {"type": "object", "maxProperties": 100},
}
#: A step, or the name of a step list. Unknown names are reported by ``policies``.
_STEP_OR_NAME = {
    "type": ["object", "string"],
    "if": {"type": "object"},
    "then": _object(_STEP, "driver"),
}
_STEP_LISTS = {
    "type": "object",
    "maxProperties": 100,
    "propertyNames": {"minLength": 1, "maxLength": 64},
    "additionalProperties": {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_STEPS,
        "items": _STEP_OR_NAME,
    },
}
_LIMITS = {
    "max_restarts": {"type": "integer", "minimum": -1, "maximum": 1000000},
    "restart_window": _number(1, 31 * 86400),
}
_POLICY = {
    **_ROW,
    "hold": _number(0, 86400),
    "dry_run": {"type": "boolean"},
    "limits": _object(_LIMITS),
    "steps": {"type": "array", "maxItems": MAX_STEPS, "items": _STEP_OR_NAME},
}
_VERSION = {"const": VERSION}


def _rows(row: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "array", "maxItems": 1000, "items": _object(row, "name", "match", *required)}


FILTERS = _object(
    {
        "version": _VERSION,
        "default": _object(_DECISION, "action"),
        "rules": _rows(
            {**_ROW, **_DECISION, "rate": _object(_RATE, "count", "seconds")}, "action"
        ),
    },
    "version",
    "rules",
)
POLICIES = _object(
    {"version": _VERSION, "step_lists": _STEP_LISTS, "policies": _rows(_POLICY, "steps")},
    "version",
    "policies",
)
SILENCE = _object({"match": _match(_SILENCE_TESTS)}, "match")


def check(document: Document, schema: Mapping[str, Any]) -> None:
    """Hold a document against a schema.

    :param schema: FILTERS, POLICIES or SILENCE.
    :raises vmmonitor.model.errors.InvalidRules: with everything that is wrong, up to the limit.
    """
    validator = jsonschema.Draft202012Validator(schema)
    found = itertools.islice(validator.iter_errors(document.value), _MAX_ERRORS)
    problems = [problem for error in found for problem in _problems(document, error)]
    if problems:
        raise invalid(document.path, problems)


def _problems(document: Document, error: Any) -> Iterator[Problem]:
    path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        pattern = error.schema.get("patternProperties")
        for name in error.instance:
            if name not in known and not (pattern and _is_attribute(name)):
                reason = _unknown(name, known, attributes=bool(pattern))
                yield document.problem((*path, name), reason, key=True)
        return
    yield document.problem(path, f"{_place(path)}: {_words(error)}")


def _is_attribute(name: str) -> bool:
    return name.startswith(matchers.ATTRIBUTES) and all(name.split("."))


def _unknown(name: str, known: Mapping[str, Any], attributes: bool = True) -> str:
    """Return the words for a name that means nothing here.

    :param attributes: whether attributes of an event would.
    """
    if attributes and name.startswith(matchers.ATTRIBUTES):
        return f"{name[:100]!r} names no attribute; write attributes.NAME"
    if attributes and name.split(".")[0] == "attribute":
        return f"unknown field {name[:100]!r}{guess(name, ['attributes.' + name[10:]])}"
    if close := guess(name, list(known)):
        return f"unknown field {name[:100]!r}{close}"
    return f"unknown field {name[:100]!r}; known are {', '.join(known)}"


def guess(name: str, known: list[str]) -> str:
    """Return the suffix of an error that suggests the most similar name; empty without one."""
    close = difflib.get_close_matches(name[:100], known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _words(error: Any) -> str:
    """Return the error in words; jsonschema's own are cut, since they quote the whole value."""
    if error.validator == "enum":
        hint = guess(str(error.instance), error.validator_value)
        return f"{_cut(error.instance)} is not one of {', '.join(error.validator_value)}{hint}"
    if error.validator == "const":
        return f"must be {error.validator_value}, not {_cut(error.instance)}"
    if error.validator == "type":
        several = isinstance(error.instance, list) and error.validator_value == _SCALAR["type"]
        hint = "; for several write in: [...]" if several else ""
        return f"{_cut(error.instance)} is {_article(error.instance)}, not {_types(error)}{hint}"
    if error.validator == "not":
        return "must be at least 1, or -1 for no limit; to turn a step off write enabled: false"
    if error.validator == "anyOf":
        return _unknown(error.instance, dict.fromkeys(matchers.FIELDS))
    if error.validator in ("minItems", "minProperties", "minLength"):
        return "must not be empty"
    if error.validator == "maxItems":
        return (
            f"has {len(error.instance)} entries, and {error.validator_value} at most are allowed"
        )
    message = str(error.message)
    return message if len(message) <= 200 else f"{message[:80]} ... {message[-100:]}"


def _types(error: Any) -> str:
    names = error.validator_value
    names = [names] if isinstance(names, str) else names
    return " or ".join(_KINDS.get(name, name) for name in names)


_KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "a boolean",
}


def _article(value: Any) -> str:
    kinds = {
        str: "a string",
        bool: "a boolean",
        dict: "a mapping",
        list: "a list",
        type(None): "empty",
    }
    return kinds.get(type(value), "a number")


def _cut(value: Any) -> str:
    if isinstance(value, dict | list):
        return "it"
    shown = repr(value)
    return shown if len(shown) <= 100 else shown[:100] + "..."


def _place(path: Path) -> str:
    """Return a path as ``rules[3].match.detail``."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}"[:100] for part in path)
    return place.lstrip(".") or "the file"
