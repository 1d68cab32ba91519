# SPDX-License-Identifier: Apache-2.0
"""READ FIRST: the way of an event on its host.

    source thread --observe()--> queue --> learn -> decide -> spool --> forwarder --> engine
                                           `------ thread "pipeline" ------'

A source only queues. One thread takes what is queued, in order: what several words tell of one
failure becomes one event (``fingerprint``), the inventory completes each event (and turns a
listing into the events that were missed), the filter decides, and everything
that was taken is spooled in one transaction together with what it changed in the inventory.
Only what is on the disk leaves the queue's order for the forwarder. Then the evidence that rules
ask for is asked for, and the sources are told what the others observed.
"""

import collections
import dataclasses
import functools
import logging
import math
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from oslo_log import log

from vmmonitor.agent.correlator import Correlator
from vmmonitor.agent.evidence.collector import EvidenceCollector
from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.spool import Spool, SpoolUnavailable
from vmmonitor.model import event as events
from vmmonitor.model import evidence, storage
from vmmonitor.model.event import (
    Decision,
    Event,
    Observation,
    RawEvent,
    Reachability,
    SourceSnapshot,
)
from vmmonitor.rpc import event_wire
from vmmonitor.rules.filters import FILTER_FAILED, Filters

LOG = log.getLogger(__name__)

#: Observations that one transaction takes at most.
CHUNK = 500
#: Seconds between two tries to write a spool that cannot be written.
RETRY = 0.5
#: What the agent itself did is kept whatever the filter file says: it ends incidents.
OWN = Decision(action=events.RECORD, severity=events.INFO, rule="agent")
#: What a shutdown of the host explains.
ENDS = events.WITHOUT_A_CAUSE | {"lifecycle.stopped"}
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
        going_down: Callable[[], bool] = lambda: False,
        evidence: EvidenceCollector | None = None,
    ):
        """Keep the parts; start nothing.

        :param spooled: called when there is something new in the spool.
        :param changed: called when a source's reachability, the spool's, or the inventory alone
            has changed.
        :param now: microseconds since the epoch.
        :param taken: called with every observation that was taken in, in order.
        :param going_down: tells whether the host is shutting down.
        :param evidence: is given the events whose rule asks for evidence, once they are spooled.
        """
        self.filters = filters
        #: source -> its last word on whether it sees its host.
        self.reachability: dict[str, Reachability] = {}
        #: Why the spool cannot be written; empty if it can.
        self.trouble = ""
        self.last_event_at = 0
        #: What was not sent, by the rule that said so.
        self.dropped: collections.Counter[str] = collections.Counter()
        self._correlator = Correlator(self.dropped)
        self._host = host
        self._inventory = inventory
        self._spool = spool
        self._spooled = spooled
        self._changed = changed
        self._now = now
        self._taken = taken
        self._going_down = going_down
        self.evidence = evidence
        self._asked: list[tuple[Event, tuple[str, ...]]] = []
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
        """Spool what is queued by now, then end the thread; at most ``timeout`` seconds.

        What cannot be spooled by then is lost, and logged.
        """
        self._stopping.set()
        self._queue.put(STOP)
        self._thread.join(timeout)
        if self._thread.is_alive():
            LOG.error("%d observations could not be spooled in time", self._queue.qsize())

    def forget(self, before: int) -> None:
        """Queue the tidying of the inventory, which only this thread changes.

        :param before: as in ``Inventory.forget``.
        """
        self._queue.put(functools.partial(self._inventory.forget, before))

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            taken = self._take()
            self.process([one for one in taken if one is not STOP])
            if STOP in taken:
                return

    def _take(self) -> list[Any]:
        try:
            taken = [self._queue.get(timeout=self._correlator.next_timeout(time.monotonic()))]
        except queue.Empty:
            return []
        while len(taken) < CHUNK and not self._queue.empty():
            taken.append(self._queue.get())
        return taken

    def process(self, observations: list[Any]) -> None:
        """Take observations to the spool; returns when they are on the disk.

        While the spool cannot be written they wait here, and everything after them in the
        queue; a stop of the agent ends the wait, after a last try.
        """
        self._keep(observations)
        for observation in observations:
            if isinstance(observation, Observation):
                self._taken(observation)

    def _keep(self, observations: list[Any]) -> None:
        self._asked = []
        raws = [
            raw
            for observation in observations
            for raw in self._surviving(self._raw_events, observation)
        ]
        now = math.inf if self._stopping.is_set() else time.monotonic()
        for late in self._correlator.expired(now):
            raws += self._surviving(self._learnt, late)
        deliveries = [
            delivery for raw in raws for delivery in self._surviving(self._deliveries, raw)
        ]
        known = self._inventory.take_changes()
        if not deliveries and not known:
            return
        while not self._append(deliveries, known):
            if self._stopping.is_set():
                self._give_up(deliveries)
                return
            self._stopping.wait(RETRY)
        if deliveries:
            self._spooled()
        else:
            self._changed()
        self._ask()

    def _ask(self) -> None:
        for event, kinds in self._asked:
            if self.evidence:
                self.evidence.submit(event, kinds)

    def _surviving(self, step: Callable[[Any], list[Any]], what: Any) -> list[Any]:
        """Take a step; what it cannot take is counted and costs nothing else."""
        try:
            return step(what)
        except Exception:
            # Sources are anybody's: what one of them says must not end the thread.
            self.dropped["unreadable"] += 1
            LOG.exception("This cannot be read and is dropped: %.500r", what)
            return []

    def _give_up(self, deliveries: list[dict[str, Any]]) -> None:
        for delivery in deliveries:
            LOG.error(
                "Lost, because the spool could not be written until the stop: %s/%s of instance"
                " %s, event %s",
                *(delivery["type"], delivery["detail"]),
                *(delivery["instance"]["uuid"], delivery["event_id"]),
            )

    def _raw_events(self, observation: Any) -> list[RawEvent]:
        match observation:
            case functools.partial():
                observation()
            case RawEvent():
                libvirt = self.reachability.get("libvirt")
                waits = libvirt is not None and libvirt.reachable
                told = self._correlator.add(observation, time.monotonic(), waits)
                return [raw for one in told for raw in self._learnt(one)]
            case SourceSnapshot():
                return self._inventory.compare(observation, self._now())
            case Reachability():
                self._reached(observation)
            case _:
                raise TypeError(f"no observation: {type(observation).__name__}")
        return []

    def _learnt(self, told: RawEvent) -> list[RawEvent]:
        learnt = self._inventory.learn(told)
        if learnt is None:
            self.dropped["already-in-inventory"] += 1
        return [learnt] if learnt else []

    def _reached(self, word: Reachability) -> None:
        before = self.reachability.get(word.source)
        self.reachability[word.source] = word
        if before is None or before.reachable != word.reachable:
            if word.reachable:
                LOG.info("Source %s sees its host", word.source)
            else:
                LOG.warning(
                    "Source %s is blind, and tries again for ever: %s", word.source, word.reason
                )
            self._changed()

    def _deliveries(self, raw: RawEvent) -> list[dict[str, Any]]:
        """Return the form of the event, or nothing if a rule ignores it."""
        attributes = raw.attributes
        if raw.type in ENDS and self._going_down():
            attributes = {**attributes, "host_going_down": True}
        if storage.concerns(raw):
            seen = self._inventory.get(raw.instance.uuid)
            found = storage.attribute(seen.definition, attributes) if seen else {}
            attributes = {**attributes, **found}
        event = events.made_of(raw, self._host, attributes, str(uuid.uuid4()))
        decision = self._decide(event)
        self.last_event_at = raw.occurred_at
        if decision.action == events.IGNORE:
            self.dropped[decision.rule] += 1
            LOG.debug("Rule %s ignores %s of %s", decision.rule, event.cause, raw.instance.uuid)
            return []
        # There may be thousands of the others.
        LOG.log(
            logging.INFO if decision.action == events.INCIDENT else logging.DEBUG,
            "%s of instance %s (%s): rule %s says %s; event %s",
            *(event.cause, raw.instance.uuid, raw.instance.name),
            *(decision.rule, decision.action, event.event_id),
        )
        if decision.evidence and self.evidence:
            event = _referring(event, self.evidence.reference(event.event_id, decision.evidence))
        delivery = event_wire.write_delivery(event, decision, self._now())
        if decision.evidence:
            self._asked.append((event, decision.evidence))
        return [delivery]

    def _decide(self, event: Event) -> Decision:
        if event.source == events.AGENT_SOURCE:
            return OWN
        try:
            return self.filters.decide(event)
        except Exception:
            LOG.exception("The filter failed on %s; the event is recorded", event.cause)
            return FILTER_FAILED

    def _append(
        self,
        deliveries: list[dict[str, Any]],
        known: Mapping[str, Mapping[str, Any] | None],
    ) -> bool:
        try:
            self._spool.append(deliveries, known)
        except Exception as error:
            expected = isinstance(error, SpoolUnavailable)
            self._in_trouble(str(error) if expected else f"{type(error).__name__}: {error}")
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


def _referring(event: Event, reference: dict[str, Any]) -> Event:
    """Return the event with a reference to its evidence, which is yet to be captured."""
    others = {k: v for k, v in event.attributes.items() if k != evidence.ATTRIBUTE}
    # First, so that it is kept where there is too much of the others.
    return dataclasses.replace(event, attributes={evidence.ATTRIBUTE: reference} | others)
