# SPDX-License-Identifier: Apache-2.0
"""Collects evidence of the events whose filter rule asks for it.

An event is spooled first and refers to its evidence; the evidence is captured afterwards, in a
thread of its own and from a bounded queue. Evidence never delays an event.
"""

import collections
import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from oslo_config import cfg
from oslo_log import log

from vmmonitor.agent.event_filter import FilteredEvent
from vmmonitor.agent.evidence.files import EvidenceFiles
from vmmonitor.agent.evidence.sender import EvidenceSender
from vmmonitor.agent.inventory import Inventory
from vmmonitor.model import evidence
from vmmonitor.model.event import Event
from vmmonitor.model.evidence import Item
from vmmonitor.model.instance import Seen
from vmmonitor.rules.filters import Filters

LOG = log.getLogger(__name__)

SECONDS_PER_DAY = 86400
#: Interval, in seconds, between deletions of expired evidence.
EXPIRY_INTERVAL = 3600.0


class StatisticsRequest(Protocol):
    """Decides if statistics of the instances are sampled (``EvidenceCollector``)."""

    def wants_statistics(self) -> bool:
        """Return whether a rule in force asks for statistics."""


class Capturer(Protocol):
    """Captures evidence (``sources.libvirt.evidence.LibvirtCapturer``)."""

    def start(self) -> None:
        """Start to sample statistics, which evidence shows from before an event."""

    def stop(self, timeout: float) -> None:
        """Stop sampling, within ``timeout`` seconds."""

    def capture(self, event: Event, seen: Seen | None, kinds: Sequence[str]) -> Iterator[Item]:
        """Yield an item for each kind, in a bounded time; raises nothing."""


class CapturerLoader(Protocol):
    """Creates the capturer when the first rule asks for evidence (``agent.service``)."""

    def load(self, request: StatisticsRequest) -> Capturer:
        """Return a capturer.

        :raises Exception: evidence cannot be captured on this host.
        """


class EvidenceCollector:
    """The evidence of one agent. Without a rule that asks, it has no thread and no file."""

    def __init__(
        self,
        *,
        conf: cfg.ConfigOpts,
        loader: CapturerLoader,
        inventory: Inventory,
        outgoing: EvidenceFiles,
        sender: EvidenceSender,
    ):
        """Store the collaborators; start no thread.

        :param inventory: holds the definitions of the instances.
        :param outgoing: the files that ``sender`` sends to the engine.
        """
        #: Number of events whose evidence was lost, by reason.
        self.lost: collections.Counter[str] = collections.Counter()
        self._conf = conf
        self._loader = loader
        self._inventory = inventory
        options = conf.evidence
        self._kept = EvidenceFiles(
            os.path.join(options.directory, "kept"), options.max_total_bytes
        )
        self._outgoing = outgoing
        self._sender = sender
        self._queue: queue.Queue[FilteredEvent | None] = queue.Queue(options.queue_size)
        self._capturer: Capturer | None = None
        self._filters: Filters | None = None
        self._overflowing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    # -- for any thread -------------------------------------------------------------------------
    def start(self, filters: Filters) -> None:
        """Send what an earlier run left, and start to capture what these rules ask for."""
        self._expire()
        if len(self._outgoing):
            self._sender.start()
        self.use_filters(filters)

    def use_filters(self, filters: Filters) -> None:
        """Prepare to capture what these rules ask for; call it before they come into force."""
        self._filters = filters
        if self._capturer or not any(map(filters.wants, evidence.KINDS)):
            return
        try:
            self._capturer = self._loader.load(self)
        except Exception:
            # Events do not depend on evidence.
            LOG.exception("Evidence capture is unavailable")
            return
        self._capturer.start()
        self._thread.start()
        if self._conf.evidence.store == evidence.ENGINE:
            self._sender.start()

    def wants_statistics(self) -> bool:
        """Return whether a rule in force asks for statistics."""
        return bool(self._filters and self._filters.wants(evidence.STATS))

    def stop(self, timeout: float) -> None:
        """End the threads; evidence that is still queued is not captured.

        :param timeout: maximum duration, in seconds.
        """
        self._stopping.set()
        deadline = time.monotonic() + timeout
        if self._capturer:
            try:
                self._queue.put_nowait(None)
            except queue.Full:
                LOG.debug("The evidence queue is full; its thread will check whether to stop")
            self._capturer.stop(timeout)
            self._thread.join(max(0.0, deadline - time.monotonic()))
        self._sender.stop(max(0.0, deadline - time.monotonic()))

    def reference(self, event_id: str, kinds: Sequence[str]) -> dict[str, Any]:
        """Return the attribute of an event that refers to its evidence."""
        store = self._conf.evidence.store
        location = {"path": os.path.join(self._kept.path, event_id)} if store == "host" else {}
        return {"kinds": list(kinds), "kept": store} | location

    def request_for(self, events: Iterable[FilteredEvent]) -> None:
        """Queue the capture of evidence for the events whose rule asks for it; never blocks.

        Beyond ``[evidence] queue_size`` evidence is not captured, and counted as lost.
        """
        for filtered in events:
            if filtered.decision.evidence:
                self._enqueue(filtered)

    def figures(self) -> dict[str, int]:
        """Return the number of events whose evidence was lost, by reason."""
        overflowed = self._kept.overflowed + self._outgoing.overflowed
        return dict(self.lost) | ({"overflowed": overflowed} if overflowed else {})

    def _enqueue(self, filtered: FilteredEvent) -> None:
        if self._capturer is None:
            self.lost["nothing-captures"] += 1
            return
        self._overflowing = self._overflowing and not self._queue.empty()
        try:
            self._queue.put_nowait(filtered)
        except queue.Full:
            self.lost["queue-full"] += 1
            if not self._overflowing:
                LOG.warning(
                    "The evidence queue is full: no evidence of event %s and the following events"
                    " is captured until there is room",
                    filtered.event.event_id,
                )
            self._overflowing = True

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        expired_at = float("-inf")
        while not self._stopping.is_set():
            if time.monotonic() - expired_at > EXPIRY_INTERVAL:
                expired_at = time.monotonic()
                self._expire()
            try:
                filtered = self._queue.get(timeout=EXPIRY_INTERVAL)
            except queue.Empty:
                continue
            if filtered is not None:
                self._capture(filtered.event, filtered.decision.evidence)

    def _capture(self, event: Event, kinds: tuple[str, ...]) -> None:
        try:
            assert self._capturer is not None
            seen = self._inventory.get(event.instance.uuid)
            items = []
            for item in self._capturer.capture(event, seen, kinds):
                items.append(item)
                if self._stopping.is_set():
                    break
            self._write(event, items)
        except OSError as error:
            self.lost["not-written"] += 1
            LOG.error("Could not write evidence of event %s: %s", event.event_id, error)
        except Exception:
            # The evidence of the next event may still succeed.
            self.lost["failed"] += 1
            LOG.exception("Could not capture evidence of event %s", event.event_id)

    def _write(self, event: Event, items: Sequence[Item]) -> None:
        to_engine = self._conf.evidence.store == evidence.ENGINE
        files = self._outgoing if to_engine else self._kept
        files.write(event.event_id, items)
        # Only kinds and sizes: the content may be confidential.
        LOG.info(
            "Captured evidence of event %s (%s) of instance %s: %s",
            event.event_id,
            event.cause,
            event.instance.uuid,
            ", ".join(_describe(item) for item in items),
        )
        if to_engine:
            self._sender.wake()

    def _expire(self) -> None:
        keep_days = self._conf.evidence.keep_days
        if not keep_days:
            return
        if count := self._kept.expire(time.time() - keep_days * SECONDS_PER_DAY):
            LOG.info("Deleted evidence of %d events older than %s days", count, keep_days)


def _describe(item: Item) -> str:
    return f"{item.kind} {len(item.content)} bytes" if item.content else f"no {item.kind}"
