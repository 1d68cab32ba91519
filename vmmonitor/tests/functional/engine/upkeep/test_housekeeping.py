# SPDX-License-Identifier: Apache-2.0
"""What is too old or too much goes, and an agent that is silent is late."""

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
    def test_what_is_too_old_goes(self):
        self.set(keep_days=2)
        self.store(delivery(), delivery(RUNS))
        self.events_of(3, NOON + DAY)
        self.clock += 2 * DAY
        self.housekeeping().purge()
        self.assertEqual((5, 1), (len(self.events()), len(self.incidents())))
        self.clock += 1
        self.housekeeping().purge()
        self.assertEqual((3, 0), (len(self.events()), len(self.incidents())))

    def test_what_is_not_over_stays_however_old(self):
        self.set(keep_days=1, keep_events=1)
        self.store(delivery(), delivery("reboot/info"))
        self.clock += 9 * DAY
        self.housekeeping().purge()
        self.assertEqual((2, 1), (len(self.events()), len(self.incidents())))

    def test_what_is_too_much_goes(self):
        self.set(keep_days=0, keep_events=5)
        self.events_of(12)
        newest = [stored.event.event_id for stored in self.events()[-5:]]
        self.clock += 9000 * DAY
        with mock.patch.object(housekeeping, "CHUNK", 3):
            self.housekeeping().purge()
        self.assertEqual(newest, [stored.event.event_id for stored in self.events()])

    def test_everything_is_kept_for_ever_if_asked(self):
        self.set(keep_days=0, keep_events=0)
        self.store(delivery(), delivery(RUNS))
        self.clock += 9000 * DAY
        self.housekeeping().purge()
        self.assertEqual((2, 1), (len(self.events()), len(self.incidents())))

    def test_a_stop_is_not_kept_waiting_by_much_to_delete(self):
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
    def test_both_are_done_again_and_again(self):
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

    def test_nothing_ends_them(self):
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

    def test_a_stop_is_bounded(self):
        self.set(interval=3600)
        made = self.started()
        started = time.monotonic()
        made.stop(10)
        self.assertLess(time.monotonic() - started, 2)
