# SPDX-License-Identifier: Apache-2.0
"""What an engine can ask of the agent on a host."""

import abc
from collections.abc import Mapping
from typing import Any

import oslo_messaging

from vmmonitor.model.errors import InvalidMessage
from vmmonitor.rpc import fields
from vmmonitor.rpc import transport as transports

VERSION = "1.1"
#: What an agent that was not upgraded yet answers; it is asked without the cause.
WITHOUT_CAUSE = "1.0"
#: Seconds that an answer may need beyond what the agent may take.
MARGIN = 2.0
#: Greatest number of seconds that an agent may be given.
LONGEST = 86400
#: Greatest number of characters of a cause.
CAUSE_LENGTH = 512


class AgentAPI:
    """Calls the agent of one host. Version history:

    * 1.0: recover_instance.
    * 1.1: recover_instance also tells the cause.
    """

    def __init__(self, transport: oslo_messaging.Transport):
        """Address no host yet."""
        target = oslo_messaging.Target(topic=transports.AGENT_TOPIC, version=VERSION)
        self._client = oslo_messaging.get_rpc_client(transport, target, retry=0)

    def recover_instance(
        self, host: str, instance_uuid: str, recovery_id: str, timeout: float, cause: str = ""
    ) -> Mapping[str, Any]:
        """Have an instance started, reset or resumed, whichever its state asks for.

        :param timeout: seconds that the agent may take.
        :param cause: the newest failure (``liveness.hung/monitor``), which tells what to do
            about an instance that libvirt takes to be running; an agent of 1.0 is not told.
        :returns: ``{ok, action, state, reason, message, retry}``: whether it should run now,
            what was done (started, created, reset, resumed, none, refused), its state after it,
            a sentence, and whether another try makes sense.
        :raises vmmonitor.model.errors.Retriable: no answer came.
        """
        request = {
            "schema": fields.SCHEMA,
            "instance_uuid": instance_uuid,
            "recovery_id": recovery_id,
            "timeout": timeout,
        }
        with transports.retriable():
            try:
                answer = self._ask(host, VERSION, request | {"cause": cause}, timeout)
            except Exception as error:
                if not transports.is_unsupported(error):
                    raise
                answer = self._ask(host, WITHOUT_CAUSE, request, timeout)
        fields.check_schema(answer)
        return answer

    def _ask(
        self, host: str, version: str, request: Mapping[str, Any], timeout: float
    ) -> Mapping[str, Any]:
        client = self._client.prepare(server=host, version=version, timeout=timeout + MARGIN)
        answer: Mapping[str, Any] = client.call({}, "recover_instance", request=request)
        return answer


class AgentEndpoint(abc.ABC):
    """Answers AgentAPI; the agent fills in what is to be done."""

    target = oslo_messaging.Target(version=VERSION)

    @abc.abstractmethod
    def recover(
        self, instance_uuid: str, recovery_id: str, timeout: float, cause: str
    ) -> dict[str, Any]:
        """Bring the instance back; returns the answer without its schema number.

        :param cause: empty if the engine did not tell.
        """

    def recover_instance(self, _context: Mapping[str, Any], request: Any) -> dict[str, Any]:
        """Read the request, have it done, answer what came of it.

        :raises vmmonitor.model.errors.InvalidMessage: it cannot be read.
        """
        fields.check_schema(request)
        try:
            instance_uuid, recovery_id = str(request["instance_uuid"]), str(request["recovery_id"])
            timeout, cause = float(request["timeout"]), request.get("cause", "")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidMessage(f"not a request: {type(error).__name__} {error}") from error
        if not 0 < timeout <= LONGEST:
            raise InvalidMessage("no such timeout", timeout=timeout)
        if not isinstance(cause, str) or len(cause) > CAUSE_LENGTH:
            raise InvalidMessage("no such cause", cause=str(cause)[:CAUSE_LENGTH])
        answer = self.recover(instance_uuid, recovery_id, timeout, cause)
        return {"schema": fields.SCHEMA} | answer
