# SPDX-License-Identifier: Apache-2.0
"""Groups the events of one transaction into incidents."""

from collections.abc import Mapping

from vmmonitor.db.incidents import Place
from vmmonitor.db.session import Transaction
from vmmonitor.engine.ingest import ending, event_effects, following, opening
from vmmonitor.engine.ingest.incident_changes import IncidentChanges, OpenIncident
from vmmonitor.engine.ingest.ownership import Standing
from vmmonitor.model import event as events
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident
from vmmonitor.rpc.event_wire import Delivery
from vmmonitor.rules.policies import Policies


class IncidentGrouper:
    """Finds, opens and changes the incident of each event; see ``IncidentChanges`` for locks."""

    def __init__(
        self,
        tx: Transaction,
        open_incidents: Mapping[Place, Incident],
        policies: Policies,
        now: int,
    ):
        """Start from the open incidents.

        :param open_incidents: (instance uuid, host) -> incident, for each instance that has
            events here.
        :param now: microseconds since the epoch, engines' clock.
        """
        self._policies = policies
        self._changes = IncidentChanges(tx, open_incidents, now)

    def move(self, instance_uuid: str, standing: Standing, event: Event) -> None:
        """Move the open incident of an instance to its new owner.

        It stays where it is if the instance already has an open incident there.

        :param event: the event that changed the owner.
        """
        opened = self._changes.find(instance_uuid, standing.moved_from)
        if opened and self._changes.find(instance_uuid, standing.owner) is None:
            following.set_host(self._changes, opened, standing.owner, event)

    def add(self, delivery: Delivery, owner: str) -> str | None:
        """Return the id of the incident that an event belongs to, or None.

        While an incident is open, all events of its instance and host belong to it. Otherwise an
        event opens one if its filter rule has the action ``incident``.

        :param owner: the owner of the instance; empty without one. An event of the engine's own
            sources belongs to the owner's incident if its host has none.
        """
        event = delivery.event
        if event.type in (events.HOST_CONFLICT, events.OWNER_CHANGED):
            return None
        is_failure = delivery.decision.action == events.INCIDENT
        opened = self._find(event, owner, is_failure)
        if opened is None:
            return (
                opening.open_incident(self._changes, self._policies, delivery)
                if is_failure
                else None
            )
        opened.new_events += 1
        opened.more_than_hung |= event_effects.is_more_than_hung(delivery)
        if is_failure and not opened.incident.shared_cause:
            following.set_shared_cause(self._changes, opened, event)
        if event.type in events.RUNNING_AGAIN:
            ending.end_if_running(self._changes, opened, event)
        elif event.type == events.AGREES_AGAIN:
            ending.end_if_drift_is_over(self._changes, opened)
        elif event_effects.is_awaited_cause(opened.incident, delivery):
            following.set_cause(self._changes, self._policies, opened, delivery)
        elif is_failure:
            following.add_failure(self._changes, self._policies, opened, event)
        return opened.incident.incident_id

    def _find(self, event: Event, owner: str, is_failure: bool) -> OpenIncident | None:
        instance_uuid = event.instance.uuid
        opened = self._changes.find(instance_uuid, event.host)
        if opened or event.source not in events.ENGINE_SOURCES:
            return opened
        is_elsewhere = event.source == events.RECONCILE_SOURCE and is_failure
        return None if is_elsewhere else self._changes.find(instance_uuid, owner)

    def write(self) -> None:
        """Write all changes of incidents and timelines, except the events themselves."""
        self._changes.write()

    def newly_held(self) -> list[Incident]:
        """Return the open incidents whose hold was set or changed."""
        return self._changes.newly_held()

    @property
    def freed_slot(self) -> bool:
        """Return whether a recovery was ended, so that a concurrency slot is free."""
        return self._changes.freed_slot
