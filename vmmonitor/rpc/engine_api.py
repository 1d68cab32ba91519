# SPDX-License-Identifier: Apache-2.0
"""What an agent can ask of an engine."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import oslo_messaging

from vmmonitor.model.agent import AgentReport
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.evidence import Item
from vmmonitor.model.instance import Seen
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire, evidence_wire, fields, inventory_wire
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.inventory_wire import InventoryChanges

#: What an engine answers. A call asks for the version that first had it, so that an agent that is
#: newer than the engine can make the others.
VERSION = "1.1"


class EngineAPI:
    """Calls any engine. Version history:

    * 1.0: report_events, report_agent, report_inventory.
    * 1.1: report_inventory_changes, report_evidence.
    """

    def __init__(self, transport: oslo_messaging.Transport):
        """Address the engines' common queue."""
        target = oslo_messaging.Target(topic=transports.ENGINE_TOPIC, version="1.0")
        self._client = oslo_messaging.get_rpc_client(transport, target, retry=0)

    def report_events(
        self, host: str, sent_at: int, deliveries: Sequence[Mapping[str, Any]], timeout: float
    ) -> list[Receipt]:
        """Hand over a batch; returns when it is committed in the database, or refused.

        :param deliveries: forms of deliveries (``wire.write_delivery``), in order.
        :param timeout: seconds to wait for the receipts.
        :returns: one receipt per event, in the batch's order.
        :raises vmmonitor.model.errors.Retriable: no receipt came; the batch may or may not be
            stored, so send it again.
        :raises vmmonitor.model.errors.InvalidMessage: the answer makes no sense.
        """
        form = event_wire.write_batch(host, sent_at, deliveries)
        with transports.retriable():
            answer = self._client.prepare(timeout=timeout).call({}, "report_events", batch=form)
        return event_wire.read_receipts(answer, len(deliveries))

    def report_agent(self, report: AgentReport, timeout: float) -> str:
        """Tell the agent's own state.

        :returns: digest of the inventory that the engine holds for this host.
        :raises vmmonitor.model.errors.Retriable: no answer came.
        """
        form = event_wire.write_report(report)
        with transports.retriable():
            answer = self._client.prepare(timeout=timeout).call({}, "report_agent", report=form)
        fields.check_schema(answer)
        return str(answer.get("inventory_digest", ""))

    def report_inventory(
        self, host: str, digest: str, seen: Sequence[Seen], timeout: float
    ) -> None:
        """Tell everything that is on the host.

        :raises vmmonitor.model.errors.Retriable: no answer came.
        """
        form = inventory_wire.write(host, digest, seen)
        with transports.retriable():
            self._client.prepare(timeout=timeout).call({}, "report_inventory", inventory=form)

    def report_inventory_changes(self, changes: InventoryChanges, timeout: float) -> str:
        """Tell what changed on the host.

        :returns: digest of the inventory that the engine holds then: ``changes.digest``, or
            another one if it did not hold what the changes are about; tell the whole then.
        :raises vmmonitor.rpc.transport.Unsupported: the engine is older; tell the whole.
        :raises vmmonitor.model.errors.Retriable: no answer came.
        """
        form = inventory_wire.write_changes(changes)
        with transports.retriable():
            client = self._client.prepare(timeout=timeout, version="1.1")
            answer = client.call({}, "report_inventory_changes", changes=form)
        fields.check_schema(answer)
        return str(answer.get("inventory_digest", ""))

    def report_evidence(self, host: str, event_id: str, item: Item, timeout: float) -> Receipt:
        """Hand over an item of evidence; returns when it is committed, or will never be.

        :returns: what became of it; ``evidence_wire.UNKNOWN`` if the engine lacks the event.
        :raises vmmonitor.model.errors.Retriable: no receipt came, so send it again.
        :raises vmmonitor.model.errors.InvalidMessage: the answer makes no sense.
        """
        form = evidence_wire.write(host, event_id, item)
        with transports.retriable():
            client = self._client.prepare(timeout=timeout, version="1.1")
            answer = client.call({}, "report_evidence", evidence=form)
        return evidence_wire.read_receipt(answer)


class EngineEndpoint(abc.ABC):
    """Answers EngineAPI; the engine fills in what is to be done."""

    target = oslo_messaging.Target(version=VERSION)

    @abc.abstractmethod
    def store_events(self, batch: event_wire.Batch) -> list[Receipt]:
        """Store a batch and return one receipt per event; raises if nothing is stored."""

    @abc.abstractmethod
    def store_report(self, report: AgentReport) -> str:
        """Store an agent's report; returns the digest of the inventory that is stored."""

    @abc.abstractmethod
    def store_inventory(self, host: str, digest: str, seen: Sequence[Seen]) -> None:
        """Replace a host's inventory."""

    def store_inventory_changes(self, changes: InventoryChanges) -> str:
        """Change a host's inventory, if it is the one that the changes are about.

        :returns: digest of the inventory that is stored then; empty asks for the whole.
        """
        return ""

    @abc.abstractmethod
    def store_evidence(self, exhibit: evidence_wire.Exhibit) -> Receipt:
        """Store an item of evidence; raises if it is not stored and may be later."""

    def report_events(self, _context: Mapping[str, Any], batch: Any) -> dict[str, Any]:
        """Read the batch, have it stored, answer the receipts."""
        return event_wire.write_receipts(self.store_events(event_wire.read_batch(batch)))

    def report_agent(self, _context: Mapping[str, Any], report: Any) -> dict[str, Any]:
        """Read the report, have it stored, answer the digest."""
        digest = self.store_report(event_wire.read_report(report))
        return {"schema": fields.SCHEMA, "inventory_digest": digest}

    def report_inventory(self, _context: Mapping[str, Any], inventory: Any) -> dict[str, Any]:
        """Read the inventory and have it stored."""
        self.store_inventory(*inventory_wire.read(inventory))
        return {"schema": fields.SCHEMA}

    def report_inventory_changes(
        self, _context: Mapping[str, Any], changes: Any
    ) -> dict[str, Any]:
        """Read the changes, have them stored, answer the digest."""
        digest = self.store_inventory_changes(inventory_wire.read_changes(changes))
        return {"schema": fields.SCHEMA, "inventory_digest": digest}

    def report_evidence(self, _context: Mapping[str, Any], evidence: Any) -> dict[str, Any]:
        """Read the item, have it stored, answer the receipt; refuse one that cannot be read."""
        try:
            receipt = self.store_evidence(evidence_wire.read(evidence))
        except InvalidMessage as error:
            receipt = Receipt(status=ReceiptStatus.REFUSED, reason=str(error))
        return evidence_wire.write_receipt(receipt)
