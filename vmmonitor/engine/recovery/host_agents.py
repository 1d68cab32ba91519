# SPDX-License-Identifier: Apache-2.0
"""Calls the agents of hosts over the message bus."""

from collections.abc import Mapping
from typing import Any

from vmmonitor.model.inspection import Inspection
from vmmonitor.model.order import ProhibitionAnswer, RecoveryOrder, StartProhibition
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.agent_api import AgentAPI
from vmmonitor.rpc.client import CallSigner


class RpcHostAgents:
    """Implements ``drivers.HostAgents``. Thread-safe."""

    def __init__(self, transport: transports.Transport, signer: CallSigner | None = None):
        """Connect at the first call.

        :param signer: signs the calls and verifies the answers; None: they are not signed.
        """
        self._api = AgentAPI(transport, signer)

    def recover(self, host: str, order: RecoveryOrder) -> Mapping[str, Any]:
        """Have the agent of a host recover an instance; return its response.

        :raises vmmonitor.model.errors.Retriable: the agent did not respond.
        """
        return self._api.recover_instance(host, order)

    def inspect(self, host: str, instance_uuid: str, timeout: float) -> Inspection:
        """Return the state of an instance as the agent of a host finds it now.

        :raises vmmonitor.model.errors.Retriable: the agent did not respond.
        :raises vmmonitor.model.errors.InvalidMessage: its response is invalid.
        """
        return self._api.inspect_instance(host, instance_uuid, timeout)

    def prohibit_start(self, host: str, prohibition: StartProhibition) -> ProhibitionAnswer:
        """Have the agent of a host confirm that an instance has ended, and start it no more.

        :raises vmmonitor.model.errors.Retriable: the agent did not respond.
        :raises vmmonitor.model.errors.InvalidMessage: its response is invalid.
        """
        return self._api.prohibit_start(host, prohibition)
