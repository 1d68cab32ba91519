# SPDX-License-Identifier: Apache-2.0
"""Define the calls from an engine to the agent of a host."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import oslo_messaging

from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.inspection import Inspection
from vmmonitor.model.order import ProhibitionAnswer, RecoveryOrder, StartProhibition
from vmmonitor.rpc import fields
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.client import CallClient, CallSigner
from vmmonitor.rpc.dispatch import exposed

_VERSION = "2.1"
#: Time, in seconds, to wait for the answer beyond the time that the agent may take.
MARGIN = 2.0
#: Share of the timeout of an inspection that the agent may take.
INSPECTION_SHARE = 0.7
#: Maximum time, in seconds, that an agent may take.
MAX_TIMEOUT = 86400
#: Maximum length of a cause, in characters.
CAUSE_LENGTH = 512


class AgentAPI:
    """Call the agent of one host. Version history:

    * 1.0: recover_instance.
    * 1.1: recover_instance has the cause.
    * 2.0: recover_instance has the fence token and the expiry; inspect_instance.
    * 2.1: prohibit_start.
    """

    def __init__(self, transport: oslo_messaging.Transport, signer: CallSigner | None = None):
        """Create the RPC client; each call names its host.

        :param signer: signs the calls and verifies the answers; None: they are not signed.
        """
        target = oslo_messaging.Target(topic=transports.AGENT_TOPIC, version=_VERSION)
        self._client = CallClient(transport, target, signer)

    def recover_instance(self, host: str, order: RecoveryOrder) -> Mapping[str, Any]:
        """Request that the agent starts, resets or resumes an instance, depending on its state.

        :returns: ``{ok, action, state, reason, message, retry}``: whether it should run now, the
            action (started, created, reset, resumed, none, refused), its state and libvirt's
            reason afterwards, a sentence for the operator, and whether to retry.
        :raises vmmonitor.model.errors.Retriable: no answer arrived.
        """
        request = {"schema": fields.SCHEMA} | dataclasses.asdict(order)
        return self._call(host, "recover_instance", request, order.timeout + MARGIN)

    def inspect_instance(self, host: str, instance_uuid: str, timeout: float) -> Inspection:
        """Request the current state of an instance; the agent changes nothing.

        :param timeout: maximum time to wait for the answer, in seconds.
        :raises vmmonitor.model.errors.Retriable: no answer arrived.
        :raises vmmonitor.model.errors.InvalidMessage: the answer is invalid.
        """
        # The agent returns its findings so far while the engine still waits for them.
        limit = timeout * INSPECTION_SHARE
        request = {"schema": fields.SCHEMA, "instance_uuid": instance_uuid, "timeout": limit}
        return read_inspection(self._call(host, "inspect_instance", request, timeout))

    def prohibit_start(self, host: str, prohibition: StartProhibition) -> ProhibitionAnswer:
        """Request that the agent confirms the end of an instance and starts it no more.

        :raises vmmonitor.model.errors.Retriable: no answer arrived.
        :raises vmmonitor.model.errors.InvalidMessage: the answer is invalid.
        """
        request = {"schema": fields.SCHEMA} | dataclasses.asdict(prohibition)
        answer = self._call(host, "prohibit_start", request, prohibition.timeout + MARGIN)
        accepted = answer.get("accepted")
        if not isinstance(accepted, bool):
            raise InvalidMessage("accepted must be true or false")
        reason = fields.text(answer, "reason", CAUSE_LENGTH)
        return ProhibitionAnswer(accepted=accepted, reason=reason)

    def _call(
        self, host: str, method: str, request: Mapping[str, Any], timeout: float
    ) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._client.call(
            host, method, timeout, server=host, request=request
        )
        fields.check_schema(answer)
        return answer


class AgentEndpoint(abc.ABC):
    """Answer the calls of AgentAPI; the agent implements the actions."""

    target = oslo_messaging.Target(version=_VERSION)

    @abc.abstractmethod
    def recover(self, order: RecoveryOrder) -> dict[str, Any]:
        """Recover the instance, and return the answer without its schema number."""

    @abc.abstractmethod
    def inspect(self, instance_uuid: str, timeout: float) -> Inspection:
        """Return the current state of an instance, within ``timeout`` seconds."""

    @abc.abstractmethod
    def prohibit(self, prohibition: StartProhibition) -> ProhibitionAnswer:
        """Confirm that an instance has ended here, and start it no more; or refuse."""

    @exposed
    def recover_instance(self, _context: Mapping[str, Any], request: Any) -> dict[str, Any]:
        """Read the order, carry it out, and return the answer.

        :raises vmmonitor.model.errors.InvalidMessage: the order is invalid.
        """
        fields.check_schema(request)
        order = RecoveryOrder(
            instance_uuid=fields.uuid(request, "instance_uuid"),
            recovery_id=fields.uuid(request, "recovery_id"),
            token=fields.number(request, "token", None),
            expires_at=fields.time(request, "expires_at"),
            timeout=_read_timeout(request),
            cause=fields.label(request, "cause", CAUSE_LENGTH),
        )
        return {"schema": fields.SCHEMA} | self.recover(order)

    @exposed
    def inspect_instance(self, _context: Mapping[str, Any], request: Any) -> dict[str, Any]:
        """Read the request, examine the instance, and return the answer.

        :raises vmmonitor.model.errors.InvalidMessage: the request is invalid.
        """
        fields.check_schema(request)
        instance_uuid = fields.uuid(request, "instance_uuid")
        inspection = self.inspect(instance_uuid, _read_timeout(request))
        return {"schema": fields.SCHEMA} | dataclasses.asdict(inspection)

    @exposed
    def prohibit_start(self, _context: Mapping[str, Any], request: Any) -> dict[str, Any]:
        """Read the prohibition, carry it out, and return the answer.

        :raises vmmonitor.model.errors.InvalidMessage: the request is invalid.
        """
        fields.check_schema(request)
        prohibition = StartProhibition(
            instance_uuid=fields.uuid(request, "instance_uuid"),
            recovery_id=fields.uuid(request, "recovery_id"),
            token=fields.number(request, "token", None),
            timeout=_read_timeout(request),
        )
        return {"schema": fields.SCHEMA} | dataclasses.asdict(self.prohibit(prohibition))


def read_inspection(answer: Mapping[str, Any]) -> Inspection:
    """Return the inspection in an answer.

    :raises vmmonitor.model.errors.InvalidMessage: the answer is invalid.
    """
    managed, process, answers = (answer.get(key) for key in ("managed", "process", "answers"))
    if not isinstance(managed, bool) or not isinstance(process, bool):
        raise InvalidMessage("managed and process must be true or false")
    if answers is not None and not isinstance(answers, bool):
        raise InvalidMessage("answers must be true, false or null")
    return Inspection(
        state=fields.word(answer, "state"),
        reason=fields.label(answer, "reason"),
        managed=managed,
        process=process,
        answers=answers,
    )


def _read_timeout(request: Mapping[str, Any]) -> float:
    try:
        timeout = float(request["timeout"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidMessage(f"timeout is invalid: {type(error).__name__} {error}") from error
    if not 0 < timeout <= MAX_TIMEOUT:
        raise InvalidMessage(f"timeout must be above 0 and at most {MAX_TIMEOUT}", timeout=timeout)
    return timeout
