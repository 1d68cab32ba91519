# SPDX-License-Identifier: Apache-2.0
"""READ SECOND: the way of an event in the engine.

    RPC threads --store()--> queue --> refuse / duplicate? -> sort into incidents -> insert
         ^                             `--------- one transaction, thread "ingest" -------'
         `---------------------- receipts, after the commit ------------------'
                                             then: incidents with their holds, to recovery.py

All calls that wait when a commit ends share the next one. Nothing is recovered here: an event
that asks for it opens an incident, which ``recovery.py`` takes up when its hold is over.
"""

import concurrent.futures
import dataclasses
import queue
import threading
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from oslo_log import log

from vmmonitor.db import events, incidents
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.ingest.clock_offsets import ClockOffsets
from vmmonitor.engine.ingest.grouping import IncidentGrouper
from vmmonitor.model.errors import Conflict, Retriable
from vmmonitor.model.event import INCIDENT, INFO, Decision, Event, StoredEvent
from vmmonitor.model.incident import Incident
from vmmonitor.model.instance import Instance
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire
from vmmonitor.rules.policies import Policies

LOG = log.getLogger(__name__)

#: Tries of a transaction that lost a race against another engine.
MAX_CONFLICT_RETRIES = 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PendingBatch:
    """A batch that waits to be stored.

    :param correction: microseconds to add to its host's times.
    :param receipts: will hold one receipt per event, or the error.
    """

    batch: event_wire.Batch
    received_at: int
    correction: int
    receipts: "concurrent.futures.Future[list[Receipt]]"


class RecoveryQueue(Protocol):
    """Receives the results of a commit that concern recoveries."""

    def enqueue(self, incidents: Sequence[Incident]) -> None:
        """Accept the incidents whose hold has just been set."""

    def wake(self) -> None:
        """Look for due recoveries soon: a concurrency slot became free."""


class EventWriter:
    """Stores batches, as many as wait in one transaction."""

    def __init__(
        self,
        database: Database,
        policies: Policies,
        commit_events: int,
        recovery_queue: RecoveryQueue,
    ):
        """Keep the parts; start nothing.

        :param commit_events: number of events with which a transaction takes no further batch;
            a batch is never parted.
        :param recovery_queue: receives, after each commit, the incidents whose hold was set.
        """
        self.policies = policies
        self._database = database
        self._commit_events = commit_events
        self._recovery_queue = recovery_queue
        self._corrections = ClockOffsets(database)
        self._queue: queue.SimpleQueue[PendingBatch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    # -- any thread ----------------------------------------------------------------------------
    def store(self, batch: event_wire.Batch, timeout: float) -> list[Receipt]:
        """Store a batch; returns when it is committed.

        :param timeout: seconds to wait.
        :raises vmmonitor.model.errors.Retriable: it is not stored, or not in time.
        """
        received_at = self._database.now()
        waiting = PendingBatch(
            batch=batch,
            received_at=received_at,
            correction=self._corrections.of(batch.host, batch.sent_at, received_at),
            receipts=concurrent.futures.Future(),
        )
        self._queue.put(waiting)
        try:
            return waiting.receipts.result(timeout)
        except concurrent.futures.TimeoutError as error:
            # Nobody waits for it any more: it need not be stored.
            waiting.receipts.cancel()
            raise Retriable("the database took too long") from error

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread when everything that waits is stored; at most ``timeout`` seconds."""
        self._queue.put(None)
        self._thread.join(timeout)

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        going = True
        while going:
            pending, going = self._take()
            waited_for = [one for one in pending if one.receipts.set_running_or_notify_cancel()]
            try:
                self._store_all(waited_for)
            except Exception:
                # Whoever has no receipt yet sends again; without this thread nobody would get any.
                LOG.exception("The thread of ingest goes on after an error")

    def _take(self) -> tuple[list[PendingBatch], bool]:
        """Return what waits, and whether to go on."""
        pending: list[PendingBatch] = []
        count = 0
        while not pending or (count < self._commit_events and not self._queue.empty()):
            waiting = self._queue.get()
            if waiting is None:
                return pending, False
            pending.append(waiting)
            count += len(waiting.batch.deliveries)
        return pending, True

    def _store_all(self, pending: Sequence[PendingBatch]) -> None:
        """Store batches together; on an error, bisect them to find its cause."""
        if not pending:
            return
        try:
            answers, grouper = self._commit(pending)
        except Retriable as error:
            for waiting in pending:
                waiting.receipts.set_exception(error)
        except Exception as error:
            self._bisect(pending, error)
        else:
            for waiting, receipts in zip(pending, answers, strict=True):
                waiting.receipts.set_result(receipts)
            if held := grouper.held():
                self._recovery_queue.enqueue(held)
            if grouper.freed_slot:
                self._recovery_queue.wake()

    def _bisect(self, pending: Sequence[PendingBatch], error: Exception) -> None:
        """Find, by halves, what the database cannot take, and refuse no more than that."""
        if len(pending) > 1:
            middle = len(pending) // 2
            self._store_all(pending[:middle])
            self._store_all(pending[middle:])
            return
        (waiting,) = pending
        if len(waiting.batch.deliveries) < 2:
            self._refuse(waiting, error)
            return
        receipts: list[Receipt] = []
        for half in _halves(waiting):
            self._store_all([half])
            if failed := half.receipts.exception():
                waiting.receipts.set_exception(failed)
                return
            receipts += half.receipts.result()
        waiting.receipts.set_result(receipts)

    def _refuse(self, waiting: PendingBatch, error: Exception) -> None:
        """Refuse an event, unless the database would not take any other one either.

        A database that is read-only since a failover, or lacks a table or a right, does not
        make an event a bad one, and what is refused does not come again.
        """
        if not self._probe_writable(waiting):
            LOG.error("No event can be stored", exc_info=error)
            waiting.receipts.set_exception(Retriable(f"no event can be stored: {error}"))
            return
        LOG.error("An event of host %s cannot be stored", waiting.batch.host, exc_info=error)
        reason = f"the engine cannot store it: {type(error).__name__}: {error}"[:1000]
        refused = Receipt(status=ReceiptStatus.REFUSED, reason=reason)
        waiting.receipts.set_result([refused for _ in waiting.batch.deliveries])

    def _probe_writable(self, waiting: PendingBatch) -> bool:
        """Tell whether a plain event, with an incident, could be stored. None is."""
        try:
            with self._database.writer() as tx:
                self._store_in_transaction(tx, [_part(waiting, [_plain_delivery(waiting)])], set())
                raise _Undo
        except _Undo:
            return True
        except Exception as error:
            LOG.debug("Another event cannot be stored either: %s", error)
            return False

    def _commit(
        self, pending: Sequence[PendingBatch]
    ) -> tuple[list[list[Receipt]], IncidentGrouper]:
        """Store batches in one transaction; retry if another engine changed the same rows."""
        known: set[str] = set()
        for _ in range(MAX_CONFLICT_RETRIES):
            try:
                return self._database.run(self._store_in_transaction, pending, known)
            except Conflict as error:
                # One of the events is stored, or one of the incidents is open, since we looked.
                LOG.debug("Another engine was faster: %s", error)
                with self._database.reader() as tx:
                    known = events.known(tx, _event_ids(pending))
        raise Retriable("other engines were always faster")

    # -- the transaction -----------------------------------------------------------------------
    def _store_in_transaction(
        self, tx: Transaction, pending: Sequence[PendingBatch], known: set[str]
    ) -> tuple[list[list[Receipt]], IncidentGrouper]:
        open_incidents = incidents.open_for(tx, _instances(pending))
        # Not before their rows are locked, so that their time lines are in order.
        now = self._database.now()
        seen = set(known)
        grouper = IncidentGrouper(tx, open_incidents, self.policies, now)
        stored: list[StoredEvent] = []
        answers = []
        for waiting in pending:
            receipts = []
            for delivery in waiting.batch.deliveries:
                receipt = _receipt(delivery, seen)
                receipts.append(receipt)
                if receipt is STORED and not isinstance(delivery, str):
                    seen.add(delivery.event.event_id)
                    incident_id = grouper.add(_corrected(delivery, waiting.correction))
                    stored.append(_stored(delivery, waiting, incident_id, now))
            answers.append(receipts)
        grouper.write()
        events.insert(tx, stored)
        return answers, grouper


STORED = Receipt(status=ReceiptStatus.STORED)
DUPLICATE = Receipt(status=ReceiptStatus.DUPLICATE)


def _receipt(delivery: event_wire.Delivery | str, seen: set[str]) -> Receipt:
    if isinstance(delivery, str):
        return Receipt(status=ReceiptStatus.REFUSED, reason=delivery)
    return DUPLICATE if delivery.event.event_id in seen else STORED


def _stored(
    delivery: event_wire.Delivery, waiting: PendingBatch, incident_id: str | None, now: int
) -> StoredEvent:
    return StoredEvent(
        event=delivery.event,
        decision=delivery.decision,
        incident_id=incident_id,
        spooled_at=delivery.spooled_at,
        sent_at=waiting.batch.sent_at,
        received_at=waiting.received_at,
        stored_at=now,
        corrected_at=delivery.event.occurred_at + waiting.correction,
    )


def _corrected(delivery: event_wire.Delivery, correction: int) -> event_wire.Delivery:
    """Return an event as incidents see it: by the engines' clock, like those of other hosts."""
    if not correction:
        return delivery
    at = delivery.event.occurred_at + correction
    return dataclasses.replace(delivery, event=dataclasses.replace(delivery.event, occurred_at=at))


class _Undo(Exception):
    """Has a transaction rolled back."""


def _part(waiting: PendingBatch, deliveries: Sequence[event_wire.Delivery | str]) -> PendingBatch:
    """Return a waiting with only these deliveries, and receipts of its own."""
    return dataclasses.replace(
        waiting,
        batch=dataclasses.replace(waiting.batch, deliveries=deliveries),
        receipts=concurrent.futures.Future(),
    )


def _halves(waiting: PendingBatch) -> list[PendingBatch]:
    deliveries = waiting.batch.deliveries
    middle = len(deliveries) // 2
    return [_part(waiting, deliveries[:middle]), _part(waiting, deliveries[middle:])]


def _plain_delivery(waiting: PendingBatch) -> event_wire.Delivery:
    """Return what nothing can be wrong with."""
    event = Event(
        event_id=str(uuid.uuid4()),
        host=waiting.batch.host,
        instance=Instance(uuid=str(uuid.uuid4())),
        source="engine",
        type="probe",
        detail="",
        occurred_at=waiting.received_at,
    )
    decision = Decision(action=INCIDENT, severity=INFO, rule="probe")
    return event_wire.Delivery(event=event, decision=decision, spooled_at=waiting.received_at)


def _readable(pending: Sequence[PendingBatch]) -> list[Any]:
    return [
        delivery.event
        for waiting in pending
        for delivery in waiting.batch.deliveries
        if not isinstance(delivery, str)
    ]


def _event_ids(pending: Sequence[PendingBatch]) -> set[str]:
    return {event.event_id for event in _readable(pending)}


def _instances(pending: Sequence[PendingBatch]) -> set[str]:
    return {event.instance.uuid for event in _readable(pending)}
