# SPDX-License-Identifier: Apache-2.0
"""Finds the event that the database does not accept, and rejects only that one.

An agent deletes an event that was rejected. A database that accepts no event at all, for example
because it is read-only since a failover or lacks a table or a privilege, must therefore not lead
to a rejection.
"""

import uuid
from collections.abc import Callable, Sequence

from oslo_log import log

from vmmonitor.db.session import Database
from vmmonitor.engine.ingest.pending_batch import PendingBatch
from vmmonitor.engine.ingest.transaction import store_in_transaction
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import INCIDENT, INFO, Decision, Event
from vmmonitor.model.instance import Instance
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire
from vmmonitor.rules.policies import Policies

LOG = log.getLogger(__name__)

#: Maximum length of the reason in a receipt, in characters.
MAX_REASON = 1000


class _RollBack(Exception):
    """Rolls back the transaction of a probe."""


def bisect(
    pending: Sequence[PendingBatch],
    error: Exception,
    write: Callable[[Sequence[PendingBatch]], None],
    database: Database,
    policies: Policies,
) -> None:
    """Store batches that cannot be stored together in halves, down to the event that fails.

    :param error: why the batches could not be stored.
    :param write: stores batches and sets their receipts; calls this function on an error.
    """
    if len(pending) > 1:
        middle = len(pending) // 2
        write(pending[:middle])
        write(pending[middle:])
        return
    (whole,) = pending
    middle = len(whole.deliveries) // 2
    if not middle:
        _reject(whole, error, database, policies)
        return
    receipts: list[Receipt] = []
    for deliveries in (whole.deliveries[:middle], whole.deliveries[middle:]):
        half = whole.part(deliveries)
        write([half])
        if failed := half.receipts.exception():
            whole.receipts.set_exception(failed)
            return
        receipts += half.receipts.result()
    whole.receipts.set_result(receipts)


def _reject(
    pending: PendingBatch, error: Exception, database: Database, policies: Policies
) -> None:
    """Answer a batch of at most one event that could not be stored.

    The receipt is a refusal if the database accepts another event, and otherwise Retriable.

    :param error: why the event could not be stored.
    """
    host = pending.batch.host
    event_id = next((event.event_id for event in pending.events()), "without id")
    if not _probe_writable(pending, database, policies):
        LOG.error(
            "The database accepts no events; event %s from host %s waits in its spool",
            event_id,
            host,
            exc_info=error,
        )
        pending.receipts.set_exception(Retriable(f"no event can be stored: {error}"))
        return
    LOG.error("Rejected event %s from host %s: %s", event_id, host, error, exc_info=error)
    reason = f"the engine cannot store it: {type(error).__name__}: {error}"[:MAX_REASON]
    refused = Receipt(status=ReceiptStatus.REFUSED, reason=reason)
    pending.receipts.set_result([refused for _ in pending.deliveries])


def _probe_writable(pending: PendingBatch, database: Database, policies: Policies) -> bool:
    """Return whether the database accepts writes, by storing a probe event and rolling back."""
    probe = pending.part([_probe_delivery(pending)])
    try:
        with database.writer() as tx:
            store_in_transaction(tx, [probe], (), policies, database.now)
            raise _RollBack
    except _RollBack:
        return True
    except Exception as error:
        LOG.warning("The database does not accept a probe event: %s", error)
        return False


def _probe_delivery(pending: PendingBatch) -> event_wire.Delivery:
    """Return a minimal valid event that opens an incident."""
    event = Event(
        event_id=str(uuid.uuid4()),
        host=pending.batch.host,
        instance=Instance(uuid=str(uuid.uuid4())),
        source="engine",
        type="probe",
        detail="",
        occurred_at=pending.received_at,
    )
    decision = Decision(action=INCIDENT, severity=INFO, rule="probe")
    return event_wire.Delivery(event=event, decision=decision, spooled_at=pending.received_at)
