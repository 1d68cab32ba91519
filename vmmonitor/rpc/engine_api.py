# SPDX-License-Identifier: Apache-2.0
"""Define the calls from an agent to the engines."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import oslo_messaging

from vmmonitor.model.agent import AgentReport
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.evidence import Item
from vmmonitor.model.instance import Seen
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire, evidence_wire, fields, inventory_wire
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.client import CallClient, CallSigner
from vmmonitor.rpc.dispatch import exposed
from vmmonitor.rpc.guard import Caller, read_caller
from vmmonitor.rpc.inventory_wire import InventoryChanges

#: Version that an engine answers. Each call names the version that introduced it, so that an agent
#: that is newer than the engine can make the other calls.
VERSION = "2.0"


class EngineTimeListener(Protocol):
    """Receives the engines' time that comes with answers (``agent.engine_clock.EngineClock``)."""

    def read_ticks(self) -> int:
        """Return the host's clock that never stops, in microseconds."""

    def add_sample(self, engine_time: int, sent: int, received: int) -> None:
        """Add a sample of the engines' time.

        :param engine_time: the engines' time between ``sent`` and ``received``; microseconds since
            the epoch.
        :param sent: ``read_ticks`` before the call.
        :param received: ``read_ticks`` after the call.
        """


class EngineAPI:
    """Call any engine. Version history:

    * 1.0: report_events, report_agent, report_inventory.
    * 1.1: report_inventory_changes, report_evidence.
    * 2.0: check_recovery; the answers of report_agent and check_recovery have the engines' time.
    """

    def __init__(
        self,
        transport: oslo_messaging.Transport,
        clock: EngineTimeListener | None = None,
        signer: CallSigner | None = None,
    ):
        """Address the engines' common queue.

        :param clock: receives the engines' time that comes with answers.
        :param signer: signs the calls and verifies the answers; None: they are not signed.
        """
        target = oslo_messaging.Target(topic=transports.ENGINE_TOPIC, version=VERSION)
        self._client = CallClient(transport, target, signer)
        self._clock = clock

    def report_events(
        self, host: str, sent_at: int, deliveries: Sequence[Mapping[str, Any]], timeout: float
    ) -> list[Receipt]:
        """Send a batch; return when it is committed in the database, or refused.

        :param deliveries: deliveries in wire format (``event_wire.write_delivery``), in order.
        :param timeout: maximum time to wait for the receipts, in seconds.
        :returns: one receipt per event, in the order of the batch.
        :raises vmmonitor.model.errors.Retriable: no receipt arrived. The batch may or may not be
            stored: send it again.
        :raises vmmonitor.model.errors.InvalidMessage: the answer is invalid.
        """
        form = event_wire.write_batch(host, sent_at, deliveries)
        answer = self._client.call(host, "report_events", timeout, batch=form)
        return event_wire.read_receipts(answer, len(deliveries))

    def report_agent(self, report: AgentReport, timeout: float) -> str:
        """Send the agent's report of itself.

        :returns: digest of the stored inventory of this host.
        :raises vmmonitor.model.errors.Retriable: no answer arrived.
        """
        form = event_wire.write_report(report)
        answer = self._call_timed(report.host, "report_agent", timeout, report=form)
        return str(answer.get("inventory_digest", ""))

    def check_recovery(
        self, host: str, instance_uuid: str, recovery_id: str, token: int, timeout: float
    ) -> bool:
        """Return whether a recovery is still current: running, with this token and a valid lease.

        :raises vmmonitor.model.errors.Retriable: no answer arrived.
        :raises vmmonitor.model.errors.InvalidMessage: the answer is invalid.
        """
        request = {
            "schema": fields.SCHEMA,
            "host": host,
            "instance_uuid": instance_uuid,
            "recovery_id": recovery_id,
            "token": token,
        }
        answer = self._call_timed(host, "check_recovery", timeout, request=request)
        return answer.get("current") is True

    def _call_timed(
        self, host: str, method: str, timeout: float, **arguments: Any
    ) -> Mapping[str, Any]:
        """Return the answer of a call, and give the engines' time in it to the clock."""
        sent = self._clock.read_ticks() if self._clock else 0
        answer = self._client.call(host, method, timeout, **arguments)
        received = self._clock.read_ticks() if self._clock else 0
        fields.check_schema(answer)
        engine_time = fields.time(answer, "engine_time")
        if self._clock:
            self._clock.add_sample(engine_time, sent, received)
        return dict(answer)

    def report_inventory(
        self, host: str, digest: str, seen: Sequence[Seen], timeout: float
    ) -> None:
        """Send the whole inventory of the host.

        :raises vmmonitor.model.errors.Retriable: no answer arrived.
        """
        form = inventory_wire.write(host, digest, seen)
        self._client.call(host, "report_inventory", timeout, inventory=form)

    def report_inventory_changes(self, changes: InventoryChanges, timeout: float) -> str:
        """Send the changes of the host's inventory.

        :returns: digest of the inventory that is stored afterwards. If it is not
            ``changes.digest``, the changes did not apply: send the whole inventory.
        :raises vmmonitor.rpc.transport.Unsupported: the engine is older: send the whole inventory.
        :raises vmmonitor.model.errors.Retriable: no answer arrived.
        """
        form = inventory_wire.write_changes(changes)
        answer = self._client.call(changes.host, "report_inventory_changes", timeout, changes=form)
        fields.check_schema(answer)
        return str(answer.get("inventory_digest", ""))

    def report_evidence(self, host: str, event_id: str, item: Item, timeout: float) -> Receipt:
        """Send an item of evidence; return when it is committed, or refused.

        :returns: its receipt; ``ReceiptStatus.UNKNOWN`` if the engine does not have the event.
        :raises vmmonitor.model.errors.Retriable: no receipt arrived: send it again.
        :raises vmmonitor.model.errors.InvalidMessage: the answer is invalid.
        """
        form = evidence_wire.write(host, event_id, item)
        answer = self._client.call(host, "report_evidence", timeout, evidence=form)
        return evidence_wire.read_receipt(answer)


class EngineEndpoint(abc.ABC):
    """Answer the calls of EngineAPI; the engine implements the actions."""

    target = oslo_messaging.Target(version=VERSION)

    @abc.abstractmethod
    def read_time(self) -> int:
        """Return the engines' time, in microseconds since the epoch."""

    @abc.abstractmethod
    def is_current(self, host: str, instance_uuid: str, recovery_id: str, token: int) -> bool:
        """Return whether a recovery is running, with this token and a valid lease, on the host.

        :raises vmmonitor.model.errors.Retriable: the database did not answer.
        """

    @abc.abstractmethod
    def store_events(self, batch: event_wire.Batch) -> list[Receipt]:
        """Store a batch, and return one receipt per event; raise if nothing is stored."""

    @abc.abstractmethod
    def store_report(self, report: AgentReport, caller: Caller) -> str:
        """Store an agent's report, and return the digest of the stored inventory."""

    @abc.abstractmethod
    def store_inventory(
        self, host: str, digest: str, seen: Sequence[Seen], caller: Caller
    ) -> None:
        """Replace a host's inventory."""

    def store_inventory_changes(self, changes: InventoryChanges, caller: Caller) -> str:
        """Change a host's inventory, if the changes apply to the stored one.

        :returns: digest of the inventory that is stored afterwards; empty requests the whole one.
        """
        return ""

    @abc.abstractmethod
    def store_evidence(self, exhibit: evidence_wire.Exhibit) -> Receipt:
        """Store an item of evidence; raise if it may be stored later."""

    @exposed
    def report_events(self, context: Mapping[str, Any], batch: Any) -> dict[str, Any]:
        """Read the batch, store it, and return the receipts."""
        form = event_wire.read_batch(batch, authenticated=bool(read_caller(context).host))
        return event_wire.write_receipts(self.store_events(form))

    @exposed
    def report_agent(self, context: Mapping[str, Any], report: Any) -> dict[str, Any]:
        """Read the report, store it, and return the digest."""
        digest = self.store_report(event_wire.read_report(report), read_caller(context))
        return {
            "schema": fields.SCHEMA,
            "inventory_digest": digest,
            "engine_time": self.read_time(),
        }

    @exposed
    def check_recovery(self, _context: Mapping[str, Any], request: Any) -> dict[str, Any]:
        """Read the request, and return whether the recovery is current."""
        fields.check_schema(request)
        host = fields.host(request)
        instance_uuid = fields.uuid(request, "instance_uuid")
        recovery_id = fields.uuid(request, "recovery_id")
        token = fields.number(request, "token", None)
        # The time is read first: the agent must not take it for later than it is.
        engine_time = self.read_time()
        current = self.is_current(host, instance_uuid, recovery_id, token)
        return {"schema": fields.SCHEMA, "current": current, "engine_time": engine_time}

    @exposed
    def report_inventory(self, context: Mapping[str, Any], inventory: Any) -> dict[str, Any]:
        """Read the inventory, and store it."""
        host, digest, seen = inventory_wire.read(inventory)
        self.store_inventory(host, digest, seen, read_caller(context))
        return {"schema": fields.SCHEMA}

    @exposed
    def report_inventory_changes(self, context: Mapping[str, Any], changes: Any) -> dict[str, Any]:
        """Read the changes, store them, and return the digest."""
        read = inventory_wire.read_changes(changes)
        digest = self.store_inventory_changes(read, read_caller(context))
        return {"schema": fields.SCHEMA, "inventory_digest": digest}

    @exposed
    def report_evidence(self, _context: Mapping[str, Any], evidence: Any) -> dict[str, Any]:
        """Read the item, store it, and return the receipt; refuse an invalid item."""
        try:
            receipt = self.store_evidence(evidence_wire.read(evidence))
        except InvalidMessage as error:
            receipt = Receipt(status=ReceiptStatus.REFUSED, reason=str(error))
        return evidence_wire.write_receipt(receipt)
