# SPDX-License-Identifier: Apache-2.0
"""Make calls, sign them, and accept only authentic answers."""

import time
from collections.abc import Mapping
from typing import Any

import oslo_messaging
from oslo_log import log

from vmmonitor.model.errors import Retriable
from vmmonitor.rpc import signing
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.guard import CLOCK, REFUSED_KEY, MessageClock
from vmmonitor.rpc.keys import KeySource
from vmmonitor.rpc.refusals import RefusalLog
from vmmonitor.rpc.signing import MessageKind, NotAuthentic, SignatureMode, Stamp

LOG = log.getLogger(__name__)

#: Maximum number of repetitions of a call whose answers are not authentic.
REPETITIONS = 2


class CallSigner:
    """Signs the calls of one side, and verifies the answers to them."""

    def __init__(
        self,
        *,
        call: MessageKind,
        answer: MessageKind,
        keys: KeySource,
        mode: SignatureMode,
        clock: MessageClock,
    ):
        """Create a signer.

        :param call: kind of the calls.
        :param answer: kind of the answers.
        """
        self._call = call
        self._answer = answer
        self._keys = keys
        self._mode = mode
        self._clock = clock
        self.refusals = RefusalLog(f"{answer} is not authentic")

    def sign(self, host: str, method: str, arguments: Mapping[str, Any]) -> Stamp:
        """Return the stamp of a call.

        :param host: the host whose key signs the call.
        """
        return signing.sign(
            self._keys.of_host(host),
            self._call,
            method,
            arguments,
            host=host,
            sent_at=self._clock.now(),
            nonce=signing.new_nonce(),
        )

    def verify(self, call: Stamp, method: str, answer: Any) -> None:
        """Verify an answer, and correct the clock by the time in it.

        :param call: the stamp of the call.
        :raises NotAuthentic: it is not the answer of the other side to this call.
        """
        received = self._clock.now()
        try:
            stamp = self._authenticate(call, method, answer)
        except NotAuthentic as error:
            self.refusals.add(call.host, str(error))
            if self._mode == SignatureMode.LOG:
                return
            raise NotAuthentic(f"the {self._answer} was not authentic: {error}") from error
        self._clock.correct(stamp.sent_at, call.sent_at, received)

    def _authenticate(self, call: Stamp, method: str, answer: Any) -> Stamp:
        if not isinstance(answer, Mapping):
            raise NotAuthentic("it is not signed")
        stamp = signing.read_stamp(answer.get(signing.SIGNATURE))
        if stamp.host != call.host or stamp.nonce != call.nonce:
            raise NotAuthentic("it belongs to another call")
        content = {key: value for key, value in answer.items() if key != signing.SIGNATURE}
        signing.verify(self._keys, self._answer, method, content, stamp)
        return stamp


class CallClient:
    """Calls the methods of one interface."""

    def __init__(
        self,
        transport: oslo_messaging.Transport,
        target: oslo_messaging.Target,
        signer: CallSigner | None,
    ):
        """Create a client; each call names its host.

        :param signer: None: calls are not signed, and answers are not verified.
        """
        self._client = oslo_messaging.get_rpc_client(transport, target, retry=0)
        self._signer = signer

    def call(
        self,
        host: str,
        method: str,
        timeout: float,
        *,
        server: str | None = None,
        version: str | None = None,
        **arguments: Any,
    ) -> Any:
        """Make a call, and return its answer.

        :param host: the host whose key signs the call and the answer.
        :param timeout: maximum time to wait for the answer, in seconds.
        :param server: the server to call; by default any of them.
        :param version: the version that introduced the call; by default that of the target.
        :raises vmmonitor.rpc.transport.Unsupported: the receiver does not have this call.
        :raises vmmonitor.rpc.signing.NotAuthentic: the answer was not authentic.
        :raises vmmonitor.model.errors.Retriable: no answer arrived, or the receiver refused the
            call.
        """
        options: dict[str, Any] = {"timeout": timeout}
        options |= {"server": server} if server else {}
        options |= {"version": version} if version else {}
        answer = self._call_until_authentic(options, host, method, arguments)
        if _is_refused(answer):
            # The first answer has corrected the clock.
            answer = self._call_until_authentic(options, host, method, arguments)
        if _is_refused(answer):
            raise Retriable(f"the clocks of host {host} and of the engines differ too much")
        return answer

    def _call_until_authentic(
        self, options: Mapping[str, Any], host: str, method: str, arguments: Mapping[str, Any]
    ) -> Any:
        """Make a call, and repeat it within its timeout if its answer is not authentic.

        The broker gives calls to its receivers in turn: where each attempt of a recovery makes two
        calls, a false receiver beside the true one would get the second of each attempt.
        """
        deadline = time.monotonic() + options["timeout"]
        for _ in range(REPETITIONS):
            client = self._client.prepare(**options)
            try:
                return self._call_once(client, host, method, arguments)
            except NotAuthentic as error:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise
                LOG.debug("Repeating call %s: %s", method, error)
                options = {**options, "timeout": remaining}
        return self._call_once(self._client.prepare(**options), host, method, arguments)

    def _call_once(self, client: Any, host: str, method: str, arguments: Mapping[str, Any]) -> Any:
        if self._signer is None:
            with transports.retriable():
                return client.call({}, method, **arguments)
        stamp = self._signer.sign(host, method, arguments)
        with transports.retriable():
            answer = client.call(signing.write_stamp(stamp), method, **arguments)
        self._signer.verify(stamp, method, answer)
        return answer


def _is_refused(answer: Any) -> bool:
    return isinstance(answer, Mapping) and answer.get(REFUSED_KEY) == CLOCK
