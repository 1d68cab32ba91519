# SPDX-License-Identifier: Apache-2.0
"""A queue whose consumer takes all waiting items at once, up to a limit."""

import queue
from typing import Generic, TypeVar

Item = TypeVar("Item")


class BatchQueue(Generic[Item]):
    """First in, first out, for any number of producers and one consumer."""

    def __init__(self) -> None:
        """Create an empty queue."""
        self._queue: queue.SimpleQueue[tuple[Item, int] | None] = queue.SimpleQueue()
        self.is_closed = False

    def put(self, item: Item, weight: int = 1) -> None:
        """Add an item. Never blocks.

        :param weight: share of the item in the limit of a batch.
        """
        self._queue.put((item, weight))

    def close(self) -> None:
        """Let the consumer end after the items that are in the queue now."""
        self._queue.put(None)

    def get_batch(self, limit: int, timeout: float | None = None) -> list[Item]:
        """Wait for an item and return it with the other waiting items.

        Sets ``is_closed`` when everything that was added before ``close`` has been returned.

        :param limit: the batch ends when the weight of its items reaches this number.
        :param timeout: maximum time to wait for the first item, in seconds; None waits
            indefinitely.
        """
        batch: list[Item] = []
        weight = 0
        try:
            entry = self._queue.get(timeout=timeout)
            while entry is not None:
                batch.append(entry[0])
                weight += entry[1]
                if weight >= limit:
                    return batch
                entry = self._queue.get_nowait()
        except queue.Empty:
            return batch
        self.is_closed = True
        return batch
