# SPDX-License-Identifier: Apache-2.0
"""The clocks of hosts and of the database, as an engine follows them."""

from unittest import mock

from vmmonitor.db import agents
from vmmonitor.engine.clock_steps import MIN_STEP, ClockStepDetector
from vmmonitor.engine.ingest.clock_offsets import REFRESH_INTERVAL, ClockOffsets
from vmmonitor.model.errors import Retriable
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON, SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import delivery

HOUR = 3600 * SECOND


class ClockOffsetsTest(base.EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.ticks = 0
        self.clock_offsets = ClockOffsets(self.database, lambda: self.ticks)

    def report(self, offset: int, host: str = "a") -> None:
        said = samples.report(host=host, sent_at=NOON - offset)
        self.database.run(agents.store_report, said, NOON)

    def of(self, offset: int, host: str = "a") -> int:
        return self.clock_offsets.get(host, NOON - offset, NOON)

    def test_offset_of_new_report_is_read_after_refresh_interval(self):
        self.report(-5 * SECOND)
        self.assertEqual(-5 * SECOND, self.of(-4 * SECOND))
        self.report(-7 * SECOND)
        self.assertEqual(-5 * SECOND, self.of(-4 * SECOND))
        self.ticks += REFRESH_INTERVAL + 1
        self.assertEqual(-7 * SECOND, self.of(-4 * SECOND))

    def test_offsets_of_many_hosts_are_read_by_one_query(self):
        with mock.patch.object(self.database, "reader", wraps=self.database.reader) as reader:
            for number in range(1000):
                self.of(2000, f"host-{number}")
        self.assertEqual(1, reader.call_count)

    def test_changed_offset_stays_for_later_messages(self):
        self.assertEqual(0, self.of(2000))
        self.assertEqual(-HOUR, self.of(-HOUR))
        self.assertEqual([-HOUR] * 3, [self.of(way - HOUR) for way in (9000, 0, -5000)])
        self.assertEqual(0, self.of(2000))

    def test_offset_of_unknown_host_follows_its_messages(self):
        self.assertEqual((0, -HOUR), (self.of(2000, "new"), self.of(-HOUR, "other")))

    def test_offset_without_database_stays_as_known(self):
        self.report(-5 * SECOND)
        self.of(0)
        self.ticks += REFRESH_INTERVAL + 1
        with mock.patch.object(self.database, "reader", side_effect=Retriable("away")) as reader:
            found = [self.of(0) for _ in range(3)]
        self.assertEqual(([-5 * SECOND] * 3, 1), (found, reader.call_count))


class ClockStepTest(base.EngineCase):
    def test_check_returns_time_passed_and_clock_step(self):
        ticks = 0
        steps = ClockStepDetector(lambda: ticks)
        self.assertIsNone(steps.check(NOON))
        for passed, moved, expected in (
            (SECOND, SECOND, (SECOND, 0)),
            (SECOND, SECOND + MIN_STEP, (SECOND, 0)),
            (SECOND, -HOUR, (SECOND, -HOUR - SECOND)),
            (SECOND, HOUR, (SECOND, HOUR - SECOND)),
            (HOUR, HOUR, (HOUR, 0)),
        ):
            ticks += passed
            self.clock += moved
            self.assertEqual(expected, steps.check(self.clock))


class LeaseTest(base.EngineCase):
    def test_recovery_of_running_engine_after_clock_step_is_not_taken_over(self):
        """The owner renews a third of a lease later, by then it is known to live."""
        self.conf.set_override("poll_interval", 0.05, "recovery")
        workers = self.recoveries()
        self.store(delivery())
        claim = self.decide()
        looks = mock.Mock(wraps=workers._without_trusted_leases)
        workers._without_trusted_leases = looks
        self.eventually_looked(looks)
        self.clock += HOUR
        self.eventually_looked(looks)
        self.eventually_looked(looks)
        self.assertEqual(claim.recovery, self.last_attempt())
        self.assertEqual([], self.driver.requests)

    def test_recovery_without_renewed_lease_is_taken_over(self):
        self.conf.set_override("poll_interval", 0.05, "recovery")
        self.conf.set_override("lease", 1, "recovery")
        workers = self.recoveries()
        looks = mock.Mock(wraps=workers._without_trusted_leases)
        workers._without_trusted_leases = looks
        self.store(delivery())
        self.decide()
        self.eventually_looked(looks)
        self.clock += HOUR
        base.eventually(lambda: self.driver.requests)
        self.assertTrue(self.driver.requests[0].taken_over)

    def eventually_looked(self, looks: mock.Mock) -> None:
        before = looks.call_count
        base.eventually(lambda: looks.call_count > before + 1)
