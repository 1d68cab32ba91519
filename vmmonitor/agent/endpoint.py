# SPDX-License-Identifier: Apache-2.0
"""Answers the requests of engines to this agent: recovers and inspects instances of this host."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from oslo_log import log

from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.permits import Permit, Permits
from vmmonitor.agent.signals import AgentClock, EventSink
from vmmonitor.model.event import AGENT_SOURCE, ENDING, LATE_EFFECT, RawEvent
from vmmonitor.model.inspection import Inspection
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.model.order import ProhibitionAnswer, RecoveryOrder, StartProhibition
from vmmonitor.rpc.agent_api import AgentEndpoint
from vmmonitor.sources.libvirt import recovery_rules
from vmmonitor.sources.libvirt.recovery_rules import (
    ActionResult,
    EffectPermit,
    ForcedStopListener,
)

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
        permit: EffectPermit | None,
    ) -> ActionResult:
        """Recover an instance; return an ActionResult."""

    def is_recovering(self, instance_uuid: str) -> bool:
        """Return whether a recovery of an instance is in progress, even one that hangs."""


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

    def __init__(self, *, sink: EventSink, now: AgentClock, order: RecoveryOrder):
        """Store what the events have in common."""
        self._sink = sink
        self._now = now
        self._order = order

    def forced_stop_begins(self) -> None:
        """Queue the event that a forced stop begins."""
        self._queue(ENDING, "begun", {"cause": self._order.cause})

    def forced_stop_failed(self) -> None:
        """Queue the event that a forced stop failed."""
        self._queue(ENDING, "failed", {"cause": self._order.cause})

    def instance_runs(self, action: str, message: str) -> None:
        """Queue the event that the instance runs again."""
        self._queue("recovery.running", action, {"message": message})

    def effect_was_late(self, action: str) -> None:
        """Queue the event that an action took effect after the order had ended."""
        self._queue(LATE_EFFECT, action, {"cause": self._order.cause, "token": self._order.token})

    def _queue(self, kind: str, detail: str, attributes: Mapping[str, str | int]) -> None:
        self._sink.observe(
            RawEvent(
                source=AGENT_SOURCE,
                type=kind,
                detail=detail,
                occurred_at=self._now(),
                instance=Instance(uuid=self._order.instance_uuid),
                attributes={"recovery_id": self._order.recovery_id, **attributes},
            )
        )


class HostEndpoint(AgentEndpoint):
    """Implements AgentAPI on this host."""

    def __init__(
        self,
        *,
        recoverer: InstanceRecoverer | None,
        permits: Permits,
        inspector: InstanceInspector,
        faults: FaultFinder,
        inventory: Inventory,
        sink: EventSink,
        now: AgentClock,
    ):
        """Store the collaborators.

        :param recoverer: None if ``[agent] allow_recovery`` is off: every order is refused.
        :param permits: issues a permit for each order.
        :param faults: finds the instances that do not work although they run.
        :param sink: takes the events of recoveries.
        """
        self._recoverer = recoverer
        self._permits = permits
        self._inspector = inspector
        self._faults = faults
        self._inventory = inventory
        self._sink = sink
        self._now = now

    def inspect(self, instance_uuid: str, timeout: float) -> Inspection:
        """Return the current state of an instance; changes nothing."""
        fault = self._faults.find_fault(instance_uuid)
        return self._inspector.inspect(instance_uuid, timeout, fault)

    def prohibit(self, prohibition: StartProhibition) -> ProhibitionAnswer:
        """Refuse all earlier orders about an instance, and report whether it has ended here.

        The order matters: an effect that begins afterwards sees the prohibition, one that is in
        progress is seen here, and one that has ended left a process or none.
        """
        uuid = prohibition.instance_uuid
        if objection := self._permits.find_objection(prohibition):
            reason = objection
        elif not self._permits.fences.prohibit(uuid, prohibition.token):
            reason = "a newer order was accepted, or the prohibition cannot be stored"
        elif self._recoverer and self._recoverer.is_recovering(uuid):
            reason = "a recovery of the instance is in progress on this host"
        elif self.inspect(uuid, prohibition.timeout).process:
            reason = "a QEMU process of the instance runs on this host"
        else:
            reason = ""
        LOG.info(
            "Recovery %s starts instance %s on another host: %s",
            prohibition.recovery_id,
            uuid,
            f"refused, {reason}" if reason else "it is not started here any longer",
        )
        return ProhibitionAnswer(accepted=not reason, reason=reason)

    def recover(self, order: RecoveryOrder) -> dict[str, Any]:
        """Recover an instance, and report the result as an event, too."""
        if self._recoverer is None:
            return NOT_ALLOWED
        events = RecoveryEvents(sink=self._sink, now=self._now, order=order)
        permit = self._permits.issue(order, events.effect_was_late)
        if end := permit.find_end():
            result = recovery_rules.fail(f"nothing was begun: {end}", retry=True)
        else:
            result = self._recover(order, events, permit)
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

    def _recover(
        self, order: RecoveryOrder, events: RecoveryEvents, permit: Permit
    ) -> ActionResult:
        assert self._recoverer is not None
        return self._recoverer.recover(
            order.instance_uuid,
            self._inventory.get(order.instance_uuid),
            permit.remaining(),
            cause=order.cause,
            recovery_id=order.recovery_id,
            stopped_by_recovery=self._inventory.stopped_by_recovery(order.instance_uuid),
            listener=events,
            permit=permit,
        )
