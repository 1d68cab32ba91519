# SPDX-License-Identifier: Apache-2.0
"""Answers the calls of agents."""

from collections.abc import Callable, Sequence
from typing import Any

from vmmonitor.db import agents, evidence, hosts, recoveries
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.ingest import inventory_store
from vmmonitor.engine.ingest.writer import EventWriter
from vmmonitor.model.agent import AgentReport
from vmmonitor.model.errors import Conflict, NotFound
from vmmonitor.model.instance import Seen
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire, evidence_wire
from vmmonitor.rpc.engine_api import EngineEndpoint
from vmmonitor.rpc.guard import Caller
from vmmonitor.rpc.inventory_wire import InventoryChanges


class AgentCallEndpoint(EngineEndpoint):
    """Stores the events, reports, inventories and evidence that agents send."""

    def __init__(self, database: Database, writer: EventWriter, store_timeout: float):
        """Create an endpoint.

        :param store_timeout: maximum time to store a batch, in seconds.
        """
        self._database = database
        self._writer = writer
        self._store_timeout = store_timeout

    def read_time(self) -> int:
        """Return the engines' time, in microseconds since the epoch."""
        return self._database.now()

    def is_current(self, host: str, instance_uuid: str, recovery_id: str, token: int) -> bool:
        """Return whether a recovery is running, with this token and a valid lease, on the host.

        :raises vmmonitor.model.errors.Retriable: the database did not answer.
        """
        with self._database.reader() as tx:
            return recoveries.is_current(
                tx,
                recovery_id,
                host=host,
                instance_uuid=instance_uuid,
                token=token,
                now=self._database.now(),
            )

    def store_events(self, batch: event_wire.Batch) -> list[Receipt]:
        """Store a batch; returns after the commit.

        :raises vmmonitor.model.errors.Retriable: nothing was stored.
        """
        return self._writer.store(batch, self._store_timeout)

    def store_report(self, report: AgentReport, caller: Caller) -> str:
        """Store an agent's report; returns the digest of the stored inventory.

        :raises vmmonitor.model.errors.Retriable: nothing was stored.
        :raises vmmonitor.model.errors.Conflict: the call is not newer than the previous one.
        """
        return self._run_in_order(caller, agents.store_report, report)

    def store_inventory(
        self, host: str, digest: str, seen: Sequence[Seen], caller: Caller
    ) -> None:
        """Replace a host's inventory.

        :raises vmmonitor.model.errors.Retriable: nothing was stored.
        :raises vmmonitor.model.errors.Conflict: the call is not newer than the previous one.
        """
        self._run_in_order(caller, inventory_store.replace, host, digest, seen)

    def store_inventory_changes(self, changes: InventoryChanges, caller: Caller) -> str:
        """Apply a delta to a host's inventory, if it applies to the stored one.

        :returns: digest of the inventory that is stored now.
        :raises vmmonitor.model.errors.Retriable: nothing was stored.
        :raises vmmonitor.model.errors.Conflict: the call is not newer than the previous one.
        """
        return self._run_in_order(caller, inventory_store.change, changes)

    def _run_in_order(self, caller: Caller, function: Callable[..., Any], *args: Any) -> Any:
        """Call ``function(tx, *args, now)``; a signed call must be newer than the previous one."""
        now = self._database.now()

        def run(tx: Transaction) -> Any:
            if caller.key_id:
                hosts.record_call(tx, caller.host, caller.key_id, caller.sent_at, now)
            return function(tx, *args, now)

        return self._database.run(run)

    def store_evidence(self, exhibit: evidence_wire.Exhibit) -> Receipt:
        """Store an item of evidence and return its receipt.

        :raises vmmonitor.model.errors.Retriable: nothing was stored.
        """
        try:
            self._database.run(evidence.insert, exhibit.host, exhibit.event_id, exhibit.item)
        except Conflict:
            return Receipt(status=ReceiptStatus.DUPLICATE)
        except NotFound:
            return Receipt(status=ReceiptStatus.UNKNOWN)
        return Receipt(status=ReceiptStatus.STORED)
