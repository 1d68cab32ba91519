# SPDX-License-Identifier: Apache-2.0
"""Checks that the order of an engine is still current before an effect on its instance.

An order may lie in the broker, in a socket, or in a hung call of libvirt for any time, while the
engine gives it up and continues elsewhere. A permit is therefore asked immediately before each
effect, and it asks the engines.
"""

import concurrent.futures
from collections.abc import Callable
from typing import Protocol

from oslo_log import log

from vmmonitor.agent.engine_clock import EngineClock
from vmmonitor.agent.fences import Fences
from vmmonitor.bounded_call import BoundedCalls, TooManyCalls
from vmmonitor.model.clock import SECOND
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.model.order import RecoveryOrder, StartProhibition

LOG = log.getLogger(__name__)

#: Maximum time, in seconds, to wait for the confirmation of an engine.
CONFIRMATION_TIMEOUT = 2.0
#: Maximum age, in microseconds, of a confirmation: a later effect needs another one.
MAX_CONFIRMATION_AGE = 1 * SECOND
#: Maximum number of unanswered questions to engines.
MAX_QUESTIONS = 64


class RecoveryChecker(Protocol):
    """Asks an engine whether a recovery is still current (``rpc.engine_api.EngineAPI``)."""

    def check_recovery(
        self, host: str, instance_uuid: str, recovery_id: str, token: int, timeout: float
    ) -> bool:
        """Return whether it is.

        :raises vmmonitor.model.errors.VmmonitorError: no valid answer arrived.
        """


class Permits:
    """Issues the permits of one host."""

    def __init__(self, *, host: str, fences: Fences, clock: EngineClock, engine: RecoveryChecker):
        """Store the collaborators."""
        self._host = host
        self.fences = fences
        self.clock = clock
        self._engine = engine
        self._calls = BoundedCalls(MAX_QUESTIONS)

    def issue(self, order: RecoveryOrder, report_late: Callable[[str], None]) -> "Permit":
        """Return the permit of an order, and begin to ask the engines about the order.

        :param report_late: is called with an action that took effect after the order had ended.
        """
        return Permit(self, order, report_late)

    def find_objection(self, order: RecoveryOrder | StartProhibition) -> str:
        """Return why the engines do not confirm an order or a prohibition; empty if they do."""
        try:
            return find_objection(self.ask_engine(order))
        except (TooManyCalls, RuntimeError) as error:
            return f"no engine was asked whether the recovery is current: {error}"

    def ask_engine(
        self, order: RecoveryOrder | StartProhibition
    ) -> "concurrent.futures.Future[bool]":
        """Begin to ask an engine whether the recovery of an order is current.

        :raises vmmonitor.bounded_call.TooManyCalls: too many questions are unanswered.
        """

        def ask() -> bool:
            return self._engine.check_recovery(
                self._host,
                order.instance_uuid,
                order.recovery_id,
                order.token,
                CONFIRMATION_TIMEOUT,
            )

        return self._calls.begin(f"check-recovery-{order.instance_uuid[:8]}", ask)


class Permit:
    """Permits the effects of one order, as long as the order is current.

    Implements ``sources.libvirt.recovery_rules.EffectPermit``.
    """

    def __init__(self, permits: Permits, order: RecoveryOrder, report_late: Callable[[str], None]):
        """Begin to ask the engines; libvirt is connected in the meantime."""
        self._permits = permits
        self._order = order
        self._report_late = report_late
        self._asked_at = 0
        self._answer: concurrent.futures.Future[bool] | None = None
        if not self.find_end():
            self._ask()

    def find_end(self) -> str:
        """Return why the order has ended; empty if it has not, as far as this host can see."""
        order = self._order
        if not self._permits.fences.is_newest(order.instance_uuid, order.token):
            return f"token {order.token} of the order is older than that of an accepted order"
        now = self._permits.clock.now()
        if now is not None and now >= order.expires_at:
            return f"the order expired {(now - order.expires_at) / SECOND:.1f} s ago"
        return ""

    def remaining(self) -> float:
        """Return the time until the order ends, in seconds."""
        now = self._permits.clock.now()
        if now is None:
            return self._order.timeout
        return min(self._order.timeout, (self._order.expires_at - now) / SECOND)

    def find_obstacle(self) -> str:
        """Return why an effect must not begin now; empty if it may. Takes up to some seconds."""
        obstacle = self.find_end() or self._find_objection()
        # The answer may have come late, and brings the engines' time.
        return obstacle or self.find_end()

    def effect_done(self, action: str) -> None:
        """Report an effect if its order has ended meanwhile: the call into libvirt was late."""
        if end := self.find_end():
            LOG.warning(
                "Recovery %s: instance %s was %s late: %s",
                self._order.recovery_id,
                self._order.instance_uuid,
                action,
                end,
            )
            self._report_late(action)

    def _ask(self) -> None:
        self._asked_at = self._permits.clock.read_ticks()
        try:
            self._answer = self._permits.ask_engine(self._order)
        except (TooManyCalls, RuntimeError):
            self._answer = None

    def _find_objection(self) -> str:
        """Return why the engines do not confirm the order; empty if they do."""
        age = self._permits.clock.read_ticks() - self._asked_at
        if self._answer is None or age > MAX_CONFIRMATION_AGE:
            self._ask()
        if self._answer is None:
            return "no engine was asked whether the recovery is current: too many questions"
        if objection := find_objection(self._answer):
            return objection
        # Only now: an order that no engine confirms must not end the orders of others.
        self._permits.fences.raise_to(self._order.instance_uuid, self._order.token)
        return ""


def find_objection(answer: "concurrent.futures.Future[bool]") -> str:
    """Return why an answer does not confirm that a recovery is current; empty if it does."""
    try:
        is_current = answer.result(CONFIRMATION_TIMEOUT)
    except (VmmonitorError, TimeoutError) as error:
        return f"no engine confirmed that the recovery is current: {error or 'timeout'}"
    return "" if is_current else "the recovery is no longer current"
