# SPDX-License-Identifier: Apache-2.0
"""Check that an order to nova cannot result in a second running copy of an instance.

nova has no fencing: it believes the operator that a host is down, and libvirt that a domain does
not exist. The agent of the host reads the list of processes.
"""

from collections.abc import Callable, Mapping
from typing import Any

from vmmonitor.drivers import HostAgents
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.model.order import StartProhibition
from vmmonitor.model.recovery import RecoveryRequest

#: Maximum time, in seconds, to wait for the answer of an agent.
ANSWER_TIMEOUT = 5.0


class HostChecks:
    """Asks the agent on the host of an incident."""

    def __init__(
        self, agents: HostAgents, request: RecoveryRequest, remaining: Callable[[], float]
    ):
        """Store the collaborators.

        :param remaining: returns the remaining time of the attempt, in seconds.
        """
        self._agents = agents
        self._request = request
        self._host = request.incident.host
        self._uuid = request.recovery.instance_uuid
        self._remaining = remaining

    def deny_restart(self, *, needs_answer: bool = True) -> str:
        """Return the reason why nova must not start the instance on its host now, or ''.

        nova's reboot ends the process only if libvirt still manages it. It would otherwise define
        and start the instance beside a process that libvirt has lost.

        :param needs_answer: False for a service that fences the host itself if that is silent.
        """
        try:
            inspection = self._agents.inspect(self._host, self._uuid, self._timeout())
        except VmmonitorError as error:
            silent = (
                f"the agent on {self._host} did not report whether a process of the instance runs "
                f"there, and nova could start a second one: {error}"
            )
            return silent if needs_answer else ""
        if inspection.process and not inspection.managed:
            return (
                f"a QEMU process of the instance runs on {self._host} and libvirt does not manage "
                "it, so that nova would start a second one; an operator must end the process"
            )
        return ""

    def deny_evacuation(self, service: Mapping[str, Any]) -> str:
        """Return the reason why the instance may still run on its host or start there, or ''.

        The proof is the agent on the host: it finds no process, and will not start one. An agent
        that does not answer proves nothing; its host must be fenced and forced down in nova.

        :param service: the compute service of the host.
        """
        try:
            inspection = self._agents.inspect(self._host, self._uuid, self._timeout())
            if inspection.process:
                return (
                    f"the agent on {self._host} reports that a QEMU process of the instance runs "
                    "there; an evacuation would start a second one"
                )
            answer = self._agents.prohibit_start(self._host, self._prohibition())
        except VmmonitorError as error:
            if service.get("forced_down") is True:
                return ""
            return (
                f"it is not proven that the instance does not run on {self._host}: its agent did "
                f"not answer ({error}), and the compute service is not forced down. Fence the "
                "host, and then force its compute service down in nova"
            )
        return "" if answer.accepted else f"the agent on {self._host} refused: {answer.reason}"

    def _prohibition(self) -> StartProhibition:
        recovery = self._request.recovery
        return StartProhibition(
            instance_uuid=self._uuid,
            recovery_id=recovery.recovery_id,
            token=recovery.token,
            timeout=self._timeout(),
        )

    def _timeout(self) -> float:
        return min(ANSWER_TIMEOUT, self._remaining())
