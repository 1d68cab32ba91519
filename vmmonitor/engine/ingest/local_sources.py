# SPDX-License-Identifier: Apache-2.0
"""How what is noticed inside an engine becomes an event: as on a host, but without a spool.

The same rules decide, and the same ingest stores. There is no disk between, so what gives
(the bus, the next round of reconciliation) must keep what it gave until it is stored: ``store``
returns after the commit, and ``observe`` makes its caller wait where too much waits already.
"""

import itertools
import queue
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence

from oslo_log import log

from vmmonitor.model import event as events
from vmmonitor.model.errors import InvalidMessage, Retriable
from vmmonitor.model.event import Decision, Event, Observation, RawEvent, Reachability
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire
from vmmonitor.rules.filters import UNDECIDED, Filters

LOG = log.getLogger(__name__)

#: Observations that may wait to be stored; one more makes its source wait.
MOST = 10_000
#: Observations that are stored together at most.
CHUNK = 500
#: Seconds between two tries to store what could not be stored.
RETRY = 1.0
#: The host of something of which nobody said where it happened.
NOWHERE = "unknown"
Store = Callable[[event_wire.Batch, float], Sequence[Receipt]]


class LocalSources:
    """Takes what sources inside this engine observe to the database."""

    def __init__(self, filters: Filters, store: Store, timeout: float, now: Callable[[], int]):
        """Keep the parts; start nothing.

        :param store: stores a batch (``EventWriter.store``).
        :param timeout: seconds that storing may take.
        :param now: the engines' common clock, in microseconds since the epoch.
        """
        self.filters = filters
        self._store = store
        self._timeout = timeout
        self._now = now
        self._waiting: queue.Queue[Observation | None] = queue.Queue(MOST)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observe", daemon=True)

    # -- any thread ----------------------------------------------------------------------------
    def observe(self, observation: Observation) -> None:
        """Queue what a source saw, to be stored in its order, and again until it is.

        Waits while MOST observations wait; after a stop it drops them, and says so.
        """
        while not self._stopping.is_set():
            try:
                self._waiting.put(observation, timeout=RETRY)
                return
            except queue.Full:
                continue
        LOG.error("Lost, because this engine stops: %.500r", observation)

    def store(self, raws: Iterable[RawEvent]) -> None:
        """Decide on events and store those that are kept; returns when they are committed.

        :raises vmmonitor.model.errors.Retriable: not all of them are stored; give them again,
            with the same ``event_id``.
        """
        self._send(self._decided(raws))

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Store what waits, then end the thread; at most ``timeout`` seconds.

        What cannot be stored by then is lost, and logged.
        """
        self._stopping.set()
        try:
            self._waiting.put(None, timeout=timeout)
        except queue.Full:
            LOG.error("%d observations could not be stored in time", self._waiting.qsize())
            return
        self._thread.join(timeout)

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        going = True
        while going:
            taken = self._take()
            going = None not in taken
            self._keep([one for one in taken if isinstance(one, RawEvent)])

    def _take(self) -> list[Observation | None]:
        taken = [self._waiting.get()]
        while len(taken) < CHUNK and not self._waiting.empty():
            taken.append(self._waiting.get())
        for one in taken:
            if isinstance(one, Reachability):
                _log(one)
        return taken

    def _keep(self, raws: Sequence[RawEvent]) -> None:
        """Store events, again and again; a stop ends that after a last try."""
        # Decided once, so that all tries speak of the same events.
        deliveries = self._decided(raws)
        while deliveries:
            try:
                self._send(deliveries)
                return
            except Retriable as error:
                LOG.warning("%d events wait to be stored: %s", len(deliveries), error)
                if self._stopping.is_set():
                    break
            except Exception:
                LOG.exception("%d events cannot be stored", len(deliveries))
                break
            self._stopping.wait(RETRY)
        for delivery in deliveries:
            event = delivery.event
            LOG.error("Lost: %s of instance %s", event.cause, event.instance.uuid)

    # -- the steps -----------------------------------------------------------------------------
    def _send(self, deliveries: Sequence[event_wire.Delivery]) -> None:
        for host, group in itertools.groupby(deliveries, key=lambda one: one.event.host):
            of_host = list(group)
            batch = event_wire.Batch(host=host, sent_at=self._now(), deliveries=of_host)
            for delivery, receipt in zip(of_host, self._store(batch, self._timeout), strict=True):
                if receipt.status == ReceiptStatus.REFUSED:
                    LOG.error("%s is refused: %s", delivery.event.cause, receipt.reason)

    def _decided(self, raws: Iterable[RawEvent]) -> list[event_wire.Delivery]:
        return [delivery for raw in raws if (delivery := self._delivery(raw))]

    def _delivery(self, raw: RawEvent) -> event_wire.Delivery | None:
        """Return the event with what the rules make of it; None if they ignore it."""
        event_id = raw.event_id or str(uuid.uuid4())
        event = events.made_of(raw, raw.host or NOWHERE, raw.attributes, event_id)
        decision = self._decide(event)
        if decision.action == events.IGNORE:
            LOG.debug("Rule %s ignores %s of %s", decision.rule, event.cause, raw.instance.uuid)
            return None
        try:
            # There and back: what is too long is cut, what nobody could store is refused.
            return event_wire.read_delivery(
                event_wire.write_delivery(event, decision, self._now())
            )
        except InvalidMessage as error:
            LOG.error("This cannot be stored and is dropped: %.500r: %s", raw, error)
            return None

    def _decide(self, event: Event) -> Decision:
        try:
            return self.filters.decide(event)
        except Exception:
            LOG.exception("The filter failed on %s; the event is recorded", event.cause)
            return UNDECIDED


def _log(word: Reachability) -> None:
    if word.reachable:
        LOG.info("Source %s sees what it watches", word.source)
    else:
        LOG.warning("Source %s is blind, and tries again for ever: %s", word.source, word.reason)
