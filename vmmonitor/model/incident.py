# SPDX-License-Identifier: Apache-2.0
"""Define incidents, the reasons that hold them, and the verdicts on them."""

import dataclasses
import enum

from vmmonitor.model.instance import Instance
from vmmonitor.model.states import IncidentState

#: ``hold_until`` of an incident that only an operator can release.
UNTIL_RELEASED = 253402300799_000000


class IncidentKind(enum.StrEnum):
    """The subject of an incident. Policies and expectations only handle instances."""

    INSTANCE = "instance"
    HOST = "host"
    STORM = "storm"


class HoldReason(enum.StrEnum):
    """The reason why an incident is held or silenced (``Incident.held_by``)."""

    #: The verdict is "unknown".
    UNKNOWN = "unknown"
    SILENCE = "silence"
    MAINTENANCE = "maintenance"
    STORM = "storm"
    #: The restart budget of the instance is used up.
    BUDGET = "budget"
    FLAPPING = "flapping"
    #: Recoveries above the concurrency limit are queued.
    CONCURRENCY = "concurrency"
    OPERATOR = "operator"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """One failure of one instance, one host without monitoring, or one storm of failures.

    At most one incident per instance, host or shared cause is open. Times are microseconds
    since the epoch, by the engines' clock; times of a host are corrected.

    :param kind: for HOST and STORM ``instance`` has an empty uuid.
    :param cause: ``Event.cause`` of the event that describes the failure best
        (``lifecycle.stopped/failed``); of a host ``agent.late`` or ``agent.blind``; of a storm
        ``storm.host``, ``storm.cloud`` or ``storm.storage``.
    :param reason: why it is in its state; one sentence for the operator.
    :param policy: name of the recovery policy that applies; empty if none matches.
    :param opened_at: when the first event occurred, or when monitoring of the host stopped.
    :param hold_until: no action before; UNTIL_RELEASED: an operator must release it.
    :param running_at: when the instance was last seen running since the newest failure of
        this incident; None if it was not.
    :param closed_at: when it was closed; None while it is open.
    :param priority: the greater priority gets a free recovery slot first.
    :param held_by: a HoldReason while held or silenced, and also while recovering, if the next
        attempt is held or queued; otherwise empty.
    :param part_of: id of the storm incident that it belongs to; empty without one.
    :param shared_cause: the cause that it may share with others (a storage back end); empty if
        unknown.
    :param override: the operator who requested a recovery despite limits and silences; empty
        without such a request.
    """

    incident_id: str
    instance: Instance
    host: str
    cause: str
    severity: str
    state: IncidentState
    reason: str
    policy: str
    opened_at: int
    hold_until: int
    updated_at: int
    event_count: int = 1
    running_at: int | None = None
    closed_at: int | None = None
    kind: IncidentKind = IncidentKind.INSTANCE
    priority: int = 0
    held_by: str = ""
    part_of: str = ""
    shared_cause: str = ""
    override: str = ""


class VerdictKind(enum.StrEnum):
    """The result of comparing an incident with the desired state of its instance."""

    FAILED = "failed"
    PLANNED = "planned"
    GONE = "gone"
    UNKNOWN = "unknown"
    #: It is a failure that a recovery could make worse: only an operator may act.
    MANUAL = "manual"
    #: It is a failure, and its host is in maintenance: no action for now.
    MUTED = "muted"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The answer of an expectation about one incident.

    :param reason: one sentence for the operator.
    :param priority: as for ``Incident``.
    :param asked: the service that answered (``nova``); empty if no service was asked.
    :param question: the question (``whether it should run here``), to be shown after ``asked``.
    :param took: duration of the query, in microseconds.
    :param runs: the host of the instance has confirmed that the instance runs and answers.
    """

    kind: VerdictKind
    reason: str
    priority: int = 0
    asked: str = ""
    question: str = ""
    took: int = 0
    runs: bool = False
