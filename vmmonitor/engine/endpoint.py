# SPDX-License-Identifier: Apache-2.0
"""Takes what agents send."""

from collections.abc import Sequence

from vmmonitor.db import agents, evidence
from vmmonitor.db.session import Database
from vmmonitor.engine.ingest.writer import EventWriter
from vmmonitor.model.agent import AgentReport
from vmmonitor.model.errors import Conflict, NotFound
from vmmonitor.model.instance import Seen
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire, evidence_wire
from vmmonitor.rpc.engine_api import EngineEndpoint
from vmmonitor.rpc.inventory_wire import InventoryChanges


class Endpoint(EngineEndpoint):
    """Answers EngineAPI."""

    def __init__(self, database: Database, ingest: EventWriter, store_timeout: float):
        """Keep the parts.

        :param store_timeout: seconds that storing a batch may take.
        """
        self._database = database
        self._ingest = ingest
        self._store_timeout = store_timeout

    def store_events(self, batch: event_wire.Batch) -> list[Receipt]:
        """Store a batch; returns after the commit.

        :raises vmmonitor.model.errors.Retriable: it is not stored.
        """
        return self._ingest.store(batch, self._store_timeout)

    def store_report(self, report: AgentReport) -> str:
        """Store an agent's report; returns the digest of the inventory that is stored.

        :raises vmmonitor.model.errors.Retriable: it is not stored.
        """
        return self._database.run(agents.report, report, self._database.now())

    def store_inventory(self, host: str, digest: str, seen: Sequence[Seen]) -> None:
        """Replace a host's inventory.

        :raises vmmonitor.model.errors.Retriable: it is not stored.
        """
        self._database.run(agents.replace_inventory, host, digest, seen, self._database.now())

    def store_inventory_changes(self, changes: InventoryChanges) -> str:
        """Change a host's inventory, if it is the one that the changes are about.

        :returns: digest of the inventory that is stored then.
        :raises vmmonitor.model.errors.Retriable: it is not stored.
        """
        return self._database.run(
            agents.change_inventory,
            changes.host,
            changes.base_digest,
            changes.digest,
            changes.changed,
            changes.gone,
            self._database.now(),
        )

    def store_evidence(self, exhibit: evidence_wire.Exhibit) -> Receipt:
        """Store an item of evidence; one that is stored already, or whose event is not, is told.

        :raises vmmonitor.model.errors.Retriable: it is not stored.
        """
        try:
            self._database.run(evidence.insert, exhibit.host, exhibit.event_id, exhibit.item)
        except Conflict:
            return Receipt(status=ReceiptStatus.DUPLICATE)
        except NotFound:
            return Receipt(status=ReceiptStatus.UNKNOWN)
        return Receipt(status=ReceiptStatus.STORED)
