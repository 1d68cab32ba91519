# SPDX-License-Identifier: Apache-2.0
"""Stores the events that agents send. In the engine, read this module first.

    RPC threads --store()--> queue --> thread "ingest": one transaction for all waiting batches
         ^                                  |                                (transaction.py)
         '--- receipts, after the commit ---+--> recovery queue: incidents with their holds

Batches that arrive during a commit share the next one. Nothing is recovered here: an incident is
handed to the recovery queue, which starts its recovery when its hold is over.
"""

import concurrent.futures
import threading
from collections.abc import Sequence
from typing import Protocol

from oslo_log import log

from vmmonitor.batch_queue import BatchQueue
from vmmonitor.db.session import Database
from vmmonitor.engine.ingest import bisection, transaction
from vmmonitor.engine.ingest.clock_offsets import ClockOffsets
from vmmonitor.engine.ingest.pending_batch import PendingBatch, StoreResult
from vmmonitor.model.errors import Retriable
from vmmonitor.model.incident import Incident
from vmmonitor.model.receipt import Receipt
from vmmonitor.rpc import event_wire
from vmmonitor.rules.policies import Policies

LOG = log.getLogger(__name__)


class RecoveryQueue(Protocol):
    """Receives the results of a commit that concern recoveries."""

    def enqueue(self, incidents: Sequence[Incident]) -> None:
        """Accept the incidents whose hold has just been set."""

    def wake(self) -> None:
        """Look for due recoveries soon: a concurrency slot became free."""


class EventWriter:
    """Stores batches in a thread of its own, all that wait in one transaction.

    :ivar policies: the policies in force; replaced at a reload.
    """

    def __init__(
        self,
        *,
        database: Database,
        policies: Policies,
        commit_events: int,
        recovery_queue: RecoveryQueue,
    ):
        """Create a writer; ``start`` starts its thread.

        :param commit_events: maximum number of events before a transaction takes no further batch;
            a batch is never split.
        :param recovery_queue: receives, after each commit, the incidents whose hold was set.
        """
        self.policies = policies
        self._database = database
        self._commit_events = commit_events
        self._recovery_queue = recovery_queue
        self._clock_offsets = ClockOffsets(database)
        self._queue: BatchQueue[PendingBatch] = BatchQueue()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    # -- any thread ----------------------------------------------------------------------------
    def store(self, batch: event_wire.Batch, timeout: float) -> list[Receipt]:
        """Store a batch; returns after the commit.

        :param timeout: maximum time to wait, in seconds.
        :raises vmmonitor.model.errors.Retriable: the batch was not stored, or not in time.
        """
        received_at = self._database.now()
        pending = PendingBatch(
            batch=batch,
            received_at=received_at,
            clock_offset=self._clock_offsets.get(batch.host, batch.sent_at, received_at),
        )
        self._queue.put(pending, weight=len(batch.deliveries))
        try:
            return pending.receipts.result(timeout)
        except concurrent.futures.TimeoutError as error:
            # The agent sends the batch again, so this copy need not be stored.
            pending.receipts.cancel()
            raise Retriable("the database took too long") from error

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop the thread after it has stored the waiting batches.

        :param timeout: maximum time to wait for that, in seconds.
        """
        self._queue.close()
        self._thread.join(timeout)

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        while not self._queue.is_closed:
            pending = self._queue.get_batch(self._commit_events)
            awaited = [each for each in pending if each.receipts.set_running_or_notify_cancel()]
            try:
                self._write(awaited)
            except Exception:
                # An agent sends a batch without a receipt again; without this thread none of the
                # agents would get a receipt.
                LOG.exception("Unexpected error in the ingest thread; continuing")

    def _write(self, pending: Sequence[PendingBatch]) -> None:
        """Store batches together; if one of their events causes an error, bisect them."""
        if not pending:
            return
        try:
            result = transaction.commit(self._database, pending, self.policies)
        except Retriable as error:
            for waiting in pending:
                waiting.receipts.set_exception(error)
        except Exception as error:
            bisection.bisect(pending, error, self._write, self._database, self.policies)
        else:
            self._acknowledge(pending, result)

    def _acknowledge(self, pending: Sequence[PendingBatch], result: StoreResult) -> None:
        """Return the receipts, then hand the incidents over to the recovery queue."""
        for waiting, receipts in zip(pending, result.receipts, strict=True):
            waiting.receipts.set_result(receipts)
        if result.newly_held:
            self._recovery_queue.enqueue(result.newly_held)
        if result.freed_slot:
            self._recovery_queue.wake()
