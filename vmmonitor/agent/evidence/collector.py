# SPDX-License-Identifier: Apache-2.0
"""Has evidence captured for events whose rule asks for it, after they are safe in the spool.

    pipeline --submit()--> bounded queue --> capture --> directory [--> sender --> engine]
                                      thread "evidence"            thread "evidence-sender"

Nothing here is waited for: no event depends on its evidence. It refers to it by its own id, so
that the reference holds before there is anything; whoever follows it is told what is missing.
"""

import collections
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from oslo_config import cfg
from oslo_log import log

from vmmonitor.agent.evidence.files import EvidenceFiles
from vmmonitor.agent.evidence.sender import EvidenceSender
from vmmonitor.agent.spool import Spool
from vmmonitor.model import evidence
from vmmonitor.model.event import Event
from vmmonitor.model.evidence import Item
from vmmonitor.model.instance import Seen
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.rules.filters import Filters

LOG = log.getLogger(__name__)

DAY = 86400
#: Seconds between two looks for evidence that is too old.
TIDY = 3600.0
STOP = None


class Capturer(Protocol):
    """What captures (``sources.libvirt.evidence.LibvirtCapturer``)."""

    def start(self) -> None:
        """Begin to remember what was before an event."""

    def stop(self, timeout: float) -> None:
        """Remember no more."""

    def take(self, event: Event, seen: Seen | None, kinds: Sequence[str]) -> Iterator[Item]:
        """Yield an item for each kind, in a bounded time; raises nothing."""


class EvidenceCollector:
    """The evidence of one agent. It has no thread, file or connection until a rule asks."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        load: Callable[[Callable[[], bool]], Capturer],
        find: Callable[[str], Seen | None],
        spool: Spool,
        engine: EngineAPI,
    ):
        """Keep the parts; start nothing.

        :param load: returns what captures; called when the first rule asks for anything. Its
            argument tells whether a rule asks for statistics.
        :param find: tells how an instance was last seen.
        """
        #: What was not captured, or not kept, by the reason.
        self.lost: collections.Counter[str] = collections.Counter()
        self._conf = conf
        self._load = load
        self._find = find
        options = conf.evidence
        kept, outgoing = (os.path.join(options.directory, one) for one in ("kept", "outgoing"))
        self._kept = EvidenceFiles(kept, options.max_total_bytes)
        self._outgoing = EvidenceFiles(outgoing, options.max_total_bytes)
        self._sender = EvidenceSender(conf, self._outgoing, spool, engine)
        self._queue: queue.Queue[tuple[Event, tuple[str, ...]] | None] = queue.Queue(
            options.queue_size
        )
        self._captures: Capturer | None = None
        self._filters: Filters | None = None
        self._full = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    # -- any thread ----------------------------------------------------------------------------
    def start(self, filters: Filters) -> None:
        """Send or delete what an earlier life has left; begin with what these rules ask for."""
        self._tidy_up()
        if len(self._outgoing):
            self._sender.start()
        self.use(filters)

    def use(self, filters: Filters) -> None:
        """Capture what these rules ask for; call it before they are in force."""
        self._filters = filters
        if self._captures or not any(map(filters.wants, evidence.KINDS)):
            return
        try:
            self._captures = self._load(self._wants_stats)
        except Exception:
            # Events do not depend on it.
            LOG.exception("Nothing can be captured here")
            return
        self._captures.start()
        self._thread.start()
        if self._conf.evidence.store == evidence.ENGINE:
            self._sender.start()

    def stop(self, timeout: float) -> None:
        """End the threads; at most ``timeout`` seconds. What waits is not captured any more."""
        self._stopping.set()
        deadline = time.monotonic() + timeout
        if self._captures:
            try:
                self._queue.put_nowait(STOP)
            except queue.Full:
                LOG.debug("The queue is full; its thread looks whether to stop")
            self._captures.stop(timeout)
            self._thread.join(max(0.0, deadline - time.monotonic()))
        self._sender.stop(max(0.0, deadline - time.monotonic()))

    def reference(self, event_id: str, kinds: Sequence[str]) -> dict[str, Any]:
        """Return what an event says of its evidence: what was asked for, and where it will be."""
        store = self._conf.evidence.store
        place = {"path": os.path.join(self._kept.path, event_id)} if store == "host" else {}
        return {"kinds": list(kinds), "kept": store} | place

    def submit(self, event: Event, kinds: tuple[str, ...]) -> None:
        """Have evidence of an event captured; never blocks.

        Beyond ``[evidence] queue_size`` it is not captured, and that is counted.
        """
        if self._captures is None:
            self.lost["nothing-captures"] += 1
            return
        self._full = self._full and not self._queue.empty()
        try:
            self._queue.put_nowait((event, kinds))
        except queue.Full:
            self.lost["queue-full"] += 1
            if not self._full:
                LOG.warning("Too many events ask for evidence; that of some is not captured")
            self._full = True

    def figures(self) -> dict[str, int]:
        """Return how many events' evidence was lost, by the reason."""
        overflowed = self._kept.overflowed + self._outgoing.overflowed
        return dict(self.lost) | ({"overflowed": overflowed} if overflowed else {})

    def _wants_stats(self) -> bool:
        return bool(self._filters and self._filters.wants(evidence.STATS))

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        tidied = float("-inf")
        while not self._stopping.is_set():
            if time.monotonic() - tidied > TIDY:
                tidied = time.monotonic()
                self._tidy_up()
            try:
                asked = self._queue.get(timeout=TIDY)
            except queue.Empty:
                continue
            if asked is not STOP:
                self._capture(*asked)

    def _capture(self, event: Event, kinds: tuple[str, ...]) -> None:
        try:
            assert self._captures is not None
            seen = self._find(event.instance.uuid)
            items = []
            for item in self._captures.take(event, seen, kinds):
                items.append(item)
                if self._stopping.is_set():
                    break
            self._write(event, items)
        except OSError as error:
            self.lost["not-written"] += 1
            LOG.error("Evidence of event %s cannot be written: %s", event.event_id, error)
        except Exception:
            # Whatever it is: the next event's evidence may well be captured.
            self.lost["failed"] += 1
            LOG.exception("Capturing evidence of event %s failed", event.event_id)

    def _write(self, event: Event, items: Sequence[Item]) -> None:
        to_engine = self._conf.evidence.store == evidence.ENGINE
        files = self._outgoing if to_engine else self._kept
        files.write(event.event_id, items)
        # Sizes and kinds only: what was captured is for the eyes of whoever asks for it.
        LOG.info(
            "Evidence of event %s (%s of instance %s): %s",
            *(event.event_id, event.cause, event.instance.uuid),
            ", ".join(_told(item) for item in items),
        )
        if to_engine:
            self._sender.wake()

    def _tidy_up(self) -> None:
        if not self._conf.evidence.keep_days:
            return
        before = time.time() - self._conf.evidence.keep_days * DAY
        if gone := self._kept.expire(before):
            LOG.info("The evidence of %d events was too old, and is deleted", gone)


def _told(item: Item) -> str:
    return f"{item.kind} {len(item.content)} bytes" if item.content else f"no {item.kind}"
