# SPDX-License-Identifier: Apache-2.0
"""Stores batches of events, and the incidents that they change, in one database transaction."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence

from oslo_log import log

from vmmonitor.db import events, incidents
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.ingest.grouping import IncidentGrouper
from vmmonitor.engine.ingest.ownership import Ownership, Standing, demote
from vmmonitor.engine.ingest.pending_batch import PendingBatch, StoreResult
from vmmonitor.model.errors import Conflict, Retriable
from vmmonitor.model.event import RECORD, StoredEvent
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire
from vmmonitor.rules.policies import Policies

LOG = log.getLogger(__name__)

#: Maximum attempts of a transaction that conflicts with those of other engines.
MAX_CONFLICT_RETRIES = 20

STORED = Receipt(status=ReceiptStatus.STORED)
DUPLICATE = Receipt(status=ReceiptStatus.DUPLICATE)


def commit(database: Database, pending: Sequence[PendingBatch], policies: Policies) -> StoreResult:
    """Store batches in one transaction; retry if it conflicts with another engine's.

    :raises vmmonitor.model.errors.Retriable: the database is not available, or too many conflicts.
    """
    known: set[str] = set()
    for _ in range(MAX_CONFLICT_RETRIES):
        try:
            return database.run(store_in_transaction, pending, known, policies, database.now)
        except Conflict as error:
            LOG.debug("Storing %d batches again after a conflict: %s", len(pending), error)
            with database.reader() as tx:
                known = events.stored_ids(tx, _event_ids(pending))
    raise Retriable(f"{MAX_CONFLICT_RETRIES} conflicts with other engines")


def store_in_transaction(
    tx: Transaction,
    pending: Sequence[PendingBatch],
    known: Collection[str],
    policies: Policies,
    now: Callable[[], int],
) -> StoreResult:
    """Store batches: lock the open incidents, sort out duplicates, group, insert.

    :param known: ids of events that are already stored.
    :param now: returns the engines' clock, in microseconds since the epoch.
    :raises vmmonitor.model.errors.Conflict: another engine stored one of the events, or changed
        one of the incidents, at the same time.
    """
    ownership = Ownership(tx, (event for each in pending for event in each.events()), now())
    open_incidents = incidents.lock_open(tx, ownership.places())
    # Read the clock after locking the rows, so that timeline entries are ordered.
    stored_at = now()
    grouper = IncidentGrouper(tx, open_incidents, policies, stored_at)
    receipts = _receipts(pending, known)
    sorter = _Sorter(ownership, grouper, stored_at)
    for waiting, delivery in _accepted(pending, receipts):
        sorter.add(delivery, waiting)
    grouper.write()
    ownership.write()
    events.insert(tx, sorter.stored)
    return StoreResult(
        receipts=receipts,
        newly_held=grouper.newly_held(),
        freed_slot=grouper.freed_slot,
    )


class _Sorter:
    """Gives each event to the incident that it belongs to, if its host owns the instance.

    :ivar stored: the events to insert.
    """

    def __init__(self, ownership: Ownership, grouper: IncidentGrouper, stored_at: int):
        self.stored: list[StoredEvent] = []
        self._ownership = ownership
        self._grouper = grouper
        self._stored_at = stored_at

    def add(self, delivery: event_wire.Delivery, waiting: PendingBatch) -> None:
        """Add one event."""
        corrected = _in_engine_time(delivery, waiting.clock_offset)
        standing = self._ownership.judge(corrected.event, delivery.decision.action)
        if standing.moved_from:
            self._grouper.move(corrected.event.instance.uuid, standing, corrected.event)
        if standing.claim:
            self._repeat(standing)
        incident_id = None
        if not standing.is_foreign:
            incident_id = self._grouper.add(corrected, standing.owner)
        elif standing.is_claim or delivery.decision.action != RECORD:
            delivery = demote(delivery, standing.owner)
            LOG.debug(
                "Event %s (%s) of host %s changes no incident: instance %s belongs to host %s",
                delivery.event.event_id,
                delivery.event.cause,
                delivery.event.host,
                delivery.event.instance.uuid,
                standing.owner,
            )
        self.stored.append(_stored_event(delivery, waiting, incident_id, self._stored_at))

    def _repeat(self, standing: Standing) -> None:
        """Count the earlier events of the new owner, as copies."""
        if standing.claim is None:
            return
        for delivery, original in self._ownership.repeated(standing.claim):
            incident_id = self._grouper.add(delivery, standing.owner)
            event = dataclasses.replace(delivery.event, occurred_at=original.event.occurred_at)
            self.stored.append(
                dataclasses.replace(
                    original,
                    event=event,
                    decision=delivery.decision,
                    incident_id=incident_id,
                    stored_at=self._stored_at,
                )
            )


def _event_ids(pending: Sequence[PendingBatch]) -> set[str]:
    return {event.event_id for waiting in pending for event in waiting.events()}


def _receipts(pending: Sequence[PendingBatch], known: Collection[str]) -> list[list[Receipt]]:
    seen = set(known)
    return [[_receipt(delivery, seen) for delivery in each.deliveries] for each in pending]


def _receipt(delivery: event_wire.Delivery | str, seen: set[str]) -> Receipt:
    """Return the receipt of an event, and add its id to ``seen``."""
    if isinstance(delivery, str):
        return Receipt(status=ReceiptStatus.REFUSED, reason=delivery)
    if delivery.event.event_id in seen:
        return DUPLICATE
    seen.add(delivery.event.event_id)
    return STORED


def _accepted(
    pending: Sequence[PendingBatch], receipts: Sequence[Sequence[Receipt]]
) -> Iterator[tuple[PendingBatch, event_wire.Delivery]]:
    """Yield the events to store, each with its batch."""
    for waiting, answers in zip(pending, receipts, strict=True):
        for delivery, receipt in zip(waiting.deliveries, answers, strict=True):
            if receipt is STORED and not isinstance(delivery, str):
                yield waiting, delivery


def _in_engine_time(delivery: event_wire.Delivery, clock_offset: int) -> event_wire.Delivery:
    """Return an event with its time on the engines' clock, comparable with other hosts' events."""
    if not clock_offset:
        return delivery
    at = delivery.event.occurred_at + clock_offset
    return dataclasses.replace(delivery, event=dataclasses.replace(delivery.event, occurred_at=at))


def _stored_event(
    delivery: event_wire.Delivery, waiting: PendingBatch, incident_id: str | None, stored_at: int
) -> StoredEvent:
    return StoredEvent(
        event=delivery.event,
        decision=delivery.decision,
        incident_id=incident_id,
        spooled_at=delivery.spooled_at,
        sent_at=waiting.batch.sent_at,
        received_at=waiting.received_at,
        stored_at=stored_at,
        corrected_at=delivery.event.occurred_at + waiting.clock_offset,
        authenticated=waiting.batch.authenticated,
    )
