# SPDX-License-Identifier: Apache-2.0
"""Stand in for the agents of hosts, for tests of drivers."""

from typing import Any

from vmmonitor.model.inspection import Inspection
from vmmonitor.model.order import ProhibitionAnswer, RecoveryOrder, StartProhibition

#: An instance that was stopped, and has no process.
STOPPED = Inspection(state="shutoff", reason="failed", managed=True, process=False, answers=False)

#: An instance whose process libvirt has lost.
LOST = Inspection(state="shutoff", reason="unknown", managed=False, process=True, answers=None)
ACCEPTED = ProhibitionAnswer(accepted=True)


class FakeAgents:
    """Implements ``drivers.HostAgents`` without hosts."""

    def __init__(
        self,
        answer: Any = None,
        inspection: Inspection | Exception = STOPPED,
        prohibition: ProhibitionAnswer | Exception = ACCEPTED,
    ):
        """Set the answers.

        :param answer: response to each order, or the exception to raise.
        :param inspection: what each inspection finds, or the exception to raise.
        :param prohibition: answer to each prohibition, or the exception to raise.
        """
        self.answer = answer
        self.inspection = inspection
        self.prohibition = prohibition
        #: The (host, prohibition) of each call, in order.
        self.prohibited: list[tuple[str, StartProhibition]] = []
        #: The (host, order) of each call, in order.
        self.orders: list[tuple[str, RecoveryOrder]] = []
        #: The (host, instance uuid) of each inspection, in order.
        self.inspected: list[tuple[str, str]] = []

    def recover(self, host: str, order: RecoveryOrder) -> Any:
        """Record the order and return the answer."""
        self.orders.append((host, order))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def inspect(self, host: str, instance_uuid: str, timeout: float) -> Inspection:
        """Record the request and return the inspection."""
        self.inspected.append((host, instance_uuid))
        if isinstance(self.inspection, Exception):
            raise self.inspection
        return self.inspection

    def prohibit_start(self, host: str, prohibition: StartProhibition) -> ProhibitionAnswer:
        """Record the prohibition and return the answer."""
        self.prohibited.append((host, prohibition))
        if isinstance(self.prohibition, Exception):
            raise self.prohibition
        return self.prohibition
