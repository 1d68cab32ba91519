# SPDX-License-Identifier: Apache-2.0
"""The engine's record that one instance needs attention, and the words that explain it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.model.instance import Instance

#: What an incident is about. Policies and the expectation only know of instances.
INSTANCE = "instance"
HOST = "host"
STORM = "storm"
KINDS = (INSTANCE, HOST, STORM)

#: ``hold_until`` of what waits for a person's word.
UNTIL_RELEASED = 253402300799_000000

#: Why an incident is held or silenced (``Incident.held_by``).
BY_UNKNOWN = "unknown"
BY_SILENCE = "silence"
BY_MAINTENANCE = "maintenance"
BY_STORM = "storm"
BY_BUDGET = "budget"
BY_FLAPPING = "flapping"
BY_TURN = "turn"
BY_OPERATOR = "operator"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """One failure of one instance, one host that is not watched, or one storm of failures; at most
    one of each is open.

    All times are microseconds since the epoch, engines' clock: times of a host's are corrected.

    :param kind: INSTANCE; or HOST or STORM: then ``instance`` is nobody, its uuid empty.
    :param cause: the first event's kind (``lifecycle.stopped/failed``); of a host ``agent.late``
        or ``agent.blind``.
    :param state: one of the keys of ``states.INCIDENT``.
    :param reason: why it is in that state, for a person to read.
    :param policy: name of the recovery policy that applies; empty if none does.
    :param opened_at: when the first event occurred, or since when the host is not watched.
    :param hold_until: nothing acts before; UNTIL_RELEASED: nothing acts of itself.
    :param running_at: when the instance was last seen running since the newest failure of
        this incident; None if it was not.
    :param closed_at: when it was resolved, failed or ignored; None while it is open.
    :param priority: whose turn comes first where not all can be recovered at once: the greater.
    :param held_by: while held or silenced, one of the words above; BY_TURN also while recovering,
        if the next attempt waits for its turn; else empty.
    :param part_of: id of the incident of kind STORM that it belongs to; empty if to none.
    :param shared_cause: what it may have in common with others (a storage back end); empty if
        nothing is known.
    :param override: who wants it recovered in spite of every limit and silence; empty: nobody.
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
    priority: int = 0
    held_by: str = ""
    part_of: str = ""
    shared_cause: str = ""
    override: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One line of an incident's time line, besides its events.

    :param kind: ``decision``, ``hold``, ``state``, ``recovery`` or ``question``.
    :param at: microseconds since the epoch, engines' clock.
    :param message: one sentence for a person.
    :param data: the same in parts, for programs. Of a question ``asked`` (who), ``question`` and
        ``answer``, and ``ms``, how many milliseconds the answer took.
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
#: It is a failure, about which nothing is to be done for now: its host is in maintenance.
MUTED = "muted"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """An incident held against the expectation.

    :param word: FAILED, PLANNED, GONE, UNKNOWN or MUTED.
    :param reason: one sentence for a person.
    :param priority: as for ``Incident``.
    :param asked: who gave the answer (``nova``), to follow the word asked; empty: nobody was.
    :param question: what it was asked (``whether it should run here``), to follow ``asked``.
    :param took: microseconds that the answer took.
    """

    word: str
    reason: str
    priority: int = 0
    asked: str = ""
    question: str = ""
    took: int = 0
