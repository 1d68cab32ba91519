# SPDX-License-Identifier: Apache-2.0
"""READ FIRST: the path of an event through the agent.

    sources --observe()--> queue --> correlate --> update the inventory --> filter --> spool
                                     `------------------ thread "pipeline" -----------------'
    spool --> thread "forwarder" --> engine

A source only queues its observations. One thread passes them, in order and in batches, through
the stages of ``Pipeline.run_batch``. Only events that are on the disk are forwarded, and evidence
is requested for them afterwards. Last, each source receives the observations of the others.
"""

import collections
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from oslo_log import log

from vmmonitor.agent.correlator import PRIMARY_SOURCE, Correlator
from vmmonitor.agent.event_filter import EventFilter
from vmmonitor.agent.evidence.collector import EvidenceCollector
from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.reachability import ReachabilityTracker
from vmmonitor.agent.signals import AgentClock, ForgetBefore, ObservationQueue
from vmmonitor.agent.source_set import SourceSet
from vmmonitor.agent.spool_writer import SpoolWriter
from vmmonitor.model.event import Observation, RawEvent, Reachability, SourceSnapshot

LOG = log.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")

#: Maximum number of observations in one transaction of the spool.
MAX_BATCH = 500


@dataclasses.dataclass(kw_only=True, eq=False)
class Pipeline:
    """Turns the observations of the sources into deliveries in the spool.

    :param dropped: counts the events that were not delivered, by rule or reason.
    """

    queue: ObservationQueue
    reachability: ReachabilityTracker
    correlator: Correlator
    inventory: Inventory
    event_filter: EventFilter
    spool_writer: SpoolWriter
    evidence: EvidenceCollector
    sources: SourceSet
    dropped: "collections.Counter[str]"
    now: AgentClock

    def __post_init__(self) -> None:
        """Create the thread; do not start it."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)

    # -- for any thread -------------------------------------------------------------------------
    def observe(self, observation: Observation) -> None:
        """Queue an observation; never blocks."""
        self.queue.observe(observation)

    def forget(self, before: int) -> None:
        """Queue the removal of old instances from the inventory.

        :param before: as in ``Inventory.forget``.
        """
        self.queue.put(ForgetBefore(before))

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Spool the queued observations, then end the thread.

        :param timeout: maximum duration, in seconds; observations left by then are lost.
        """
        self._stopping.set()
        self.spool_writer.stop()
        self.queue.close()
        self._thread.join(timeout)
        if self._thread.is_alive():
            LOG.error("Lost %d observations: not spooled in %g s", len(self.queue), timeout)

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        while not self.queue.is_closed:
            wait = self.correlator.next_timeout(time.monotonic())
            self.run_batch(self.queue.get_batch(MAX_BATCH, wait))

    def run_batch(self, batch: Iterable[Observation | ForgetBefore]) -> None:
        """Pass a batch through the stages; return when its events are on the disk.

        Blocks while the spool cannot be written, so that later observations keep their order.
        """
        reports = self._isolate_errors(self._correlate, batch)
        now = math.inf if self._stopping.is_set() else time.monotonic()
        reports += self.correlator.expired(now)
        raw_events = self._isolate_errors(self._update_inventory, reports)
        filtered = self._isolate_errors(self.event_filter.apply, raw_events)
        deliveries = [event.delivery for event in filtered]
        if self.spool_writer.write(deliveries, self.inventory.take_changes()):
            self.evidence.request_for(filtered)
        self.sources.publish(item for item in batch if isinstance(item, Observation))

    def _isolate_errors(self, stage: Callable[[In], list[Out]], items: Iterable[In]) -> list[Out]:
        """Return the results of a stage; an item that it cannot handle is dropped and counted."""
        results: list[Out] = []
        for item in items:
            try:
                results += stage(item)
            except Exception:
                # Sources are plug-ins; an error in one must not stop this thread.
                self.dropped["unreadable"] += 1
                LOG.exception("Dropped malformed observation: %.500r", item)
        return results

    # -- stages --------------------------------------------------------------------------------
    def _correlate(self, item: Any) -> list[RawEvent | SourceSnapshot | ForgetBefore]:
        match item:
            case RawEvent():
                wait = self.reachability.is_reachable(PRIMARY_SOURCE)
                return [*self.correlator.add(item, time.monotonic(), wait)]
            case Reachability():
                self.reachability.update(item)
                return []
            case SourceSnapshot() | ForgetBefore():
                return [item]
        raise TypeError(f"not an observation: {type(item).__name__}")

    def _update_inventory(self, item: RawEvent | SourceSnapshot | ForgetBefore) -> list[RawEvent]:
        match item:
            case SourceSnapshot():
                events = self.inventory.apply_listing(item, self.now())
                self.reachability.update_doubt(item.source, self.inventory.find_doubt())
                return events
            case ForgetBefore():
                self.inventory.forget(item.time)
                return []
        completed = self.inventory.apply_event(item)
        for source in self.reachability.doubts:
            self.reachability.update_doubt(source, self.inventory.find_doubt())
        if completed is None:
            self.dropped["already-in-inventory"] += 1
            return []
        return [completed]
