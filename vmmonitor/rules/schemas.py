# SPDX-License-Identifier: Apache-2.0
"""The JSON schemas of rule files and of a silence's match."""

import itertools
from collections.abc import Mapping
from typing import Any

import jsonschema

from vmmonitor.model import event, evidence
from vmmonitor.rules import matchers, schema_errors
from vmmonitor.rules.document import Document, invalid

DOCUMENT_VERSION = 1
#: Maximum number of steps of one policy, including the steps of its step lists.
MAX_STEPS = 100
#: Maximum number of schema errors that are read, to bound the work on a hostile file.
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
#: Fields of an incident that the match of a silence can refer to.
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


def _number(minimum: float, maximum: float) -> dict[str, Any]:
    return {"type": "number", "minimum": minimum, "maximum": maximum}


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
    # Checked by the driver.
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
_VERSION = {"const": DOCUMENT_VERSION}


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
    """Check that a document matches a schema.

    :param schema: FILTERS, POLICIES or SILENCE.
    :raises vmmonitor.model.errors.InvalidRules: the message lists the errors, at most
        ``document.MAX_PROBLEMS``.
    """
    validator = jsonschema.Draft202012Validator(schema)
    found = itertools.islice(validator.iter_errors(document.value), _MAX_ERRORS)
    problems = dict.fromkeys(
        problem for error in found for problem in schema_errors.problems_of(document, error)
    )
    if problems:
        raise invalid(document.path, [*problems])
