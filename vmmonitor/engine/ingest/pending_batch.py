# SPDX-License-Identifier: Apache-2.0
"""Batches that wait to be stored, and the result of storing them."""

import concurrent.futures
import dataclasses
from collections.abc import Iterator, Sequence

from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident
from vmmonitor.model.receipt import Receipt
from vmmonitor.rpc import event_wire


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PendingBatch:
    """A batch of one host that waits to be stored.

    :param received_at: microseconds since the epoch, engines' clock.
    :param clock_offset: microseconds to add to the times of the host.
    :param receipts: set to one receipt for each event, or to an error.
    """

    batch: event_wire.Batch
    received_at: int
    clock_offset: int
    receipts: "concurrent.futures.Future[list[Receipt]]" = dataclasses.field(
        default_factory=concurrent.futures.Future
    )

    @property
    def deliveries(self) -> Sequence[event_wire.Delivery | str]:
        """The events; a string is the reason why an event could not be read."""
        return self.batch.deliveries

    def events(self) -> Iterator[Event]:
        """Yield the events that could be read."""
        yield from (each.event for each in self.deliveries if not isinstance(each, str))

    def part(self, deliveries: Sequence[event_wire.Delivery | str]) -> "PendingBatch":
        """Return a batch of the same host with these events, and with receipts of its own."""
        batch = dataclasses.replace(self.batch, deliveries=deliveries)
        return dataclasses.replace(self, batch=batch, receipts=concurrent.futures.Future())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoreResult:
    """The result of one transaction, valid after its commit.

    :param receipts: for each batch, one receipt for each event.
    :param newly_held: incidents whose hold was set or changed.
    :param freed_slot: the transaction ended a recovery, so a concurrency slot is free.
    """

    receipts: list[list[Receipt]]
    newly_held: list[Incident]
    freed_slot: bool
