# SPDX-License-Identifier: Apache-2.0
"""Long lists are complete and without duplicates while events are inserted."""

import threading

from vmmonitor.db import events
from vmmonitor.tests.fixtures import api, sample
from vmmonitor.tests.functional.client import base

OLD = 250


class TestPages(base.CommandTest):
    filled = False

    def setUp(self) -> None:
        super().setUp()
        # Seven events each share a time, so that pages end between events with equal times.
        self.insert(sample.stored(f"old-{number}", number // 7) for number in range(OLD))
        self.stop = threading.Event()
        self.inserted = 0
        self.inserter = threading.Thread(target=self.keep_inserting)
        self.inserter.start()
        self.addCleanup(self.inserter.join)
        self.addCleanup(self.stop.set)

    def insert(self, stored) -> None:
        with self.api.database.writer() as tx:
            events.insert(tx, list(stored))

    def keep_inserting(self) -> None:
        while not self.stop.is_set():
            name, at = f"new-{self.inserted}", 1_000_000 + self.inserted
            self.insert([sample.stored(name, at, host="compute-2")])
            self.inserted += 1
            self.stop.wait(0.002)

    def assert_old(self, found: list[str]) -> None:
        """Check that each old event was found once, and no new event twice."""
        self.assertEqual(len(found), len(set(found)))
        old = {event_id for event_id in found if event_id.startswith("old-")}
        self.assertEqual({f"old-{number}" for number in range(OLD)}, old)
        self.assertGreater(self.inserted, 0)

    def test_links_lead_through_all_pages(self):
        for sort in ("occurred_at:desc", "occurred_at:asc", "stored:asc", "stored_at:desc"):
            found: list[str] = []
            url: str | None = f"{self.served.url}/v1/events?limit=7&sort={sort}&host=compute-1"
            while url:
                answer = api.get(url, self.api.token)
                found += [event["event_id"] for event in answer["events"]]
                url = next((link["href"] for link in answer["links"]), None)
            self.assert_old(found)
            self.assertEqual(OLD, len(found), sort)

    def test_command_reads_all_pages(self):
        self.api.conf.set_override("max_limit", 9, group="api")
        found = self.parsed("event", "list", "--limit", "0")
        self.assert_old([event["event_id"] for event in found])
        found = self.parsed("event", "list", "--limit", "100", "--host", "compute-1")
        self.assertEqual(100, len({event["event_id"] for event in found}))
