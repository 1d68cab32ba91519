# SPDX-License-Identifier: Apache-2.0
"""Define the entries of an incident's timeline."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any


class TimelineKind(enum.StrEnum):
    """The kind of a timeline entry."""

    #: The filter rule that an event matched.
    DECISION = "decision"
    #: The policy that applies, or the reason of a hold.
    HOLD = "hold"
    #: A transition of the incident.
    STATE = "state"
    #: A transition of a recovery.
    RECOVERY = "recovery"
    #: A query of the expectation, and its answer.
    QUESTION = "question"
    #: An event of the incident. Not stored as an entry: the API adds it.
    EVENT = "event"
    #: An operator request.
    REQUEST = "request"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TimelineEntry:
    """One entry of an incident's timeline. Events are listed with these entries.

    :param at: microseconds since the epoch, engines' clock.
    :param message: one sentence for the operator.
    :param data: the parts of the message, for programs. A question has ``asked`` (the service),
        ``question``, ``answer`` and ``ms``, the duration of the query in milliseconds.
    """

    incident_id: str
    at: int
    kind: TimelineKind
    message: str
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
