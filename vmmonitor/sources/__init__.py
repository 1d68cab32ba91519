# SPDX-License-Identifier: Apache-2.0
"""SEAM IN: sources watch something and observe raw events.

A source is a class with an entry point in ``vmmonitor.sources``; ``[agent] sources`` names the
sources that run. The agent creates, starts and stops it. The source calls ``observe`` for each
observation, from any of its threads, in the order of occurrence. ``observe`` only queues: it takes
microseconds, never blocks and never raises.

Nova's notifications, which several hosts share, are watched by a source in each engine instead,
named by ``[engine] sources``. Such a source sets the host of each RawEvent, and its ``follow`` is
not called. Its ``observe`` blocks while the database is unavailable and thousands of events wait,
so that the source takes no more of them from the broker.
"""

import abc
from collections.abc import Callable

from oslo_config import cfg

from vmmonitor.model.event import Observation

Observe = Callable[[Observation], None]


class Source(abc.ABC):
    """Watches one thing on this host."""

    def __init__(self, conf: cfg.ConfigOpts, observe: Observe):
        """Store the collaborators; start no thread.

        :param conf: the configuration of the service.
        :param observe: takes a RawEvent, a SourceSnapshot or a Reachability.
        """
        self.conf = conf
        self.observe = observe

    @abc.abstractmethod
    def start(self) -> None:
        """Start watching, in native threads of the source, and return at once.

        If the watched thing is not available yet, observe a Reachability; raise no error.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop watching; return when every thread of the source has ended (at most 10 s)."""

    def follow(self, observation: Observation) -> None:  # noqa: B027  optional
        """Receive an observation of another source, after the agent has processed it.

        Called in order, on the agent's thread: a source that overrides this method only queues.
        """

    def find_fault(self, instance_uuid: str) -> str:  # optional
        """Return why an instance does not work now, as far as this source has found; else empty.

        Asked from any thread before an engine recovers an instance that runs. Must not block.
        """
        return ""
