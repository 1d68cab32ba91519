# SPDX-License-Identifier: Apache-2.0
"""Stores events that are made inside an engine, by its own sources and by reconciliation.

They pass the same filters and the same writer as events of agents, but have no spool: ``store``
returns after the commit, and until then the caller must keep what it stores.
"""

import itertools
import uuid
from collections.abc import Callable, Iterable, Sequence

from oslo_log import log

from vmmonitor.engine.ingest.writer import EventWriter
from vmmonitor.model import event as events
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.event import Decision, Event, RawEvent
from vmmonitor.model.receipt import ReceiptStatus
from vmmonitor.rpc import event_wire
from vmmonitor.rpc.event_wire import Delivery
from vmmonitor.rules.filters import FILTER_FAILED, Filters

LOG = log.getLogger(__name__)

#: Host of an event whose source does not name one.
UNKNOWN_HOST = "unknown"


class LocalEvents:
    """Filters events and stores those that are kept.

    :ivar filters: the filters in force; replaced at a reload.
    """

    def __init__(
        self,
        *,
        filters: Filters,
        writer: EventWriter,
        store_timeout: float,
        now: Callable[[], int],
    ):
        """Create the filter stage in front of a writer.

        :param store_timeout: maximum time to store the events of one host, in seconds.
        :param now: returns the engines' clock, in microseconds since the epoch.
        """
        self.filters = filters
        self._writer = writer
        self._store_timeout = store_timeout
        self._now = now

    def store(self, raw_events: Iterable[RawEvent]) -> None:
        """Filter events and store those that are kept; returns after the commit.

        :raises vmmonitor.model.errors.Retriable: some are not stored; store all of them again,
            with the same ``event_id``.
        """
        self.store_deliveries(self.filter(raw_events))

    def store_unfiltered(self, raw_events: Iterable[RawEvent]) -> None:
        """Store events of the engine about hosts, which no filter rule may drop.

        :raises vmmonitor.model.errors.Retriable: some are not stored.
        """
        decision = Decision(action=events.RECORD, severity=events.WARNING, rule="engine")
        self.store_deliveries([self._deliver(raw, decision) for raw in raw_events])

    def _deliver(self, raw: RawEvent, decision: Decision) -> Delivery:
        event = events.made_of(raw, raw.host, raw.attributes, raw.event_id)
        form = event_wire.write_delivery(event, decision, self._now())
        return event_wire.read_delivery(form)

    def filter(self, raw_events: Iterable[RawEvent]) -> list[Delivery]:
        """Return the events that the filters keep and that can be stored."""
        return [delivery for raw in raw_events if (delivery := self._filter_one(raw))]

    def store_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        """Store filtered events; returns after the commit.

        :raises vmmonitor.model.errors.Retriable: some are not stored.
        """
        for host, of_host in itertools.groupby(deliveries, key=lambda each: each.event.host):
            batch = event_wire.Batch(host=host, sent_at=self._now(), deliveries=list(of_host))
            receipts = self._writer.store(batch, self._store_timeout)
            for delivery, receipt in zip(batch.deliveries, receipts, strict=True):
                if receipt.status == ReceiptStatus.REFUSED:
                    LOG.error("Event %s was refused: %s", _text(delivery), receipt.reason)

    def _filter_one(self, raw: RawEvent) -> Delivery | None:
        event_id = raw.event_id or str(uuid.uuid4())
        event = events.made_of(raw, raw.host or UNKNOWN_HOST, raw.attributes, event_id)
        decision = self._decide(event)
        if decision.action == events.IGNORE:
            LOG.debug(
                "Ignored event %s (%s) of instance %s by rule %s",
                event_id,
                event.cause,
                raw.instance.uuid,
                decision.rule,
            )
            return None
        try:
            # The wire format shortens long texts and refuses values that cannot be stored.
            form = event_wire.write_delivery(event, decision, self._now())
            return event_wire.read_delivery(form)
        except InvalidMessage as error:
            LOG.error("Dropped invalid event %s: %s: %.500r", event_id, error, raw)
            return None

    def _decide(self, event: Event) -> Decision:
        try:
            return self.filters.decide(event)
        except Exception:
            LOG.exception(
                "Filter error on event %s (%s); recorded by default", event.event_id, event.cause
            )
            return FILTER_FAILED


def _text(delivery: Delivery | str) -> str:
    """Return the id and the cause of an event, for a log line."""
    if isinstance(delivery, str):
        return delivery
    return f"{delivery.event.event_id} ({delivery.event.cause})"
