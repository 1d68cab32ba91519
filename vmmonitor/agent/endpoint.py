# SPDX-License-Identifier: Apache-2.0
"""Does what an engine asks for: brings instances of this host back."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from oslo_log import log

from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.pipeline import Pipeline
from vmmonitor.model.event import AGENT_SOURCE, ENDING, RawEvent
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.rpc.agent_api import AgentEndpoint

LOG = log.getLogger(__name__)


NOT_ALLOWED = {
    "ok": False,
    "action": "none",
    "state": "",
    "reason": "",
    "message": "[agent] allow_recovery is off on this host",
    "retry": False,
}


class InstanceRecoverer(Protocol):
    """What brings instances back (``sources.libvirt.actions.Actions``)."""

    def recover(self, instance_uuid: str, last: Seen | None, timeout: float, **more: Any) -> Any:
        """Do it; returns an ActionResult."""


class HostEndpoint(AgentEndpoint):
    """Answers AgentAPI on the host it runs on."""

    def __init__(
        self,
        actions: InstanceRecoverer | None,
        inventory: Inventory,
        pipeline: Pipeline,
        now: Callable[[], int],
    ):
        """Keep the parts.

        :param actions: None where ``[agent] allow_recovery`` is off: every request is refused.
        :param now: microseconds since the epoch.
        """
        self._actions = actions
        self._inventory = inventory
        self._pipeline = pipeline
        self._now = now

    def recover(
        self, instance_uuid: str, recovery_id: str, timeout: float, cause: str
    ) -> dict[str, Any]:
        """Bring the instance back, and tell so as an event of its own.

        That event takes the way of all others, behind everything that the failure caused: an
        engine that has it has seen the whole failure.
        """
        if self._actions is None:
            return NOT_ALLOWED

        def tell(kind: str, detail: str, **attributes: str) -> None:
            told = {"recovery_id": recovery_id} | attributes
            self._pipeline.observe(_event(instance_uuid, kind, detail, self._now(), told))

        result = self._actions.recover(
            *(instance_uuid, self._inventory.get(instance_uuid), timeout),
            cause=cause,
            recovery_id=recovery_id,
            ended=self._inventory.ended(instance_uuid),
            ending=lambda begun: tell(ENDING, "begun" if begun else "failed", cause=cause),
        )
        LOG.info(
            "Recovery %s of instance %s: %s, %s",
            *(recovery_id, instance_uuid, result.action, result.message),
        )
        if result.ok:
            tell("recovery.running", result.action, message=result.message)
        return dataclasses.asdict(result)


def _event(
    instance_uuid: str, kind: str, detail: str, at: int, attributes: Mapping[str, str]
) -> RawEvent:
    return RawEvent(
        source=AGENT_SOURCE,
        type=kind,
        detail=detail,
        occurred_at=at,
        instance=Instance(uuid=instance_uuid),
        attributes=attributes,
    )
