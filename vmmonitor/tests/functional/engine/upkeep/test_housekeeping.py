# SPDX-License-Identifier: Apache-2.0
"""Purging of old rows, and the thread that does it."""

import time
from unittest import mock

from vmmonitor.db import agents, events
from vmmonitor.engine.upkeep import housekeeping
from vmmonitor.engine.upkeep.agent_health import AgentHealth
from vmmonitor.engine.upkeep.housekeeping import DAY, Housekeeping
from vmmonitor.model.errors import Retriable
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import RUNS, delivery


class HousekeepingCase(base.EngineCase):
    def setUp(self):
        super().setUp()
        self.set(interval=0.1)

    def set(self, **options):
        for name, value in options.items():
            self.conf.set_override(name, value, "housekeeping")

    def housekeeping(self) -> Housekeeping:
        return Housekeeping(self.conf, self.database)

    def started(self) -> Housekeeping:
        made = self.housekeeping()
        made.start()
        self.addCleanup(made.stop, 5)
        return made

    def events_of(self, count: int, at: int = NOON) -> None:
        self.database.run(events.insert, [samples.stored(at) for _ in range(count)])

    def state(self, host: str) -> str:
        with self.database.reader() as tx:
            return agents.get(tx, host).state


class PurgeTest(HousekeepingCase):
    def test_purge_deletes_rows_older_than_keep_days(self):
        self.set(keep_days=2)
        self.store(delivery(), delivery(RUNS))
        self.events_of(3, NOON + DAY)
        self.clock += 2 * DAY
        self.housekeeping().purge()
        self.assertEqual((5, 1), (len(self.events()), len(self.incidents())))
        self.clock += 1
        self.housekeeping().purge()
        self.assertEqual((3, 0), (len(self.events()), len(self.incidents())))

    def test_purge_keeps_old_open_incident(self):
        self.set(keep_days=1, keep_events=1)
        self.store(delivery(), delivery("reboot/info"))
        self.clock += 9 * DAY
        self.housekeeping().purge()
        self.assertEqual((2, 1), (len(self.events()), len(self.incidents())))

    def test_purge_deletes_events_beyond_keep_events(self):
        self.set(keep_days=0, keep_events=5)
        self.events_of(12)
        newest = [stored.event.event_id for stored in self.events()[-5:]]
        self.clock += 9000 * DAY
        with mock.patch.object(housekeeping, "CHUNK", 3):
            self.housekeeping().purge()
        self.assertEqual(newest, [stored.event.event_id for stored in self.events()])

    def test_purge_without_limits_deletes_nothing(self):
        self.set(keep_days=0, keep_events=0)
        self.store(delivery(), delivery(RUNS))
        self.clock += 9000 * DAY
        self.housekeeping().purge()
        self.assertEqual((2, 1), (len(self.events()), len(self.incidents())))

    def test_stop_ends_purge_of_many_rows(self):
        self.set(keep_days=1)
        self.events_of(10)
        self.clock += 9 * DAY
        made = self.housekeeping()
        made.start()
        made.stop(5)
        with mock.patch.object(housekeeping, "CHUNK", 1):
            made.purge()
        self.assertEqual(10, len(self.events()))


class ThreadsTest(HousekeepingCase):
    def test_threads_purge_and_check_agents_repeatedly(self):
        self.set(keep_days=1)
        self.events_of(1)
        self.database.run(agents.store_report, samples.report(interval=0.1), self.clock)
        self.started()
        health = AgentHealth(self.conf, self.database)
        health.start()
        self.addCleanup(health.stop, 5)
        self.clock += 2 * DAY
        eventually(lambda: not self.events())

        def late():
            self.later(0.05)
            return self.state("compute-1") == "late"

        eventually(late)

    def test_thread_continues_after_errors(self):
        real = self.database.run
        run = mock.Mock(side_effect=[Retriable("away"), ValueError("odd")] * 4)
        self.set(keep_days=1)
        self.events_of(1)
        self.database.run(agents.store_report, samples.report(), self.clock)
        self.database.run = run
        self.started()
        self.clock += 2 * DAY
        eventually(lambda: run.call_count >= 4)
        self.database.run = real
        eventually(lambda: not self.events())

    def test_stop_with_long_interval_returns_at_once(self):
        self.set(interval=3600)
        made = self.started()
        started = time.monotonic()
        made.stop(10)
        self.assertLess(time.monotonic() - started, 2)
