# SPDX-License-Identifier: Apache-2.0
"""The reports of the agent, and when they are sent."""

import collections
import types

import testtools

from vmmonitor import conf as configuration
from vmmonitor.agent.health import HealthState
from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.inventory_sync import InventorySync
from vmmonitor.agent.reporter import Reporter
from vmmonitor.model.errors import Retriable
from vmmonitor.model.instance import Instance
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.unit.agent.base import (
    PATIENCE,
    Clock,
    Engine,
    Evidence,
    MemorySpool,
    Rules,
    raw,
)

UP = HealthState("up", "")


class Health:
    """A health that the test sets."""

    def __init__(self):
        self.now = UP

    def assess(self):
        return self.now


class ReporterTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.conf = configuration.new([], files=[])
        self.conf.set_override("host", "compute-1")
        self.conf.set_override("report_interval", 3600, "agent")
        self.clock = Clock()
        self.spool = MemorySpool()
        self.inventory = Inventory({})
        self.engine = Engine()
        self.health = Health()
        self.forgotten = []
        self.filters = Rules()
        self.reporter = Reporter(
            conf=self.conf,
            pipeline=types.SimpleNamespace(
                dropped=collections.Counter(noise=3), forget=self.forgotten.append
            ),
            event_filter=types.SimpleNamespace(last_event_at=17, filters=self.filters),
            health=self.health,
            inventory=self.inventory,
            inventory_sync=InventorySync(
                conf=self.conf, inventory=self.inventory, engine=self.engine
            ),
            spool=self.spool,
            evidence=Evidence(),
            engine=self.engine,
            now=self.clock,
        )

    def start(self):
        self.reporter.start()
        self.addCleanup(self.reporter.stop, PATIENCE)

    def apply(self, cause, **changes):
        self.inventory.listed = True
        self.inventory.apply_event(raw(cause, **changes))

    def next_state(self):
        """Return the state in the next report."""
        return self.engine.called.get(timeout=PATIENCE)

    def test_report_contains_health_counters_and_checksums(self):
        self.spool.put("a")
        self.spool.overflowed = 4
        self.reporter.send_report()
        (report,) = self.engine.reports
        self.assertEqual(("compute-1", "up", 1), (report.host, report.state, report.spool_depth))
        self.assertEqual((self.clock.time, 17), (report.started_at, report.last_event_at))
        self.assertEqual(self.filters.checksum, report.filter_checksum)
        self.assertEqual(
            {
                "dropped": {"noise": 3},
                "overflowed": 4,
                "evidence_lost": {},
                "spools_set_aside": [],
            },
            report.figures,
        )

    def test_report_is_followed_by_the_inventory(self):
        self.apply("lifecycle.started/booted")
        self.reporter.send_report()
        self.assertEqual(1, len(self.engine.inventories))
        self.reporter.send_report()
        self.assertEqual(1, len(self.engine.inventories))

    def test_report_before_the_first_listing_has_no_inventory(self):
        self.inventory.apply_event(raw("lifecycle.started/booted"))
        self.reporter.send_report()
        self.assertEqual("", self.engine.reports[0].inventory_digest)
        self.assertEqual([], self.engine.inventories)

    def test_report_lets_the_pipeline_forget_old_instances(self):
        self.conf.set_override("forget_after", 100, "agent")
        self.reporter.send_report()
        self.assertEqual([self.clock.time - 100_000_000], self.forgotten)

    def test_changes_of_the_inventory_are_sent_together_without_a_report(self):
        self.apply("lifecycle.started/booted")
        self.start()
        self.assertEqual("up", self.next_state())
        self.reporter.check_status()
        eventually(lambda: self.engine.inventories)
        for number in range(20):
            self.apply("lifecycle.started/booted", instance=Instance(uuid=str(number)))
            self.reporter.check_status()
        eventually(lambda: self.engine.digest == self.inventory.snapshot().digest)
        self.assertLessEqual(len(self.engine.changes), 20)
        self.assertEqual(1, len(self.engine.inventories))
        self.assertEqual(1, len(self.engine.reports), "the health has not changed")

    def test_reports_are_sent_at_start_on_wake_and_at_stop(self):
        self.start()
        self.assertEqual("up", self.next_state())
        self.reporter.wake()
        self.assertEqual("up", self.next_state())
        self.reporter.stop(PATIENCE)
        self.assertEqual("stopped", self.next_state())

    def test_change_of_health_is_reported_at_once(self):
        self.health.now = HealthState("blind", "no source has connected yet")
        self.start()
        self.assertEqual("blind", self.next_state())
        for state in ("blind", "up", "behind", "up"):
            self.health.now = HealthState(state, "another reason")
            self.reporter.check_status()
            self.assertEqual(state, self.next_state())

    def test_growing_backlog_is_not_reported_at_once(self):
        self.start()
        self.assertEqual("up", self.next_state())
        for depth in range(3):
            self.health.now = HealthState("behind", f"{depth} events are spooled")
            self.reporter.check_status()
        self.assertEqual("behind", self.next_state())
        self.health.now = UP
        self.reporter.check_status()
        self.assertEqual("up", self.next_state())
        self.assertEqual(3, len(self.engine.reports))

    def test_reports_are_sent_at_the_interval(self):
        self.conf.set_override("report_interval", 0.2, "agent")
        self.start()
        for _ in range(3):
            self.next_state()

    def test_thread_survives_errors_of_the_engine(self):
        self.engine.answers = [Retriable("away"), ZeroDivisionError("a bug"), lambda _: None]
        self.start()
        for _ in range(4):
            self.next_state()
            self.reporter.wake()

    def test_thread_survives_an_error_of_its_own(self):
        build_report = self.reporter.build_report

        def raise_once(health):
            self.reporter.build_report = build_report
            raise ZeroDivisionError("a bug")

        self.reporter.build_report = raise_once
        self.start()
        eventually(lambda: self.reporter.build_report == build_report)
        self.reporter.wake()
        self.next_state()

    def test_outage_of_the_engine_is_logged_once_as_a_warning(self):
        self.engine.answers = [Retriable("away")] * 3
        with self.assertLogs("vmmonitor.agent.reporter", "DEBUG") as logs:
            for _ in range(3):
                self.reporter.send_report()
        self.assertEqual(["WARNING", "DEBUG", "DEBUG"], [line.levelname for line in logs.records])
