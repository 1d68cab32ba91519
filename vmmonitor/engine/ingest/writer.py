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
from collections.abc import Callable, Sequence
from typing import Any

from oslo_log import log

from vmmonitor.db import events, incidents
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.ingest.clock_offsets import Corrections
from vmmonitor.engine.ingest.grouping import Sorting
from vmmonitor.model.errors import Conflict, Retriable
from vmmonitor.model.event import INCIDENT, INFO, Decision, Event, StoredEvent
from vmmonitor.model.incident import Incident
from vmmonitor.model.instance import Instance
from vmmonitor.rpc import wire
from vmmonitor.rules.policies import Policies

LOG = log.getLogger(__name__)

#: Tries of a transaction that lost a race against another engine.
RACES = 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """A batch that waits to be stored.

    :param correction: microseconds to add to its host's times.
    :param receipts: will hold one receipt per event, or the error.
    """

    batch: wire.Batch
    received_at: int
    correction: int
    receipts: "concurrent.futures.Future[list[wire.Receipt]]"


class Ingest:
    """Stores batches, as many as wait in one transaction."""

    def __init__(
        self,
        database: Database,
        policies: Policies,
        commit_events: int,
        held: Callable[[Sequence[Incident]], None],
        ended: Callable[[], None] = lambda: None,
    ):
        """Keep the parts; start nothing.

        :param commit_events: number of events with which a transaction takes no further batch;
            a batch is never parted.
        :param held: called after a commit with the incidents whose hold it set.
        :param ended: called after a commit that ended a recovery.
        """
        self.policies = policies
        self._database = database
        self._commit_events = commit_events
        self._held = held
        self._ended = ended
        self._corrections = Corrections(database)
        self._queue: queue.SimpleQueue[Parcel | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    # -- any thread ----------------------------------------------------------------------------
    def store(self, batch: wire.Batch, timeout: float) -> list[wire.Receipt]:
        """Store a batch; returns when it is committed.

        :param timeout: seconds to wait.
        :raises vmmonitor.model.errors.Retriable: it is not stored, or not in time.
        """
        received_at = self._database.now()
        parcel = Parcel(
            batch=batch,
            received_at=received_at,
            correction=self._corrections.of(batch.host, batch.sent_at, received_at),
            receipts=concurrent.futures.Future(),
        )
        self._queue.put(parcel)
        try:
            return parcel.receipts.result(timeout)
        except concurrent.futures.TimeoutError as error:
            # Nobody waits for it any more: it need not be stored.
            parcel.receipts.cancel()
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
            parcels, going = self._take()
            waited_for = [one for one in parcels if one.receipts.set_running_or_notify_cancel()]
            try:
                self._store_all(waited_for)
            except Exception:
                # Whoever has no receipt yet sends again; without this thread nobody would get any.
                LOG.exception("The thread of ingest goes on after an error")

    def _take(self) -> tuple[list[Parcel], bool]:
        """Return what waits, and whether to go on."""
        parcels: list[Parcel] = []
        count = 0
        while not parcels or (count < self._commit_events and not self._queue.empty()):
            parcel = self._queue.get()
            if parcel is None:
                return parcels, False
            parcels.append(parcel)
            count += len(parcel.batch.deliveries)
        return parcels, True

    def _store_all(self, parcels: Sequence[Parcel]) -> None:
        """Store parcels together; if that fails for a reason in one of them, apart."""
        if not parcels:
            return
        try:
            answers, sorting = self._commit(parcels)
        except Retriable as error:
            for parcel in parcels:
                parcel.receipts.set_exception(error)
        except Exception as error:
            self._store_apart(parcels, error)
        else:
            for parcel, receipts in zip(parcels, answers, strict=True):
                parcel.receipts.set_result(receipts)
            if held := sorting.held():
                self._held(held)
            if sorting.ended:
                self._ended()

    def _store_apart(self, parcels: Sequence[Parcel], error: Exception) -> None:
        """Find, by halves, what the database cannot take, and refuse no more than that."""
        if len(parcels) > 1:
            middle = len(parcels) // 2
            self._store_all(parcels[:middle])
            self._store_all(parcels[middle:])
            return
        (parcel,) = parcels
        if len(parcel.batch.deliveries) < 2:
            self._refuse(parcel, error)
            return
        receipts: list[wire.Receipt] = []
        for half in _halves(parcel):
            self._store_all([half])
            if failed := half.receipts.exception():
                parcel.receipts.set_exception(failed)
                return
            receipts += half.receipts.result()
        parcel.receipts.set_result(receipts)

    def _refuse(self, parcel: Parcel, error: Exception) -> None:
        """Refuse an event, unless the database would not take any other one either.

        A database that is read-only since a failover, or lacks a table or a right, does not
        make an event a bad one, and what is refused does not come again.
        """
        if not self._takes_another(parcel):
            LOG.error("No event can be stored", exc_info=error)
            parcel.receipts.set_exception(Retriable(f"no event can be stored: {error}"))
            return
        LOG.error("An event of host %s cannot be stored", parcel.batch.host, exc_info=error)
        reason = f"the engine cannot store it: {type(error).__name__}: {error}"[:1000]
        refused = wire.Receipt(word=wire.REFUSED, reason=reason)
        parcel.receipts.set_result([refused for _ in parcel.batch.deliveries])

    def _takes_another(self, parcel: Parcel) -> bool:
        """Tell whether a plain event, with an incident, could be stored. None is."""
        try:
            with self._database.writer() as tx:
                self._absorb(tx, [_part(parcel, [_plain_delivery(parcel)])], set())
                raise _Undo
        except _Undo:
            return True
        except Exception as error:
            LOG.debug("Another event cannot be stored either: %s", error)
            return False

    def _commit(self, parcels: Sequence[Parcel]) -> tuple[list[list[wire.Receipt]], Sorting]:
        """Store parcels in one transaction; again, if another engine was faster."""
        known: set[str] = set()
        for _ in range(RACES):
            try:
                return self._database.run(self._absorb, parcels, known)
            except Conflict as error:
                # One of the events is stored, or one of the incidents is open, since we looked.
                LOG.debug("Another engine was faster: %s", error)
                with self._database.reader() as tx:
                    known = events.known(tx, _event_ids(parcels))
        raise Retriable("other engines were always faster")

    # -- the transaction -----------------------------------------------------------------------
    def _absorb(
        self, tx: Transaction, parcels: Sequence[Parcel], known: set[str]
    ) -> tuple[list[list[wire.Receipt]], Sorting]:
        open_incidents = incidents.open_for(tx, _instances(parcels))
        # Not before their rows are locked, so that their time lines are in order.
        now = self._database.now()
        seen = set(known)
        sorting = Sorting(tx, open_incidents, self.policies, now)
        stored: list[StoredEvent] = []
        answers = []
        for parcel in parcels:
            receipts = []
            for delivery in parcel.batch.deliveries:
                receipt = _receipt(delivery, seen)
                receipts.append(receipt)
                if receipt is STORED and not isinstance(delivery, str):
                    seen.add(delivery.event.event_id)
                    incident_id = sorting.place(_corrected(delivery, parcel.correction))
                    stored.append(_stored(delivery, parcel, incident_id, now))
            answers.append(receipts)
        sorting.write()
        events.insert(tx, stored)
        return answers, sorting


STORED = wire.Receipt(word=wire.STORED)
DUPLICATE = wire.Receipt(word=wire.DUPLICATE)


def _receipt(delivery: wire.Delivery | str, seen: set[str]) -> wire.Receipt:
    if isinstance(delivery, str):
        return wire.Receipt(word=wire.REFUSED, reason=delivery)
    return DUPLICATE if delivery.event.event_id in seen else STORED


def _stored(
    delivery: wire.Delivery, parcel: Parcel, incident_id: str | None, now: int
) -> StoredEvent:
    return StoredEvent(
        event=delivery.event,
        decision=delivery.decision,
        incident_id=incident_id,
        spooled_at=delivery.spooled_at,
        sent_at=parcel.batch.sent_at,
        received_at=parcel.received_at,
        stored_at=now,
        corrected_at=delivery.event.occurred_at + parcel.correction,
    )


def _corrected(delivery: wire.Delivery, correction: int) -> wire.Delivery:
    """Return an event as incidents see it: by the engines' clock, like those of other hosts."""
    if not correction:
        return delivery
    at = delivery.event.occurred_at + correction
    return dataclasses.replace(delivery, event=dataclasses.replace(delivery.event, occurred_at=at))


class _Undo(Exception):
    """Has a transaction rolled back."""


def _part(parcel: Parcel, deliveries: Sequence[wire.Delivery | str]) -> Parcel:
    """Return a parcel with only these deliveries, and receipts of its own."""
    return dataclasses.replace(
        parcel,
        batch=dataclasses.replace(parcel.batch, deliveries=deliveries),
        receipts=concurrent.futures.Future(),
    )


def _halves(parcel: Parcel) -> list[Parcel]:
    deliveries = parcel.batch.deliveries
    middle = len(deliveries) // 2
    return [_part(parcel, deliveries[:middle]), _part(parcel, deliveries[middle:])]


def _plain_delivery(parcel: Parcel) -> wire.Delivery:
    """Return what nothing can be wrong with."""
    event = Event(
        event_id=str(uuid.uuid4()),
        host=parcel.batch.host,
        instance=Instance(uuid=str(uuid.uuid4())),
        source="engine",
        type="probe",
        detail="",
        occurred_at=parcel.received_at,
    )
    decision = Decision(action=INCIDENT, severity=INFO, rule="probe")
    return wire.Delivery(event=event, decision=decision, spooled_at=parcel.received_at)


def _readable(parcels: Sequence[Parcel]) -> list[Any]:
    return [
        delivery.event
        for parcel in parcels
        for delivery in parcel.batch.deliveries
        if not isinstance(delivery, str)
    ]


def _event_ids(parcels: Sequence[Parcel]) -> set[str]:
    return {event.event_id for event in _readable(parcels)}


def _instances(parcels: Sequence[Parcel]) -> set[str]:
    return {event.instance.uuid for event in _readable(parcels)}
