# SPDX-License-Identifier: Apache-2.0
"""Define the calls from an engine to the agent of a host."""

import abc
from collections.abc import Mapping
from typing import Any

import oslo_messaging

from vmmonitor.model.errors import InvalidMessage
from vmmonitor.rpc import fields
from vmmonitor.rpc import transport as transports

_VERSION = "1.1"
#: Version of an agent that was not upgraded yet; the call is repeated without the cause for it.
WITHOUT_CAUSE = "1.0"
#: Time, in seconds, to wait for the answer beyond the time that the agent may take.
MARGIN = 2.0
#: Maximum time, in seconds, that an agent may take.
MAX_TIMEOUT = 86400
#: Maximum length of a cause, in characters.
CAUSE_LENGTH = 512


class AgentAPI:
    """Call the agent of one host. Version history:

    * 1.0: recover_instance.
    * 1.1: recover_instance has the cause.
    """

    def __init__(self, transport: oslo_messaging.Transport):
        """Create the RPC client; each call names its host."""
        target = oslo_messaging.Target(topic=transports.AGENT_TOPIC, version=_VERSION)
        self._client = oslo_messaging.get_rpc_client(transport, target, retry=0)

    def recover_instance(
        self, host: str, instance_uuid: str, recovery_id: str, timeout: float, cause: str = ""
    ) -> Mapping[str, Any]:
        """Request that the agent starts, resets or resumes an instance, depending on its state.

        :param timeout: maximum time, in seconds, that the agent may take.
        :param cause: the newest failure (``liveness.hung/monitor``), which selects the action for
            an instance that libvirt reports as running. Agents of version 1.0 do not receive it.
        :returns: ``{ok, action, state, reason, message, retry}``: whether it should run now, the
            action (started, created, reset, resumed, none, refused), its state and libvirt's
            reason afterwards, a sentence for the operator, and whether to retry.
        :raises vmmonitor.model.errors.Retriable: no answer arrived.
        """
        request = {
            "schema": fields.SCHEMA,
            "instance_uuid": instance_uuid,
            "recovery_id": recovery_id,
            "timeout": timeout,
        }
        with transports.retriable():
            try:
                answer = self._call(host, _VERSION, request | {"cause": cause}, timeout)
            except Exception as error:
                if not transports.is_unsupported(error):
                    raise
                answer = self._call(host, WITHOUT_CAUSE, request, timeout)
        fields.check_schema(answer)
        return answer

    def _call(
        self, host: str, version: str, request: Mapping[str, Any], timeout: float
    ) -> Mapping[str, Any]:
        client = self._client.prepare(server=host, version=version, timeout=timeout + MARGIN)
        answer: Mapping[str, Any] = client.call({}, "recover_instance", request=request)
        return answer


class AgentEndpoint(abc.ABC):
    """Answer the calls of AgentAPI; the agent implements the actions."""

    target = oslo_messaging.Target(version=_VERSION)

    @abc.abstractmethod
    def recover(
        self, instance_uuid: str, recovery_id: str, timeout: float, cause: str
    ) -> dict[str, Any]:
        """Recover the instance, and return the answer without its schema number.

        :param cause: empty if the engine did not send it.
        """

    def recover_instance(self, _context: Mapping[str, Any], request: Any) -> dict[str, Any]:
        """Read the request, carry it out, and return the answer.

        :raises vmmonitor.model.errors.InvalidMessage: the request is invalid.
        """
        fields.check_schema(request)
        try:
            instance_uuid, recovery_id = str(request["instance_uuid"]), str(request["recovery_id"])
            timeout, cause = float(request["timeout"]), request.get("cause", "")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidMessage(
                f"the request is invalid: {type(error).__name__} {error}"
            ) from error
        if not 0 < timeout <= MAX_TIMEOUT:
            raise InvalidMessage(
                f"timeout must be above 0 and at most {MAX_TIMEOUT}", timeout=timeout
            )
        if not isinstance(cause, str) or len(cause) > CAUSE_LENGTH:
            raise InvalidMessage(
                f"cause must be a text of at most {CAUSE_LENGTH} characters",
                cause=str(cause)[:CAUSE_LENGTH],
            )
        answer = self.recover(instance_uuid, recovery_id, timeout, cause)
        return {"schema": fields.SCHEMA} | answer
