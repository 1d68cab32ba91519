# SPDX-License-Identifier: Apache-2.0
"""Answers the requests of engines to this agent: recovers and inspects instances of this host."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from oslo_log import log

from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.signals import AgentClock, EventSink
from vmmonitor.model.event import AGENT_SOURCE, ENDING, RawEvent
from vmmonitor.model.inspection import Inspection
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.model.order import RecoveryOrder
from vmmonitor.rpc.agent_api import AgentEndpoint
from vmmonitor.sources.libvirt.recovery_rules import ActionResult, ForcedStopListener

LOG = log.getLogger(__name__)

#: The answer to every request while ``[agent] allow_recovery`` is off.
NOT_ALLOWED = {
    "ok": False,
    "action": "none",
    "state": "",
    "reason": "",
    "message": "[agent] allow_recovery is off on this host",
    "retry": False,
}


class InstanceRecoverer(Protocol):
    """Recovers instances (``sources.libvirt.actions.DomainActions``)."""

    def recover(
        self,
        instance_uuid: str,
        last: Seen | None,
        timeout: float,
        *,
        cause: str,
        recovery_id: str,
        stopped_by_recovery: bool,
        listener: ForcedStopListener | None,
    ) -> ActionResult:
        """Recover an instance; return an ActionResult."""


class InstanceInspector(Protocol):
    """Examines instances (``sources.libvirt.inspector.DomainInspector``)."""

    def inspect(self, instance_uuid: str, timeout: float, fault: str) -> Inspection:
        """Return the findings of at most ``timeout`` seconds.

        :param fault: why the instance is known not to work; empty if that is not known.
        """


class FaultFinder(Protocol):
    """Finds the instances that do not work (``agent.source_set.SourceSet``)."""

    def find_fault(self, instance_uuid: str) -> str:
        """Return why an instance does not work now; empty if that is not known."""


class RecoveryEvents:
    """Queues the events of one recovery.

    The events take the path of all others, behind those of the failure: an engine that has stored
    them has stored the whole failure.
    """

    def __init__(
        self, *, sink: EventSink, now: AgentClock, instance_uuid: str, recovery_id: str, cause: str
    ):
        """Store what the events have in common."""
        self._sink = sink
        self._now = now
        self._instance_uuid = instance_uuid
        self._recovery_id = recovery_id
        self._cause = cause

    def forced_stop_begins(self) -> None:
        """Queue the event that a forced stop begins."""
        self._queue(ENDING, "begun", {"cause": self._cause})

    def forced_stop_failed(self) -> None:
        """Queue the event that a forced stop failed."""
        self._queue(ENDING, "failed", {"cause": self._cause})

    def instance_runs(self, action: str, message: str) -> None:
        """Queue the event that the instance runs again."""
        self._queue("recovery.running", action, {"message": message})

    def _queue(self, kind: str, detail: str, attributes: Mapping[str, str]) -> None:
        self._sink.observe(
            RawEvent(
                source=AGENT_SOURCE,
                type=kind,
                detail=detail,
                occurred_at=self._now(),
                instance=Instance(uuid=self._instance_uuid),
                attributes={"recovery_id": self._recovery_id, **attributes},
            )
        )


class HostEndpoint(AgentEndpoint):
    """Implements AgentAPI on this host."""

    def __init__(
        self,
        *,
        recoverer: InstanceRecoverer | None,
        inspector: InstanceInspector,
        faults: FaultFinder,
        inventory: Inventory,
        sink: EventSink,
        now: AgentClock,
    ):
        """Store the collaborators.

        :param recoverer: None if ``[agent] allow_recovery`` is off: every order is refused.
        :param faults: finds the instances that do not work although they run.
        :param sink: takes the events of recoveries.
        """
        self._recoverer = recoverer
        self._inspector = inspector
        self._faults = faults
        self._inventory = inventory
        self._sink = sink
        self._now = now

    def inspect(self, instance_uuid: str, timeout: float) -> Inspection:
        """Return the current state of an instance; changes nothing."""
        fault = self._faults.find_fault(instance_uuid)
        return self._inspector.inspect(instance_uuid, timeout, fault)

    def recover(self, order: RecoveryOrder) -> dict[str, Any]:
        """Recover an instance, and report the result as an event, too."""
        if self._recoverer is None:
            return NOT_ALLOWED
        events = RecoveryEvents(
            sink=self._sink,
            now=self._now,
            instance_uuid=order.instance_uuid,
            recovery_id=order.recovery_id,
            cause=order.cause,
        )
        result = self._recoverer.recover(
            order.instance_uuid,
            self._inventory.get(order.instance_uuid),
            order.timeout,
            cause=order.cause,
            recovery_id=order.recovery_id,
            stopped_by_recovery=self._inventory.stopped_by_recovery(order.instance_uuid),
            listener=events,
        )
        LOG.info(
            "Recovery %s of instance %s: %s, %s",
            order.recovery_id,
            order.instance_uuid,
            result.action,
            result.message,
        )
        if result.ok:
            events.instance_runs(result.action, result.message)
        return dataclasses.asdict(result)
