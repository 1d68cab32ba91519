# SPDX-License-Identifier: Apache-2.0
"""Define what sources report (RawEvent, SourceSnapshot, Reachability), the events made of it
(Event), and the decision of the filter on each event (Decision)."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from vmmonitor.model.instance import Instance, Seen

IGNORE = "ignore"
RECORD = "record"
INCIDENT = "incident"
ACTIONS = (IGNORE, RECORD, INCIDENT)

INFO = "info"
WARNING = "warning"
CRITICAL = "critical"
SEVERITIES = (INFO, WARNING, CRITICAL)

#: Facts that need a cause: something ended, and the next word on its state says why.
WITHOUT_A_CAUSE = frozenset({"process.exited"})

#: Libvirt takes the instance to be running, yet its QEMU does not answer, or its guest stalls.
HUNG = "liveness.hung"
STALLED = "liveness.stalled"
#: Neither is so any more. Says nothing of an instance that has another trouble besides.
RECOVERED = "liveness.recovered"
#: What the event's detail names is not so any more.
CLEARED = "liveness.cleared"
#: The agent ends an instance by force, to start it again (``begun``), or could not (``failed``).
ENDING = "recovery.ending"
#: The instance runs again: the agent's own word, libvirt's, or that of whoever found it hung.
#: Sent in the order in which things happened on the host, so everything that the failure itself
#: caused came before it.
AGENT_SOURCE = "agent"
RUNNING_AGAIN = frozenset(
    {"lifecycle.started", "lifecycle.resumed", "recovery.running", RECOVERED}
)
#: What reconciliation found is over. Ends only an incident that reconciliation opened, in which
#: nothing else failed: a look at everything is older than what a host tells meanwhile.
RECONCILE_SOURCE = "reconcile"
AGREES_AGAIN = "reconcile.agrees"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RawEvent:
    """What a source yields: something happened to one instance.

    :param source: entry point name of the source (``libvirt``).
    :param type: libvirt's own name in lower case (``lifecycle.stopped``, ``io_error``).
    :param detail: the finer word (``failed``, ``pause``), empty if the type has none.
    :param occurred_at: when the source learnt of it; microseconds since the epoch.
    :param instance: at least its uuid; what is missing is completed from what is remembered.
    :param attributes: everything else that was told (path, device, reason); JSON values only.
    :param seen: the instance as it is now, where the source had reason to look.
    :param host: the host that a source inside an engine speaks of; an agent always speaks of its
        own.
    :param event_id: of 36 characters, where several engines may learn of the same thing, and each
        makes the same id of it; empty: one is made. An agent always makes one.
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
    """Everything one source sees on its host at one moment, on start and on each reconnect.

    :param started_at: when the look began, so that an event that came during it is newer.
    :param why: ``start`` or ``reconnect``.
    """

    source: str
    started_at: int
    why: str
    seen: tuple[Seen, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reachability:
    """A source can, or cannot, see its host. Says nothing of any instance.

    :param reason: why not; empty if it can.
    """

    source: str
    reachable: bool
    at: int
    reason: str = ""


Observation = RawEvent | SourceSnapshot | Reachability


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One immutable fact about one instance, as it is spooled, sent and stored.

    :param event_id: made on the host, once; a second event with the same id is a duplicate.
    :param host: as nova names it (``CONF.host``).
    :param sequence: rises by one per event of its host's spool; 0 while it is not spooled.
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
        """The event's kind in one word: ``lifecycle.stopped/failed``."""
        return f"{self.type}/{self.detail}" if self.detail else self.type


def made_of(raw: RawEvent, host: str, attributes: Mapping[str, Any], event_id: str) -> Event:
    """Return what a source saw as an event of a host, not spooled yet.

    :param attributes: in place of its own.
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
    """Return the types of the earlier events that are not true any more after this one."""
    if event.type == RECOVERED:
        return frozenset({HUNG, STALLED})
    return frozenset({f"liveness.{event.detail}"} if event.type == CLEARED else ())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What the rules make of an event.

    :param action: one of ACTIONS.
    :param severity: one of SEVERITIES.
    :param rule: name of the rule that decided; ``default`` if none matched.
    :param evidence: the kinds of evidence to capture; only the event's own host knows them, and
        the event tells them as an attribute (``evidence.ATTRIBUTE``).
    """

    action: str
    severity: str
    rule: str
    evidence: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredEvent:
    """An event with what became of it on its way; times are microseconds since the epoch.

    :param incident_id: the incident that it opened or was attached to; None if neither.
    :param spooled_at: when it was safe on its host, by the host's clock, like ``sent_at``:
        when the batch that carried it here left its host.
    :param received_at: when an engine took it, by the engines' clock, like ``stored_at``:
        just before the commit that made it durable.
    :param corrected_at: when it occurred, by the engines' clock: ``occurred_at`` plus what was
        known of the host's clock when it arrived.
    """

    event: Event
    decision: Decision
    incident_id: str | None
    spooled_at: int
    sent_at: int
    received_at: int
    stored_at: int
    corrected_at: int


def in_order(stored: Iterable[StoredEvent]) -> list[tuple[int, StoredEvent]]:
    """Return events in the order in which they happened, each with the time that puts it there.

    On one host that is the order in which they were stored, whatever was done to its clock
    meanwhile. Hosts are compared by corrected times.

    :param stored: in the order in which they were stored.
    :return: (microseconds since the epoch, never falling; event).
    """
    latest: dict[str, int] = {}
    placed = []
    for one in stored:
        host = one.event.host
        latest[host] = max(one.corrected_at, latest.get(host, one.corrected_at))
        placed.append((latest[host], one))
    return sorted(placed, key=lambda pair: pair[0])
