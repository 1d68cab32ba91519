# SPDX-License-Identifier: Apache-2.0
"""The language of matches, held against incidents: what a silence means."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.model.incident import Incident
from vmmonitor.model.instance import Instance
from vmmonitor.rules import ordered, schemas
from vmmonitor.rules.document import Document, Problem, invalid
from vmmonitor.rules.matchers import Match


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """An incident as a match sees it.

    :param type: the first part of its cause (``lifecycle.stopped``), ``detail`` the other.
    :param attributes: none; only events have them.
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


def subject(incident: Incident) -> Subject:
    """Return what a match is held against."""
    kind, _, detail = incident.cause.partition("/")
    return Subject(
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
    """Return a match, ready to be held against subjects.

    :param match: as a rule file writes it, with the fields of ``schemas.SILENCE_FIELDS``.
    :raises vmmonitor.model.errors.InvalidRules: it means nothing; the message says why.
    """
    document = Document("silence", "", {"match": match}, {}, {})
    schemas.check(document, schemas.SILENCE)
    problems: list[Problem] = []
    built = ordered.read_match(document, ("match",), match, problems)
    if problems:
        raise invalid(document.path, problems)
    return built


def means_everything(match: Match) -> bool:
    """Tell whether an alternative has no test at all."""
    return not all(match.alternatives)
