# SPDX-License-Identifier: Apache-2.0
"""The open incidents of one transaction, and what its events change in them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.db import incidents, timeline_entries
from vmmonitor.db.incidents import KEEP, Place
from vmmonitor.db.session import Transaction
from vmmonitor.model.incident import Incident
from vmmonitor.model.timeline import TimelineEntry, TimelineKind


@dataclasses.dataclass(kw_only=True, slots=True)
class OpenIncident:
    """An open incident, and the changes that are not written yet.

    :param is_new: it has no row yet.
    :param newly_held: its hold was set or changed in this transaction.
    :param host_reported_failure: a host, not reconciliation, reported a failure.
    :param more_than_hung: an event reports more than a QEMU process that does not answer.
    :param new_events: number of events to add to its event count.
    :param running_at: as for ``db.incidents.count_events``.
    """

    incident: Incident
    is_new: bool = False
    newly_held: bool = False
    host_reported_failure: bool = False
    more_than_hung: bool = False
    new_events: int = 0
    running_at: Any = KEEP


class IncidentChanges:
    """Collects changes and writes them in order.

    The caller holds the lock of each incident's row (``db.incidents.lock_open``), and locks a
    recovery's row only after it.

    :ivar tx: the transaction.
    :ivar now: microseconds since the epoch, engines' clock.
    :ivar freed_slot: a recovery was ended, so a concurrency slot is free.
    """

    def __init__(self, tx: Transaction, open_incidents: Mapping[Place, Incident], now: int):
        """Start from the open incidents.

        :param open_incidents: (instance uuid, host) -> incident, for each instance that has
            events here.
        """
        self.tx = tx
        self.now = now
        self.freed_slot = False
        self._open = {
            place: OpenIncident(incident=incident) for place, incident in open_incidents.items()
        }
        self._entries: list[TimelineEntry] = []

    def find(self, instance_uuid: str, host: str) -> OpenIncident | None:
        """Return the open incident of an instance on a host, or None."""
        return self._open.get((instance_uuid, host))

    def add(self, opened: OpenIncident) -> None:
        """Add an incident that this transaction opens."""
        self._open[_place(opened)] = opened

    def relocate(self, opened: OpenIncident, moved: Incident) -> None:
        """Replace an incident by the same incident on another host."""
        del self._open[_place(opened)]
        opened.incident = moved
        self._open[_place(opened)] = opened

    def remove(self, closed: OpenIncident) -> None:
        """Remove an incident that is closed, so that a later event opens another one."""
        del self._open[_place(closed)]

    def newly_held(self) -> list[Incident]:
        """Return the open incidents whose hold was set or changed."""
        return [each.incident for each in self._open.values() if each.newly_held]

    def add_entry(self, incident: Incident, kind: TimelineKind, message: str, **data: Any) -> None:
        """Add a timeline entry."""
        self._entries.append(
            TimelineEntry(
                incident_id=incident.incident_id,
                at=self.now,
                kind=kind,
                message=message,
                data=data,
            )
        )

    def flush(self, changed: OpenIncident) -> None:
        """Insert an incident's row and write all timeline entries, before its row is updated."""
        if changed.is_new:
            incidents.insert(self.tx, [changed.incident])
            changed.is_new = False
        self._write_entries()

    def attach_events(self, changed: OpenIncident) -> None:
        """Update the event count, and when the instance was seen running."""
        if not changed.new_events and changed.running_at is KEEP:
            return
        incident = changed.incident
        incidents.count_events(
            self.tx, incident.incident_id, changed.new_events, changed.running_at, self.now
        )
        # The verdict is requested again if events arrived that were not counted here.
        event_count = incident.event_count + changed.new_events
        changed.incident = dataclasses.replace(incident, event_count=event_count)
        changed.new_events, changed.running_at = 0, KEEP

    def write(self) -> None:
        """Write everything that is not written yet."""
        incidents.insert(self.tx, [each.incident for each in self._open.values() if each.is_new])
        for changed in self._open.values():
            changed.is_new = False
            self.attach_events(changed)
        self._write_entries()

    def _write_entries(self) -> None:
        timeline_entries.insert(self.tx, self._entries)
        self._entries = []


def _place(opened: OpenIncident) -> Place:
    return opened.incident.instance.uuid, opened.incident.host
