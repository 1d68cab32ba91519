# SPDX-License-Identifier: Apache-2.0
"""SEAM IN: what watches something on a host and yields raw events.

A source is a class named by an entry point in ``vmmonitor.sources``; ``[agent] sources`` names
those that run. The agent builds it, starts it and stops it; the source calls ``observe`` for
whatever it learns, from any thread of its own, in the order in which it happened. ``observe``
only queues: it takes microseconds, never blocks and never raises.

What hosts share (nova's notifications) is watched by a source in each engine instead, named by
``[engine] sources``. It names the host in each RawEvent, nobody calls its ``follow``, and
``observe`` makes it wait while the database is away and thousands of events wait for it: so it
takes no more from where the rest is kept.
"""

import abc
from collections.abc import Callable

from oslo_config import cfg

from vmmonitor.model.event import Observation

Observe = Callable[[Observation], None]


class Source(abc.ABC):
    """Watches one thing on this host."""

    def __init__(self, conf: cfg.ConfigOpts, observe: Observe):
        """Keep what is needed; start nothing.

        :param conf: the service's configuration.
        :param observe: takes a RawEvent, a SourceSnapshot or a Reachability.
        """
        self.conf = conf
        self.observe = observe

    @abc.abstractmethod
    def start(self) -> None:
        """Start watching, in native threads of its own, and return at once.

        What is watched need not be there yet: that is a Reachability, not an error.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop watching; returns when every thread of the source has ended (at most 10 s)."""

    def follow(self, observation: Observation) -> None:  # noqa: B027  most sources follow nobody
        """Learn what another source observed, after the agent took it in.

        Called in the order in which it was taken in, on the agent's thread: a source that
        overrides this only queues. Not called for the source's own observations.
        """
