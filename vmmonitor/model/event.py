# SPDX-License-Identifier: Apache-2.0
"""Define the observations of sources (RawEvent, SourceSnapshot, Reachability), the events made of
them (Event), and the decision of the filter on each event (Decision)."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from vmmonitor.model.instance import Instance, QemuOwner, Seen

IGNORE = "ignore"
RECORD = "record"
INCIDENT = "incident"
ACTIONS = (IGNORE, RECORD, INCIDENT)

INFO = "info"
WARNING = "warning"
CRITICAL = "critical"
SEVERITIES = (INFO, WARNING, CRITICAL)

#: Events without a cause: the next event about the state of the instance gives it.
WITHOUT_A_CAUSE = frozenset({"process.exited"})

#: Libvirt does not run the instance, or no longer has it, but its QEMU process lives.
LOST = "libvirt.lost"
#: Libvirt reports the instance as running, but its QEMU does not answer, or its guest stalls.
HUNG = "liveness.hung"
STALLED = "liveness.stalled"
#: Both have ended. The instance may have another failure.
RECOVERED = "liveness.recovered"
#: The condition that the detail names has ended.
CLEARED = "liveness.cleared"
#: The agent destroys an instance to start it again (``begun``), or failed to (``failed``).
ENDING = "recovery.ending"
#: An action of the agent (the detail) took effect after its order had ended.
LATE_EFFECT = "recovery.late"
#: Source of the events of agents about their own actions.
AGENT_SOURCE = "agent"
#: The instance runs again, as reported by the agent, by libvirt, or by the source that found it
#: hung. A host sends its events in the order of their occurrence, so all events that the failure
#: caused arrive earlier.
RUNNING_AGAIN = frozenset(
    {"lifecycle.started", "lifecycle.resumed", "recovery.running", RECOVERED}
)
#: Types of events that report the end of an instance.
END_EVENTS = frozenset({"lifecycle.stopped", "lifecycle.crashed", "process.exited"})
#: A drift has ended. It resolves only an incident that reconciliation opened and that has no other
#: failure, because a snapshot is older than the events that a host sends meanwhile.
RECONCILE_SOURCE = "reconcile"
AGREES_AGAIN = "reconcile.agrees"

#: Source of nova's notifications, which engines read.
NOVA_SOURCE = "nova_notifications"
#: Source of the events that engines make themselves.
ENGINE_SOURCE = "engine"
#: A host reports an instance of another host; see ``model.ownership``.
HOST_CONFLICT = "host.conflict"
#: An instance belongs to another host from now on.
OWNER_CHANGED = "host.owner_changed"
#: Sources that only engines have.
ENGINE_SOURCES = frozenset({RECONCILE_SOURCE, NOVA_SOURCE, ENGINE_SOURCE})
#: Beginnings of the event types that only engines make.
ENGINE_TYPES = ("reconcile.", "nova.", "host.", "engine.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RawEvent:
    """The report of a source about one instance.

    :param source: entry point name of the source (``libvirt``).
    :param type: libvirt's own name in lower case (``lifecycle.stopped``, ``io_error``).
    :param detail: the detail of the type (``failed``, ``pause``), empty without one.
    :param occurred_at: when the source received it; microseconds since the epoch.
    :param instance: at least its uuid; missing fields are completed from the inventory.
    :param attributes: further facts (path, device, reason); JSON values only.
    :param seen: the current state of the instance, if the source has read it.
    :param host: the host of the instance, for sources in an engine; agents use their own host.
    :param event_id: 36 characters, if several engines may receive the same report and derive the
        same id from it; empty to generate one. An agent always generates one.
    """

    source: str
    type: str
    detail: str
    occurred_at: int
    instance: Instance
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seen: Seen | None = None
    host: str = ""
    event_id: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SourceSnapshot:
    """The instances that a source finds on its host, at start and after each reconnect.

    :param started_at: when reading began; events that arrived meanwhile are newer.
    :param why: ``start`` or ``reconnect``.
    :param owner: identifies the processes of the instances; None if the source does not know.
    :param processes: UUID -> pid of each QEMU process that was found after the instances were
        read; None if processes may be hidden.
    :param booted_at: start of the host; microseconds since the epoch, 0 if unknown.
    """

    source: str
    started_at: int
    why: str
    seen: tuple[Seen, ...]
    owner: QemuOwner | None = None
    processes: Mapping[str, int] | None = None
    booted_at: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reachability:
    """The ability of a source to observe its host. It does not imply the state of any instance.

    :param reachable: whether the source can observe its host.
    :param at: microseconds since the epoch, by the host's clock.
    :param reason: why the source cannot observe its host; empty if it can.
    """

    source: str
    reachable: bool
    at: int
    reason: str = ""


Observation = RawEvent | SourceSnapshot | Reachability


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One immutable fact about one instance, as it is spooled, sent and stored.

    :param event_id: generated once, on the host; a second event with the same id is a duplicate.
    :param host: as nova names it (``CONF.host``).
    :param sequence: rises by one per event in the spool of its host; 0 until it is spooled.
    """

    event_id: str
    host: str
    instance: Instance
    source: str
    type: str
    detail: str
    occurred_at: int
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sequence: int = 0

    @property
    def cause(self) -> str:
        """The type and detail of the event: ``lifecycle.stopped/failed``."""
        return f"{self.type}/{self.detail}" if self.detail else self.type


def refusal_from_agent(event: Event) -> str:
    """Return why an event must not come from an agent; empty if it may.

    An event of nova can excuse a failure, and one of reconciliation can report one, so only an
    engine that has read it from nova or the database may bring it.
    """
    if event.source in ENGINE_SOURCES:
        return f"foreign_source: an agent cannot have the source {event.source}"
    if event.type.startswith(ENGINE_TYPES):
        return f"foreign_source: an agent cannot send events of type {event.type}"
    return ""


def made_of(raw: RawEvent, host: str, attributes: Mapping[str, Any], event_id: str) -> Event:
    """Return a source's report as an event of a host, which is not spooled yet.

    :param attributes: replaces the attributes of the report.
    """
    return Event(
        event_id=event_id,
        host=host,
        instance=raw.instance,
        source=raw.source,
        type=raw.type,
        detail=raw.detail,
        occurred_at=raw.occurred_at,
        attributes=attributes,
    )


def taken_back(event: Event) -> frozenset[str]:
    """Return the types of earlier events whose condition this event ends."""
    if event.type == RECOVERED:
        return frozenset({HUNG, STALLED})
    return frozenset({f"liveness.{event.detail}"} if event.type == CLEARED else ())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The decision of the filter on one event.

    :param action: one of ACTIONS.
    :param severity: one of SEVERITIES.
    :param rule: name of the rule that decided; ``default`` if none matched.
    :param evidence: the kinds of evidence to capture; empty in an engine, which reads them from an
        attribute of the event (``evidence.ATTRIBUTE``).
    """

    action: str
    severity: str
    rule: str
    evidence: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredEvent:
    """An event with the times of its processing, in microseconds since the epoch.

    :param incident_id: the incident that it opened or belongs to; None without one.
    :param spooled_at: when it was stored in the spool, by the host's clock.
    :param sent_at: when its host sent the batch that contained it, by the host's clock.
    :param received_at: when an engine received it, by the engines' clock.
    :param stored_at: when an engine stored it, just before the commit, by the engines' clock.
    :param corrected_at: when it occurred, by the engines' clock: ``occurred_at`` plus the
        correction of the host's clock that was in use when the event arrived.
    :param authenticated: whether the event came from the agent of its host for certain: its
        message was signed with the key of the host, or did not leave the process.
    """

    event: Event
    decision: Decision
    incident_id: str | None
    spooled_at: int
    sent_at: int
    received_at: int
    stored_at: int
    corrected_at: int
    authenticated: bool = False


def in_order(stored: Iterable[StoredEvent]) -> list[tuple[int, StoredEvent]]:
    """Return events in the order of their occurrence, each with the time used for the order.

    Events of one host keep the order of their storage, also after a step of the host's clock.
    Events of different hosts are ordered by their corrected times.

    :param stored: the events, in the order of their storage.
    :return: (time, event), in ascending order of time; microseconds since the epoch.
    """
    latest: dict[str, int] = {}
    placed = []
    for one in stored:
        host = one.event.host
        latest[host] = max(one.corrected_at, latest.get(host, one.corrected_at))
        placed.append((latest[host], one))
    return sorted(placed, key=lambda pair: pair[0])
