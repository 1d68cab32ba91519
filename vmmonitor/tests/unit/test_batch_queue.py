# SPDX-License-Identifier: Apache-2.0
import unittest

from vmmonitor.batch_queue import BatchQueue


class BatchQueueTest(unittest.TestCase):
    def queue(self, *items: str) -> BatchQueue[str]:
        queue: BatchQueue[str] = BatchQueue()
        for item in items:
            queue.put(item)
        return queue

    def test_get_batch_returns_all_waiting_items_in_order(self):
        self.assertEqual(["a", "b", "c"], self.queue("a", "b", "c").get_batch(10))

    def test_get_batch_limit_reached_leaves_rest(self):
        queue = self.queue("a", "b", "c")
        self.assertEqual([["a", "b"], ["c"]], [queue.get_batch(2), queue.get_batch(2)])

    def test_get_batch_heavy_item_ends_batch(self):
        queue = self.queue("a")
        queue.put("heavy", weight=50)
        queue.put("b")
        self.assertEqual([["a", "heavy"], ["b"]], [queue.get_batch(10), queue.get_batch(10)])

    def test_get_batch_empty_queue_returns_nothing_after_timeout(self):
        queue = self.queue()
        self.assertEqual([], queue.get_batch(10, timeout=0))
        self.assertFalse(queue.is_closed)

    def test_close_returns_earlier_items_first(self):
        queue = self.queue("a")
        queue.close()
        self.assertEqual(["a"], queue.get_batch(10))
        self.assertTrue(queue.is_closed)

    def test_close_limit_reached_before_end_is_reported_next_time(self):
        queue = self.queue("a")
        queue.close()
        self.assertEqual(["a"], queue.get_batch(1))
        self.assertFalse(queue.is_closed)
        self.assertEqual([], queue.get_batch(1))
        self.assertTrue(queue.is_closed)

    def test_put_full_queue_returns_false_until_batch_is_taken(self):
        queue: BatchQueue[str] = BatchQueue(max_items=2)
        self.assertEqual([True, True, False], [queue.put(item, timeout=0) for item in "abc"])
        self.assertEqual(2, len(queue))
        queue.get_batch(10)
        self.assertTrue(queue.put("d", timeout=0))

    def test_close_full_queue_does_not_block(self):
        queue: BatchQueue[str] = BatchQueue(max_items=1)
        queue.put("a")
        queue.close()
        self.assertEqual(["a"], queue.get_batch(10))
        self.assertTrue(queue.is_closed)
