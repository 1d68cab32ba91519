# SPDX-License-Identifier: Apache-2.0
"""Fakes of the collaborators of the agent's parts."""

import collections
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from vmmonitor.agent.correlator import Correlator
from vmmonitor.agent.enrichment import StorageAttribution
from vmmonitor.agent.event_filter import EventFilter
from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.pipeline import Pipeline
from vmmonitor.agent.reachability import ReachabilityTracker
from vmmonitor.agent.signals import ObservationQueue, StatusChanges
from vmmonitor.agent.spool import SpooledEvent
from vmmonitor.agent.spool_writer import SpoolWriter
from vmmonitor.model import event as events
from vmmonitor.model.event import Decision, RawEvent
from vmmonitor.model.instance import Instance
from vmmonitor.model.receipt import Receipt, ReceiptStatus

UUID = "7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a11"
#: Time limit, in seconds, of waits for a thread.
PATIENCE = 10.0


def raw(cause: str = "lifecycle.stopped/failed", at: int = 20, **changes: Any) -> RawEvent:
    """Return a raw event."""
    kind, _, detail = cause.partition("/")
    facts = {"instance": Instance(uuid=UUID), "source": "libvirt"} | changes
    return RawEvent(type=kind, detail=detail, occurred_at=at, **facts)


class Clock:
    """A clock that shows the time it was set to, in microseconds."""

    def __init__(self) -> None:
        self.time = 1_000_000_000

    def __call__(self) -> int:
        return self.time


class Rules:
    """A filter with the same decision for every event."""

    checksum = "0" * 64

    def __init__(self, action: str = events.INCIDENT) -> None:
        self.action = action

    def decide(self, event: events.Event) -> Decision:
        if event.detail == "poison":
            raise ZeroDivisionError("a bug in a rule")
        return Decision(action=self.action, severity=events.INFO, rule=f"all-{self.action}")


class MemorySpool:
    """A spool in memory.

    :ivar failing: raised by every method while it is set.
    :ivar tried: gets an item at each append.
    """

    def __init__(self) -> None:
        self.failing: Exception | None = None
        self.tried: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.rows: dict[int, dict[str, Any]] = {}
        self.known: dict[str, Any] = {}
        self.refused: dict[int, str] = {}
        self.overflowed = 0
        self.set_aside: list[str] = []
        self._sequence = 0

    def append(self, deliveries: list[dict[str, Any]], known: dict[str, Any]) -> None:
        self.tried.put(len(deliveries))
        self._fail()
        for delivery in deliveries:
            self._sequence += 1
            self.rows[self._sequence] = delivery
        self.known.update(known)

    def read(self, limit: int) -> list[SpooledEvent]:
        self._fail()
        return [
            SpooledEvent(sequence=number, body=body | {"sequence": number})
            for number, body in list(self.rows.items())[:limit]
        ]

    def settle(self, entries: list[SpooledEvent], refused: dict[int, str], now: int) -> None:
        self._fail()
        self.refused |= refused
        for entry in entries:
            self.rows.pop(entry.sequence, None)

    def _fail(self) -> None:
        if self.failing:
            raise self.failing

    @property
    def depth(self) -> int:
        return len(self.rows)

    @property
    def refused_count(self) -> int:
        return len(self.refused)

    def put(self, *names: str) -> None:
        """Append events with these ids."""
        self.append([{"event_id": name, "occurred_at": 1} for name in names], {})


class Engine:
    """An engine that answers each call with the next of ``answers``, then correctly.

    :ivar answers: exceptions to raise, or functions of the batch to call.
    :ivar batches: ids of the events of each batch.
    :ivar called: gets an item at each call.
    """

    def __init__(self, *answers: Exception | Callable[[list[str]], Any]) -> None:
        self.answers = list(answers)
        self.batches: list[list[str]] = []
        self.reports: list[Any] = []
        self.inventories: list[Any] = []
        self.changes: list[Any] = []
        self.digest = ""
        self.called: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.stored: list[str] = []
        self.done = threading.Event()

    def _answer(self, usual: Callable[[list[str]], Any], batch: list[str]) -> Any:
        answer = self.answers.pop(0) if self.answers else usual
        if isinstance(answer, Exception):
            raise answer
        return answer(batch)

    def report_events(self, host: str, sent_at: int, deliveries: list, timeout: float) -> Any:
        batch = [delivery["event_id"] for delivery in deliveries]
        self.batches.append(batch)
        self.called.put(batch)
        return self._answer(self._store, batch)

    def _store(self, batch: list[str]) -> list[Receipt]:
        receipts = []
        for event_id in batch:
            status = ReceiptStatus.DUPLICATE if event_id in self.stored else ReceiptStatus.STORED
            receipts.append(Receipt(status=status))
        self.stored += [event_id for event_id in batch if event_id not in self.stored]
        return receipts

    def report_agent(self, report: Any, timeout: float) -> str:
        self.reports.append(report)
        self.called.put(report.state)
        return self._answer(lambda _: self.digest, [])

    def report_inventory(self, host: str, digest: str, seen: Any, timeout: float) -> None:
        self.inventories.append((host, digest, seen))
        self.digest = digest

    def report_inventory_changes(self, changes: Any, timeout: float) -> str:
        self.changes.append(changes)
        return self._answer(lambda _: self._change(changes), [])

    def _change(self, changes: Any) -> str:
        if self.digest == changes.base_digest:
            self.digest = changes.digest
        return self.digest


class Calls:
    """Records the calls of collaborators, as a forwarder and as a status listener."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def wake(self) -> None:
        self.names.append("wake")

    def check_status(self) -> None:
        self.names.append("check_status")


class Evidence:
    """Evidence that is never captured; remembers the events for which it was requested."""

    def __init__(self) -> None:
        self.requested: list[Any] = []

    def reference(self, event_id: str, kinds: Iterable[str]) -> dict[str, Any]:
        return {"kinds": list(kinds)}

    def request_for(self, events: Iterable[Any]) -> None:
        self.requested += events

    def figures(self) -> dict[str, int]:
        return {}


class Sources:
    """Sources that remember the observations of the others."""

    def __init__(self) -> None:
        self.published: list[Any] = []

    def publish(self, observations: Iterable[Any]) -> None:
        self.published += observations


def new_pipeline(
    *,
    spool: MemorySpool,
    filters: Any,
    inventory: Inventory | None = None,
    evidence: Any = None,
    calls: Calls | None = None,
    clock: Clock | None = None,
) -> Pipeline:
    """Return a pipeline with fakes for the collaborators that are not given."""
    inventory = Inventory({}) if inventory is None else inventory
    evidence = evidence or Evidence()
    calls, clock = calls or Calls(), clock or Clock()
    dropped: collections.Counter[str] = collections.Counter()
    changes = StatusChanges()
    changes.subscribe(calls)
    observations = ObservationQueue()
    return Pipeline(
        queue=observations,
        reachability=ReachabilityTracker(changes),
        correlator=Correlator(dropped),
        inventory=inventory,
        event_filter=EventFilter(
            host="compute-1",
            filters=filters,
            enrichments=[StorageAttribution(inventory)],
            evidence_references=evidence,
            dropped=dropped,
            now=clock,
        ),
        spool_writer=SpoolWriter(
            spool=spool, forwarder=calls, changes=changes, backlog=observations
        ),
        evidence=evidence,
        sources=Sources(),
        dropped=dropped,
        now=clock,
    )
