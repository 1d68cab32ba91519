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
from collections.abc import Callable, Sequence
from typing import Any

from oslo_log import log

from vmmonitor.db import events, incidents
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.incidents import Sorting
from vmmonitor.model.errors import Conflict, Retriable
from vmmonitor.model.event import StoredEvent
from vmmonitor.model.incident import Incident
from vmmonitor.rpc import wire
from vmmonitor.rules.policies import Policies

LOG = log.getLogger(__name__)

#: Tries of a transaction that lost a race against another engine.
RACES = 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """A batch that waits to be stored.

    :param receipts: will hold one receipt per event, or the error.
    """

    batch: wire.Batch
    received_at: int
    receipts: "concurrent.futures.Future[list[wire.Receipt]]"


class Ingest:
    """Stores batches, as many as wait in one transaction."""

    def __init__(
        self,
        database: Database,
        policies: Policies,
        commit_events: int,
        held: Callable[[Sequence[Incident]], None],
    ):
        """Keep the parts; start nothing.

        :param commit_events: greatest number of events in one transaction, unless a single batch
            has more.
        :param held: called after a commit with the incidents whose hold it set.
        """
        self.policies = policies
        self._database = database
        self._commit_events = commit_events
        self._held = held
        self._queue: queue.SimpleQueue[Parcel | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    # -- any thread ----------------------------------------------------------------------------
    def store(self, batch: wire.Batch, timeout: float) -> list[wire.Receipt]:
        """Store a batch; returns when it is committed.

        :param timeout: seconds to wait.
        :raises vmmonitor.model.errors.Retriable: it is not stored, or not in time.
        """
        parcel = Parcel(
            batch=batch, received_at=self._database.now(), receipts=concurrent.futures.Future()
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
            self._store_all(
                [one for one in parcels if one.receipts.set_running_or_notify_cancel()]
            )

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
        """Store parcels together; if that fails for a reason in one of them, one by one."""
        if not parcels:
            return
        try:
            answers, held = self._commit(parcels)
        except Retriable as error:
            for parcel in parcels:
                parcel.receipts.set_exception(error)
        except Exception as error:
            self._store_apart(parcels, error)
        else:
            for parcel, receipts in zip(parcels, answers, strict=True):
                parcel.receipts.set_result(receipts)
            if held:
                self._held(held)

    def _store_apart(self, parcels: Sequence[Parcel], error: Exception) -> None:
        """Find what the database cannot take, and refuse no more than that."""
        if len(parcels) > 1:
            for parcel in parcels:
                self._store_all([parcel])
            return
        (parcel,) = parcels
        deliveries = parcel.batch.deliveries
        if len(deliveries) == 1:
            LOG.error("An event of host %s cannot be stored", parcel.batch.host, exc_info=error)
            reason = f"the engine cannot store it: {type(error).__name__}: {error}"[:1000]
            parcel.receipts.set_result([wire.Receipt(word=wire.REFUSED, reason=reason)])
            return
        singles = [
            dataclasses.replace(
                parcel,
                batch=dataclasses.replace(parcel.batch, deliveries=[delivery]),
                receipts=concurrent.futures.Future(),
            )
            for delivery in deliveries
        ]
        for single in singles:
            self._store_all([single])
        failed = next(
            (one.receipts.exception() for one in singles if one.receipts.exception()), None
        )
        if failed:
            parcel.receipts.set_exception(failed)
        else:
            parcel.receipts.set_result([one.receipts.result()[0] for one in singles])

    def _commit(
        self, parcels: Sequence[Parcel]
    ) -> tuple[list[list[wire.Receipt]], list[Incident]]:
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
    ) -> tuple[list[list[wire.Receipt]], list[Incident]]:
        now = self._database.now()
        seen = set(known)
        sorting = Sorting(tx, incidents.open_for(tx, _instances(parcels)), self.policies, now)
        stored: list[StoredEvent] = []
        answers = []
        for parcel in parcels:
            receipts = []
            for delivery in parcel.batch.deliveries:
                receipt = _receipt(delivery, seen)
                receipts.append(receipt)
                if receipt is STORED and not isinstance(delivery, str):
                    seen.add(delivery.event.event_id)
                    stored.append(_stored(delivery, parcel, sorting.place(delivery), now))
            answers.append(receipts)
        sorting.write()
        events.insert(tx, stored)
        return answers, sorting.held()


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
    )


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
