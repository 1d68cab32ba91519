# SPDX-License-Identifier: Apache-2.0
import math
import unittest

from vmmonitor.db.limits import QueuedIncident
from vmmonitor.engine.admission.concurrency import select_next, why_full


def waiting(name: str, host: str = "a", priority: int = 0, since: int = 0) -> QueuedIncident:
    return QueuedIncident(incident_id=name, host=host, priority=priority, since=since, until=0)


class SelectNextTest(unittest.TestCase):
    def names(self, queue, under_way=None, per_host=math.inf, total=math.inf):
        return [each.incident_id for each in select_next(queue, under_way or {}, per_host, total)]

    def test_queue_is_ordered_by_priority_then_age(self):
        queue = [
            waiting("late", since=9),
            waiting("early", since=1),
            waiting("important", priority=5, since=99),
            waiting("unimportant", priority=-1),
        ]
        self.assertEqual(["important", "early", "late"], self.names(queue, total=3))
        self.assertEqual(4, len(self.names(queue)))

    def test_recovery_in_progress_occupies_slot(self):
        queue = [waiting(name) for name in "bcde"]
        self.assertEqual(["b"], self.names(queue, {"a": 2}, per_host=3))
        self.assertEqual(["b", "c"], self.names(queue, {"z": 2}, total=4))
        self.assertEqual([], self.names(queue, {"a": 4}, per_host=3))
        self.assertEqual([], self.names(queue, {"z": 9}, total=4))

    def test_full_host_does_not_delay_other_hosts(self):
        queue = [*(waiting(name, priority=9) for name in "bcd"), waiting("other", host="z")]
        self.assertEqual(["b", "other"], self.names(queue, per_host=1, total=9))
        self.assertEqual(["other"], self.names(queue, {"a": 1}, per_host=1))

    def test_why_full_names_the_limit(self):
        self.assertEqual("", why_full({"a": 1}, "a", 2, 2))
        self.assertEqual(
            "queued: the limit of 2 concurrent recoveries on host a is reached",
            why_full({"a": 2}, "a", 2, 9),
        )
        self.assertEqual(
            "queued: the limit of 9 concurrent recoveries is reached",
            why_full({"b": 9}, "a", 2, 9),
        )
