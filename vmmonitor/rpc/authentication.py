# SPDX-License-Identifier: Apache-2.0
"""Build what authenticates the messages of an engine or an agent, from ``[rpc]``."""

import logging
import time

import oslo_messaging
from oslo_config import cfg
from oslo_log import log

from vmmonitor.model.errors import VmmonitorError
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.client import CallSigner
from vmmonitor.rpc.guard import CallGuard, MessageClock, OpenGuard, SignatureGuard
from vmmonitor.rpc.keys import HostKeys, InvalidKeyFile, KeySource, MasterKeys
from vmmonitor.rpc.signing import MessageKind, SignatureMode

LOG = log.getLogger(__name__)

#: An agent corrects its time if it differs more than this from the engines', in microseconds.
MESSAGE_CLOCK_TOLERANCE = 1_000_000


class SystemClock:
    """The clock of an engine, which is never corrected."""

    def now(self) -> int:
        """Return the time in microseconds since the epoch."""
        return time.time_ns() // 1000

    def correct(self, at: int, sent: int, received: int) -> None:
        """Ignore the time of an agent."""


class CorrectedClock:
    """The clock of the engines, as the agent of a host computes it.

    It does not follow steps of the host's clock. Before the first authentic answer it is the
    host's clock.
    """

    def __init__(self) -> None:
        """Start with the host's clock."""
        self._offset = time.time_ns() // 1000 - _boot_time()

    def now(self) -> int:
        """Return the time in microseconds since the epoch."""
        return _boot_time() + self._offset

    def correct(self, at: int, sent: int, received: int) -> None:
        """Follow the time in an answer if it was not between the call and its arrival."""
        if sent - MESSAGE_CLOCK_TOLERANCE <= at <= received + MESSAGE_CLOCK_TOLERANCE:
            return
        correction = at - (sent + received) // 2
        self._offset += correction
        level = logging.INFO if abs(correction) < 10 * MESSAGE_CLOCK_TOLERANCE else logging.WARNING
        seconds = correction / 1_000_000
        LOG.log(level, "Clock of the engines differs, correcting messages by %+.1f s", seconds)


def _boot_time() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class Authentication:
    """Authenticates the messages of one process.

    :ivar signer: for the calls of this process; None if they are not signed.
    :ivar guard: for the calls to this process.
    """

    def __init__(self, signer: CallSigner | None, guard: CallGuard, keys: KeySource | None = None):
        """Store the parts."""
        self.signer = signer
        self.guard = guard
        self._keys = keys

    def reload(self) -> None:
        """Read the key file again; if it is invalid, the keys in use do not change."""
        if self._keys is None:
            return
        try:
            self._keys.reload()
        except InvalidKeyFile as error:
            LOG.error("Keys not reloaded, the previous ones stay in use: %s", error)


def for_engine(
    conf: cfg.ConfigOpts, transport: oslo_messaging.Transport, clock: MessageClock | None = None
) -> Authentication:
    """Return what authenticates the messages of an engine.

    :raises vmmonitor.model.errors.VmmonitorError: the keys are missing or invalid.
    """
    mode = _mode(conf, "master_key_file")
    if mode == SignatureMode.OFF:
        return _unsigned(transport)
    keys = MasterKeys(conf.rpc.master_key_file)
    clock = clock or SystemClock()
    return Authentication(
        signer=CallSigner(
            call=MessageKind.CALL_TO_AGENT,
            answer=MessageKind.ANSWER_OF_AGENT,
            keys=keys,
            mode=mode,
            clock=clock,
        ),
        guard=SignatureGuard(
            call=MessageKind.CALL_TO_ENGINE,
            answer=MessageKind.ANSWER_OF_ENGINE,
            keys=keys,
            mode=mode,
            clock=clock,
            window=conf.rpc.clock_window,
        ),
        keys=keys,
    )


def for_agent(
    conf: cfg.ConfigOpts, transport: oslo_messaging.Transport, clock: MessageClock | None = None
) -> Authentication:
    """Return what authenticates the messages of an agent.

    :raises vmmonitor.model.errors.VmmonitorError: the key is missing or invalid.
    """
    mode = _mode(conf, "host_key_file")
    if mode == SignatureMode.OFF:
        return _unsigned(transport)
    keys = HostKeys(conf.rpc.host_key_file, conf.host)
    clock = clock or CorrectedClock()
    return Authentication(
        signer=CallSigner(
            call=MessageKind.CALL_TO_ENGINE,
            answer=MessageKind.ANSWER_OF_ENGINE,
            keys=keys,
            mode=mode,
            clock=clock,
        ),
        guard=SignatureGuard(
            call=MessageKind.CALL_TO_AGENT,
            answer=MessageKind.ANSWER_OF_AGENT,
            keys=keys,
            mode=mode,
            clock=clock,
            window=conf.rpc.clock_window,
        ),
        keys=keys,
    )


def engine_trusts_bus(conf: cfg.ConfigOpts) -> bool:
    """Return whether the engines believe messages that are not signed.

    :raises vmmonitor.model.errors.VmmonitorError: signatures are configured without a key.
    """
    return _mode(conf, "master_key_file") == SignatureMode.OFF


def _mode(conf: cfg.ConfigOpts, key_option: str) -> SignatureMode:
    key_file = conf.rpc[key_option]
    mode = conf.rpc.signatures or (SignatureMode.REQUIRE if key_file else SignatureMode.OFF)
    if mode != SignatureMode.OFF and not key_file:
        raise VmmonitorError(f"[rpc] signatures = {mode} needs [rpc] {key_option}")
    return SignatureMode(mode)


def _unsigned(transport: oslo_messaging.Transport) -> Authentication:
    return Authentication(None, OpenGuard(trusted=transports.is_in_process(transport)))
