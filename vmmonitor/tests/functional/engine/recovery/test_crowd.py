# SPDX-License-Identifier: Apache-2.0
"""The recovery workers where turns are few: a thousand that fail at once, before one engine on
SQLite, and what must not wait."""

import threading

from vmmonitor.db import recoveries, session
from vmmonitor.db.page import Page
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.engine.base import (
    IT_FAILED,
    NOON,
    RUNS,
    EngineCase,
    batch,
    delivery,
)
from vmmonitor.tests.functional.engine.crowd import Crowd


class CrowdTest(Crowd, EngineCase):
    many = 1000

    def databases(self) -> list[session.Database]:
        return [self.database]


class WorkersTest(EngineCase):
    """The recovery workers of an engine that looks of itself only once a minute."""

    def setUp(self):
        super().setUp()
        self.conf.set_override("poll_interval", 60, "recovery")

    def work(self):
        engine = self.recoveries()
        return self.ingest(recovery_queue=engine)

    def called(self):
        return [one.incident.instance.uuid for one in self.driver.requests]

    def test_a_turn_that_an_event_frees_is_taken_at_once(self):
        self.conf.set_override("max_recoveries_per_host", 1, "limits")
        ingest = self.work()
        ingest.store(batch(delivery(uuid="a", occurred_at=NOON - 1)), 20)
        eventually(lambda: self.called() == ["a"])
        ingest.store(batch(delivery(uuid="b"), delivery(uuid="c", occurred_at=NOON + 1)), 20)
        eventually(
            lambda: [one.held_by for one in self.incidents()] == ["", "concurrency", "concurrency"]
        )
        for before, after in (("a", "b"), ("b", "c")):
            eventually(lambda before=before: self.waits(before))
            ingest.store(batch(delivery(RUNS, uuid=before, occurred_at=NOON + 2)), 20)
            eventually(lambda after=after: self.called()[-1] == after)
        self.assertEqual(["a", "b", "c"], self.called())

    def waits(self, uuid):
        """Tell whether the driver has done its part for an instance."""
        with self.database.reader() as tx:
            found = recoveries.page(tx, Page(limit=9, filters={"instance_uuid": uuid}))
        return [one.state for one in found] == ["waiting"]

    def test_an_expectation_that_hangs_keeps_nobody_from_work(self):
        self.conf.set_override("workers", 1, "recovery")
        self.conf.set_override("verdict_timeout", 0.2, "recovery")
        go_on = threading.Event()
        self.addCleanup(go_on.set)

        def answer(incident, _):
            if incident.instance.uuid == "hangs":
                go_on.wait(60)
            return IT_FAILED

        self.expectation.answer = answer
        ingest = self.work()
        ingest.store(batch(delivery(uuid="hangs")), 20)
        eventually(lambda: self.expectation.asked)
        ingest.store(batch(delivery(uuid="b")), 20)
        eventually(lambda: self.called() == ["b"])
        (hangs,) = [one for one in self.incidents() if one.instance.uuid == "hangs"]
        self.assertEqual("the expectation did not answer within 0.2 s", hangs.reason)
        self.assertEqual("pending", hangs.state)
