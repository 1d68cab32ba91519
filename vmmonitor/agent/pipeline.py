# SPDX-License-Identifier: Apache-2.0
"""READ FIRST: the way of an event on its host.

    source thread --observe()--> queue --> learn -> decide -> spool --> forwarder --> engine
                                           `------ thread "pipeline" ------'

A source only queues. One thread takes what is queued, in order: the inventory completes each
event (and turns a listing into the events that were missed), the filter decides, and everything
that was taken is spooled in one transaction together with what it changed in the inventory.
Only what is on the disk leaves the queue's order for the forwarder. Then the sources are told what
the others observed.
"""

import collections
import queue
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from oslo_log import log

from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.spool import Spool, SpoolUnavailable
from vmmonitor.model import event as events
from vmmonitor.model.event import (
    Decision,
    Event,
    Listing,
    Observation,
    RawEvent,
    Reachability,
)
from vmmonitor.rpc import wire
from vmmonitor.rules.filters import Filters

LOG = log.getLogger(__name__)

#: Observations that one transaction takes at most.
CHUNK = 500
#: Seconds between two tries to write a spool that cannot be written.
RETRY = 0.5
#: What the agent itself did is kept whatever the filter file says: it ends incidents.
OWN = Decision(action=events.RECORD, severity=events.INFO, rule="agent")
STOP = object()


class Pipeline:
    """Takes observations from the sources to the spool."""

    def __init__(
        self,
        host: str,
        inventory: Inventory,
        filters: Filters,
        spool: Spool,
        spooled: Callable[[], None],
        changed: Callable[[], None],
        now: Callable[[], int],
        taken: Callable[[Observation], None] = lambda _: None,
    ):
        """Keep the parts; start nothing.

        :param spooled: called when there is something new in the spool.
        :param changed: called when a source's reachability, or the spool's, has changed.
        :param now: microseconds since the epoch.
        :param taken: called with every observation that was taken in, in order.
        """
        self.filters = filters
        #: source -> its last word on whether it sees its host.
        self.reachability: dict[str, Reachability] = {}
        #: Why the spool cannot be written; empty if it can.
        self.trouble = ""
        self.last_event_at = 0
        #: What was not sent, by the rule that said so.
        self.dropped: collections.Counter[str] = collections.Counter()
        self._host = host
        self._inventory = inventory
        self._spool = spool
        self._spooled = spooled
        self._changed = changed
        self._now = now
        self._taken = taken
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)

    # -- any thread ----------------------------------------------------------------------------
    def observe(self, observation: Observation) -> None:
        """Queue what a source saw; never blocks."""
        self._queue.put(observation)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Spool what is queued by now, then end the thread; at most ``timeout`` seconds."""
        self._stopping.set()
        self._queue.put(STOP)
        self._thread.join(timeout)

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            taken = self._take()
            self.process([one for one in taken if one is not STOP])
            if STOP in taken:
                return

    def _take(self) -> list[Any]:
        taken = [self._queue.get()]
        while len(taken) < CHUNK and not self._queue.empty():
            taken.append(self._queue.get())
        return taken

    def process(self, observations: list[Observation]) -> None:
        """Take observations to the spool; returns when they are on the disk.

        While the spool cannot be written they wait here, and everything after them in the
        queue; a stop of the agent ends the wait.
        """
        self._keep(observations)
        for observation in observations:
            self._taken(observation)

    def _keep(self, observations: list[Observation]) -> None:
        deliveries = [
            wire.write_delivery(event, decision, self._now())
            for observation in observations
            for raw in self._raw_events(observation)
            for event, decision in self._decide(raw)
        ]
        known = self._inventory.take_changes()
        if not deliveries and not known:
            return
        while not self._append(deliveries, known) and not self._stopping.wait(RETRY):
            pass
        if deliveries:
            self._spooled()

    def _raw_events(self, observation: Observation) -> list[RawEvent]:
        match observation:
            case RawEvent():
                learnt = self._inventory.learn(observation)
                if learnt is None:
                    self.dropped["noticed-already"] += 1
                return [learnt] if learnt else []
            case Listing():
                return self._inventory.compare(observation)
            case Reachability():
                self._reached(observation)
        return []

    def _reached(self, word: Reachability) -> None:
        before = self.reachability.get(word.source)
        self.reachability[word.source] = word
        if before is None or before.reachable != word.reachable:
            LOG.info(
                "Source %s %s its host %s",
                *(word.source, "sees" if word.reachable else "does not see", word.reason),
            )
            self._changed()

    def _decide(self, raw: RawEvent) -> list[tuple[Event, Decision]]:
        event = Event(
            event_id=str(uuid.uuid4()),
            host=self._host,
            instance=raw.instance,
            source=raw.source,
            type=raw.type,
            detail=raw.detail,
            occurred_at=raw.occurred_at,
            attributes=raw.attributes,
        )
        own = event.source == events.AGENT_SOURCE
        decision = OWN if own else self.filters.decide(event)
        self.last_event_at = raw.occurred_at
        if decision.action == events.IGNORE:
            self.dropped[decision.rule] += 1
            LOG.debug("Rule %s ignores %s of %s", decision.rule, event.cause, raw.instance.uuid)
            return []
        LOG.info(
            "%s of instance %s (%s): rule %s says %s; event %s",
            *(event.cause, raw.instance.uuid, raw.instance.name),
            *(decision.rule, decision.action, event.event_id),
        )
        return [(event, decision)]

    def _append(
        self,
        deliveries: list[dict[str, Any]],
        known: Mapping[str, Mapping[str, Any] | None],
    ) -> bool:
        try:
            self._spool.append(deliveries, known)
        except SpoolUnavailable as error:
            self._in_trouble(str(error))
            return False
        self._in_trouble("")
        return True

    def _in_trouble(self, trouble: str) -> None:
        if trouble == self.trouble:
            return
        if trouble:
            LOG.error("%s; %d observations wait", trouble, self._queue.qsize() + 1)
        else:
            LOG.info("The spool can be written again")
        self.trouble = trouble
        self._changed()
