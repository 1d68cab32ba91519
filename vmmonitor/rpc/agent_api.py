# SPDX-License-Identifier: Apache-2.0
"""What an engine can ask of the agent on a host."""

import abc
from collections.abc import Mapping
from typing import Any

import oslo_messaging

from vmmonitor.model.errors import InvalidMessage
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc import wire

VERSION = "1.0"
#: Seconds that an answer may need beyond what the agent may take.
MARGIN = 2.0
#: Greatest number of seconds that an agent may be given.
LONGEST = 86400


class AgentAPI:
    """Calls the agent of one host. Version history:

    * 1.0: recover_instance.
    """

    def __init__(self, transport: oslo_messaging.Transport):
        """Address no host yet."""
        target = oslo_messaging.Target(topic=transports.AGENT_TOPIC, version=VERSION)
        self._client = oslo_messaging.get_rpc_client(transport, target, retry=0)

    def recover_instance(
        self, host: str, instance_uuid: str, recovery_id: str, timeout: float
    ) -> Mapping[str, Any]:
        """Have an instance started, reset or resumed, whichever its state asks for.

        :param timeout: seconds that the agent may take.
        :returns: ``{ok, action, state, reason, message, retry}``: whether it should run now,
            what was done (started, created, reset, resumed, none, refused), its state after it,
            a sentence, and whether another try makes sense.
        :raises vmmonitor.model.errors.Retriable: no answer came.
        """
        with transports.retriable():
            client = self._client.prepare(server=host, timeout=timeout + MARGIN)
            answer: Mapping[str, Any] = client.call(
                {},
                "recover_instance",
                request={
                    "schema": wire.SCHEMA,
                    "instance_uuid": instance_uuid,
                    "recovery_id": recovery_id,
                    "timeout": timeout,
                },
            )
        wire.check_schema(answer)
        return answer


class AgentEndpoint(abc.ABC):
    """Answers AgentAPI; the agent fills in what is to be done."""

    target = oslo_messaging.Target(version=VERSION)

    @abc.abstractmethod
    def recover(self, instance_uuid: str, recovery_id: str, timeout: float) -> dict[str, Any]:
        """Bring the instance back; returns the answer without its schema number."""

    def recover_instance(self, _context: Mapping[str, Any], request: Any) -> dict[str, Any]:
        """Read the request, have it done, answer what came of it.

        :raises vmmonitor.model.errors.InvalidMessage: it cannot be read.
        """
        wire.check_schema(request)
        try:
            instance_uuid, recovery_id = str(request["instance_uuid"]), str(request["recovery_id"])
            timeout = float(request["timeout"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidMessage(f"not a request: {type(error).__name__} {error}") from error
        if not 0 < timeout <= LONGEST:
            raise InvalidMessage("no such timeout", timeout=timeout)
        answer = self.recover(instance_uuid, recovery_id, timeout)
        return {"schema": wire.SCHEMA} | answer
