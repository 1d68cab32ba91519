# SPDX-License-Identifier: Apache-2.0
"""Authenticate the calls that a server receives, and sign its answers."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from vmmonitor.rpc import fields, signing
from vmmonitor.rpc.keys import KeySource
from vmmonitor.rpc.refusals import RefusalLog
from vmmonitor.rpc.replay import NonceMemory
from vmmonitor.rpc.signing import MessageKind, NotAuthentic, SignatureMode, Stamp

#: Key of an answer that refuses a call; its value is the reason.
REFUSED_KEY = "refused"
#: The call is authentic, but its time is outside the clock window.
CLOCK = "clock"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """The authenticated sender of a call; an endpoint receives it as its context.

    :param host: empty if the call was not authenticated. A call to an engine was signed by the
        agent of this host. A call to an agent was signed by an engine for this host.
    :param key_id: id of the key that signed the call.
    :param sent_at: the time in the call; microseconds, by the clock of the engines.
    """

    host: str = ""
    key_id: str = ""
    sent_at: int = 0


#: The sender of a call that was not authenticated.
UNKNOWN_CALLER = Caller()


def read_caller(context: Any) -> Caller:
    """Return the sender of a call from the context that an endpoint receives."""
    return context if isinstance(context, Caller) else UNKNOWN_CALLER


class MessageClock(Protocol):
    """The clock of the engines, as computed by one side."""

    def now(self) -> int:
        """Return the time in microseconds since the epoch."""

    def correct(self, at: int, sent: int, received: int) -> None:
        """Compare with the time in an authentic answer.

        :param at: the time in the answer.
        :param sent: when the call was sent, by this clock.
        :param received: when the answer arrived, by this clock.
        """


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CallAdmission:
    """The result of authenticating a call.

    :param stamp: signature of the call; None if it was not verified.
    :param refusal: the answer to a call that must not be carried out; None otherwise.
    """

    caller: Caller
    stamp: Stamp | None = None
    refusal: Mapping[str, Any] | None = None


class CallGuard(Protocol):
    """Decides which calls a server carries out."""

    def admit(self, method: str, context: Any, arguments: Mapping[str, Any]) -> CallAdmission:
        """Authenticate a call.

        :raises NotAuthentic: it must not be carried out.
        """

    def sign(self, method: str, admission: CallAdmission, answer: Any) -> Any:
        """Return the answer with its signature."""


class OpenGuard:
    """Admits every call.

    :param trusted: whether only this process can send calls, so that each is authentic.
    """

    def __init__(self, trusted: bool = False):
        """Create a guard."""
        self._trusted = trusted

    def admit(self, method: str, context: Any, arguments: Mapping[str, Any]) -> CallAdmission:
        """Admit a call; on a trusted bus its sender is the host in its argument."""
        if not self._trusted:
            return CallAdmission(caller=UNKNOWN_CALLER)
        return CallAdmission(caller=Caller(host=next(iter(_hosts(arguments)), "") or ""))

    def sign(self, method: str, admission: CallAdmission, answer: Any) -> Any:
        """Return the answer as it is."""
        return answer


class SignatureGuard:
    """Admits calls with an authentic signature; in mode ``log`` also the others."""

    def __init__(
        self,
        *,
        call: MessageKind,
        answer: MessageKind,
        keys: KeySource,
        mode: SignatureMode,
        clock: MessageClock,
        window: float,
    ):
        """Create a guard.

        :param call: kind of the calls.
        :param answer: kind of the answers.
        :param window: ``[rpc] clock_window``, in seconds.
        """
        self._call = call
        self._answer = answer
        self._keys = keys
        self._mode = mode
        self._clock = clock
        self._window = int(window * 1_000_000)
        self._nonces = NonceMemory(self._window)
        self.refusals = RefusalLog(f"{call} is not authentic")

    def admit(self, method: str, context: Any, arguments: Mapping[str, Any]) -> CallAdmission:
        """Authenticate a call.

        :raises NotAuthentic: it must not be carried out.
        """
        try:
            return self._authenticate(method, context, arguments)
        except NotAuthentic as error:
            host = context.get("host") if isinstance(context, Mapping) else None
            self.refusals.add(str(host or next(iter(_hosts(arguments)), "")), str(error))
            if self._mode == SignatureMode.LOG:
                return CallAdmission(caller=UNKNOWN_CALLER)
            raise NotAuthentic("the call was not authentic") from error

    def _authenticate(
        self, method: str, context: Any, arguments: Mapping[str, Any]
    ) -> CallAdmission:
        stamp = signing.read_stamp(context)
        key_id = signing.verify(self._keys, self._call, method, arguments, stamp)
        if self._call == MessageKind.CALL_TO_ENGINE:
            for host in _hosts(arguments):
                if host != stamp.host:
                    raise NotAuthentic("it is about another host than the one that signed it")
        caller = Caller(host=stamp.host, key_id=key_id, sent_at=stamp.sent_at)
        admission = CallAdmission(caller=caller, stamp=stamp)
        if abs(stamp.sent_at - self._clock.now()) > self._window:
            return self._refuse_time(admission)
        if not self._nonces.is_new(stamp.host, stamp.nonce, stamp.sent_at):
            raise NotAuthentic("it was received before")
        return admission

    def _refuse_time(self, admission: CallAdmission) -> CallAdmission:
        """Return the refusal of a call outside the clock window.

        It is signed, so that the sender can correct its time by the one in the signature.
        """
        assert admission.stamp is not None
        ahead = (admission.stamp.sent_at - self._clock.now()) / 1_000_000
        self.refusals.add(admission.caller.host, f"its time differs by {ahead:+.0f} s")
        if self._mode == SignatureMode.LOG:
            return dataclasses.replace(admission, caller=UNKNOWN_CALLER)
        refusal = {"schema": fields.SCHEMA, REFUSED_KEY: CLOCK}
        return dataclasses.replace(admission, refusal=refusal)

    def sign(self, method: str, admission: CallAdmission, answer: Any) -> Any:
        """Return the answer to an authentic call with its signature."""
        stamp = admission.stamp
        if stamp is None or not isinstance(answer, Mapping):
            return answer
        keys = self._keys.of_host(stamp.host)
        signature = signing.sign(
            {key_id: keys[key_id] for key_id in stamp.macs if key_id in keys},
            self._answer,
            method,
            answer,
            host=stamp.host,
            sent_at=self._clock.now(),
            nonce=stamp.nonce,
        )
        return {**answer, signing.SIGNATURE: signing.write_stamp(signature)}


def _hosts(arguments: Mapping[str, Any]) -> list[Any]:
    """Return the host in each argument of a call to an engine; None for one without a host."""
    forms = arguments.values()
    return [form.get("host") if isinstance(form, Mapping) else None for form in forms]
