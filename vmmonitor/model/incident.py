# SPDX-License-Identifier: Apache-2.0
"""The engine's record that one instance needs attention, and the words that explain it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.model.instance import Instance

#: What an incident is about. Policies and the expectation only know of instances.
INSTANCE = "instance"
HOST = "host"
KINDS = (INSTANCE, HOST)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """One failure of one instance, or one host that is not watched; at most one of each is open.

    All times are microseconds since the epoch, engines' clock: times of a host's are corrected.

    :param kind: INSTANCE, or HOST: then ``instance`` is nobody, its uuid empty.
    :param cause: the first event's kind (``lifecycle.stopped/failed``); of a host ``agent.late``
        or ``agent.blind``.
    :param state: one of the keys of ``states.INCIDENT``.
    :param reason: why it is in that state, for a person to read.
    :param policy: name of the recovery policy that applies; empty if none does.
    :param opened_at: when the first event occurred, or since when the host is not watched.
    :param hold_until: nothing acts before.
    :param running_at: when the instance was last seen running since the newest failure of
        this incident; None if it was not.
    :param closed_at: when it was resolved, failed or ignored; None while it is open.
    """

    incident_id: str
    instance: Instance
    host: str
    cause: str
    severity: str
    state: str
    reason: str
    policy: str
    opened_at: int
    hold_until: int
    updated_at: int
    event_count: int = 1
    running_at: int | None = None
    closed_at: int | None = None
    kind: str = INSTANCE


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One line of an incident's time line, besides its events.

    :param kind: ``decision``, ``hold``, ``state``, ``recovery`` or ``question``.
    :param at: microseconds since the epoch, engines' clock.
    :param message: one sentence for a person.
    """

    incident_id: str
    at: int
    kind: str
    message: str
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)


#: What the instance should be doing, as the expectation says it.
FAILED = "failed"
PLANNED = "planned"
GONE = "gone"
UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """An incident held against the expectation.

    :param word: FAILED, PLANNED, GONE or UNKNOWN.
    :param reason: one sentence for a person.
    """

    word: str
    reason: str
