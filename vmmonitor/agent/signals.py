# SPDX-License-Identifier: Apache-2.0
"""How the parts of the agent reach each other across threads."""

import dataclasses
from typing import Protocol

from vmmonitor.batch_queue import BatchQueue
from vmmonitor.model.event import Observation


@dataclasses.dataclass(frozen=True, slots=True)
class ForgetBefore:
    """Asks the pipeline thread, which owns the inventory, to forget old instances.

    :param time: as in ``Inventory.forget``.
    """

    time: int


class ObservationQueue(BatchQueue[Observation | ForgetBefore]):
    """The queue from the sources to the pipeline."""

    def observe(self, observation: Observation) -> None:
        """Queue an observation; never blocks."""
        self.put(observation)


class AgentClock(Protocol):
    """The clock of this host."""

    def __call__(self) -> int:
        """Return the time, in microseconds since the epoch."""


class EventSink(Protocol):
    """Accepts observations (``Pipeline``)."""

    def observe(self, observation: Observation) -> None:
        """Queue an observation; never blocks."""


class Wakeable(Protocol):
    """Has a thread that waits for work (``Forwarder``)."""

    def wake(self) -> None:
        """Make the thread look for work now; never blocks."""


class StatusListener(Protocol):
    """Reports the status of the agent to the engine (``Reporter``)."""

    def check_status(self) -> None:
        """Send a report soon if the status differs from the last report; never blocks."""


class StatusChanges:
    """Passes on that the status of the agent, or its inventory, may have changed.

    The reporter reads the status of the parts that announce changes, so it subscribes after those
    parts exist.
    """

    def __init__(self) -> None:
        """Start without listeners."""
        self._listeners: list[StatusListener] = []

    def subscribe(self, listener: StatusListener) -> None:
        """Add a listener."""
        self._listeners.append(listener)

    def announce(self) -> None:
        """Call every listener, in the calling thread."""
        for listener in self._listeners:
            listener.check_status()
