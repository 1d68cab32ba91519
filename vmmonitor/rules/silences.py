# SPDX-License-Identifier: Apache-2.0
"""Match incidents with the matcher language, for silences."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.model.incident import Incident
from vmmonitor.model.instance import Instance
from vmmonitor.rules import ruleset, schemas
from vmmonitor.rules.document import Document, Problem, invalid
from vmmonitor.rules.matchers import Match


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IncidentFields:
    """The fields of an incident that a match can refer to.

    :param type: first part of the cause (``lifecycle.stopped``); ``detail`` is the second part.
    :param attributes: always empty; only events have attributes.
    """

    host: str
    instance: Instance
    cause: str
    type: str
    detail: str
    severity: str
    policy: str
    priority: int
    shared_cause: str
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def fields_of(incident: Incident) -> IncidentFields:
    """Return the fields of an incident that a match can refer to."""
    kind, _, detail = incident.cause.partition("/")
    return IncidentFields(
        host=incident.host,
        instance=incident.instance,
        cause=incident.cause,
        type=kind,
        detail=detail,
        severity=incident.severity,
        policy=incident.policy,
        priority=incident.priority,
        shared_cause=incident.shared_cause,
    )


def build(match: Any) -> Match:
    """Return a match for incidents.

    :param match: a match as in a rule file, with the fields of ``schemas.SILENCE_FIELDS``.
    :raises vmmonitor.model.errors.InvalidRules: the match is invalid; the message gives the
        reason.
    """
    document = Document("silence", "", {"match": match}, {}, {})
    schemas.check(document, schemas.SILENCE)
    problems: list[Problem] = []
    built = ruleset.read_match(document, ("match",), match, problems)
    if problems:
        raise invalid(document.path, problems)
    return built


def matches_everything(match: Match) -> bool:
    """Return whether an alternative of the match has no tests."""
    return not all(match.alternatives)
