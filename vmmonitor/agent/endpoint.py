# SPDX-License-Identifier: Apache-2.0
"""Does what an engine asks for: brings instances of this host back."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from oslo_log import log

from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.pipeline import Pipeline
from vmmonitor.model.event import AGENT_SOURCE, RawEvent
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


class Actions(Protocol):
    """What brings instances back (``sources.libvirt.actions.Actions``)."""

    def recover(self, instance_uuid: str, last: Seen | None, timeout: float) -> Any:
        """Do it; returns an ActionResult."""


class Endpoint(AgentEndpoint):
    """Answers AgentAPI on the host it runs on."""

    def __init__(
        self,
        actions: Actions | None,
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

    def recover(self, instance_uuid: str, recovery_id: str, timeout: float) -> dict[str, Any]:
        """Bring the instance back, and tell so as an event of its own.

        That event takes the way of all others, behind everything that the failure caused: an
        engine that has it has seen the whole failure.
        """
        if self._actions is None:
            return NOT_ALLOWED
        result = self._actions.recover(instance_uuid, self._inventory.get(instance_uuid), timeout)
        LOG.info(
            "Recovery %s of instance %s: %s, %s",
            *(recovery_id, instance_uuid, result.action, result.message),
        )
        if result.ok:
            self._pipeline.observe(
                RawEvent(
                    source=AGENT_SOURCE,
                    type="recovery.running",
                    detail=result.action,
                    occurred_at=self._now(),
                    instance=Instance(uuid=instance_uuid),
                    attributes={"recovery_id": recovery_id, "message": result.message},
                )
            )
        return dataclasses.asdict(result)
