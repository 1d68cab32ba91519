# SPDX-License-Identifier: Apache-2.0
"""A queue whose consumer takes all waiting items at once, up to a limit."""

import queue
import threading
from typing import Generic, TypeVar

Item = TypeVar("Item")


class BatchQueue(Generic[Item]):
    """First in, first out, for any number of producers and one consumer."""

    def __init__(self, max_items: int | None = None) -> None:
        """Create an empty queue.

        :param max_items: maximum number of waiting items; None for no limit.
        """
        self._queue: queue.SimpleQueue[tuple[Item, int] | None] = queue.SimpleQueue()
        self._free = None if max_items is None else threading.Semaphore(max_items)
        self.is_closed = False

    def __len__(self) -> int:
        """Return the approximate number of waiting items."""
        return self._queue.qsize()

    def put(self, item: Item, weight: int = 1, timeout: float | None = None) -> bool:
        """Add an item; return False if the queue was full for the whole timeout.

        :param weight: share of the item in the limit of a batch.
        :param timeout: maximum time to wait while the queue is full, in seconds; None waits
            indefinitely. A queue without ``max_items`` never blocks.
        """
        if self._free is not None and not self._free.acquire(timeout=timeout):
            return False
        self._queue.put((item, weight))
        return True

    def close(self) -> None:
        """Let the consumer end after the items that are in the queue now. Never blocks."""
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
                if self._free is not None:
                    self._free.release()
                weight += entry[1]
                if weight >= limit:
                    return batch
                entry = self._queue.get_nowait()
        except queue.Empty:
            return batch
        self.is_closed = True
        return batch
