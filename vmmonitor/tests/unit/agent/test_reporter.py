# SPDX-License-Identifier: Apache-2.0
"""What the agent says of itself, and when."""

import collections
import types

import testtools

from vmmonitor import conf as configuration
from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.reporter import Reporter
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import Reachability
from vmmonitor.model.instance import Instance
from vmmonitor.rpc.transport import Unsupported
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.unit.agent.base import (
    PATIENCE,
    UUID,
    Clock,
    Engine,
    MemorySpool,
    Rules,
    raw,
)


def reach(source, reachable=True, reason=""):
    return Reachability(source=source, reachable=reachable, at=1, reason=reason)


class ReporterTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.conf = configuration.new([], files=[])
        self.conf.set_override("host", "compute-1")
        self.conf.set_override("behind_mark", 2, "agent")
        self.conf.set_override("report_interval", 3600, "agent")
        self.clock = Clock()
        self.spool = MemorySpool()
        self.inventory = Inventory({})
        self.engine = Engine()
        self.forgotten = []
        self.pipeline = types.SimpleNamespace(
            reachability={},
            trouble="",
            last_event_at=17,
            filters=Rules(),
            dropped=collections.Counter(noise=3),
            forget=self.forgotten.append,
            evidence=None,
        )
        self.forwarder = types.SimpleNamespace(trouble="")
        self.reporter = Reporter(
            *(self.conf, self.pipeline, self.forwarder, self.inventory),
            *(self.spool, self.engine, self.clock),
        )

    def start(self):
        self.reporter.start()
        self.addCleanup(self.reporter.stop, PATIENCE)

    def learn(self, cause, **changes):
        self.inventory.listed = True
        self.inventory.learn(raw(cause, **changes))

    def told(self):
        return self.engine.called.get(timeout=PATIENCE)

    def test_each_state_has_its_reason_and_the_gravest_wins(self):
        state = self.reporter.state
        self.assertEqual(("blind", "no source has seen this host yet"), state())
        self.pipeline.reachability = {"x": reach("x")}
        self.assertEqual("blind", state()[0], "libvirt's source has not, which tells the most")
        self.pipeline.reachability["libvirt"] = reach("libvirt")
        self.assertEqual(("up", ""), state())
        self.forwarder.trouble = "no answer in time"
        self.assertEqual(("up", ""), state(), "nothing waits")
        self.spool.put("a")
        self.assertEqual(("behind", "1 events are spooled: no answer in time"), state())
        self.forwarder.trouble = ""
        self.assertEqual(("up", ""), state(), "it is on its way")
        self.spool.put("b", "c")
        self.assertEqual(("behind", "3 events are spooled: the engine takes them slowly"), state())
        self.pipeline.trouble = "the disk is full"
        self.assertEqual(("behind", "the disk is full"), state())
        self.pipeline.reachability["libvirt"] = reach("libvirt", False, "refused")
        self.assertEqual(("blind", "source libvirt: refused"), state())
        self.reporter._stopping.set()
        self.assertEqual(("stopped", "stopped on purpose"), state())

    def test_a_source_beside_libvirts_that_sees_nothing_is_told_and_blinds_nobody(self):
        self.pipeline.reachability = {"libvirt": reach("libvirt"), "x": reach("x", False, "no")}
        self.assertEqual(("up", "source x: no"), self.reporter.state())
        self.conf.set_override("sources", ["x"], "agent")
        self.assertEqual(("blind", "source x: no"), self.reporter.state())

    def test_a_report_says_how_it_is(self):
        self.pipeline.reachability["libvirt"] = reach("libvirt")
        self.spool.put("a")
        self.spool.overflowed = 4
        self.reporter.tell()
        (report,) = self.engine.reports
        self.assertEqual(("compute-1", "up", 1), (report.host, report.state, report.spool_depth))
        self.assertEqual((self.clock.time, 17), (report.started_at, report.last_event_at))
        self.assertEqual(self.pipeline.filters.checksum, report.filter_checksum)
        self.assertEqual(
            {
                "dropped": {"noise": 3},
                "overflowed": 4,
                "evidence_lost": {},
                "spools_set_aside": [],
            },
            report.figures,
        )

    def test_the_inventory_is_told_only_if_the_engine_holds_another(self):
        self.learn("lifecycle.started/booted")
        self.reporter.tell()
        ((host, digest, seen),) = self.engine.inventories
        self.assertEqual(("compute-1", self.inventory.snapshot().digest), (host, digest))
        self.assertEqual(["running"], [one.state for one in seen])
        self.reporter.tell()
        self.assertEqual(1, len(self.engine.inventories))

    def test_nothing_is_told_of_a_host_that_was_not_seen_yet(self):
        self.inventory.learn(raw("lifecycle.started/booted"))
        self.reporter.tell()
        self.assertEqual("", self.engine.reports[0].inventory_digest)
        self.assertEqual([], self.engine.inventories)

    def test_a_difference_is_told_as_one(self):
        self.learn("lifecycle.started/booted")
        self.reporter.tell()
        before = self.engine.digest
        self.learn("lifecycle.stopped/failed", at=50)
        self.learn("lifecycle.started/booted", at=51, instance=Instance(uuid="b"))
        self.reporter.tell()
        (changes,) = self.engine.changes
        self.assertEqual((before, self.engine.digest), (changes.base_digest, changes.digest))
        self.assertEqual(
            [(UUID, "shutoff", "failed"), ("b", "running", "booted")],
            [(one.instance.uuid, one.state, one.reason) for one in changes.changed],
        )
        self.learn("lifecycle.undefined/removed", at=60)
        self.reporter.tell()
        self.assertEqual([UUID], self.engine.changes[-1].gone)
        self.assertEqual(1, len(self.engine.inventories))

    def test_a_lost_difference_is_healed_by_the_whole(self):
        self.learn("lifecycle.started/booted")
        self.reporter.tell()
        self.engine.digest = "of another inventory"
        self.reporter.tell()
        self.assertEqual([], self.engine.changes)
        self.assertEqual(2, len(self.engine.inventories))
        # Or another agent's word came between the engine's answer and the changes.
        self.learn("lifecycle.stopped/failed", at=50)
        self.engine.answers = [lambda _: self.engine.digest, lambda _: "of another inventory"]
        self.reporter.tell()
        self.assertEqual(3, len(self.engine.inventories))
        self.assertEqual(self.inventory.snapshot().digest, self.engine.digest)

    def test_an_older_engine_gets_the_whole(self):
        self.learn("lifecycle.started/booted")
        self.reporter.tell()
        self.learn("lifecycle.stopped/failed", at=50)
        self.engine.answers = [lambda _: self.engine.digest, Unsupported()]
        self.reporter.tell()
        self.assertEqual(2, len(self.engine.inventories))

    def test_changes_alone_are_told_soon_and_together(self):
        self.pipeline.reachability["libvirt"] = reach("libvirt")
        self.learn("lifecycle.started/booted")
        self.start()
        self.assertEqual("up", self.told())
        self.reporter.look()
        eventually(lambda: self.engine.inventories)
        for number in range(20):
            self.learn("lifecycle.started/booted", instance=Instance(uuid=str(number)))
            self.reporter.look()
        eventually(lambda: self.engine.digest == self.inventory.snapshot().digest)
        self.assertLessEqual(len(self.engine.changes), 20)
        self.assertEqual(1, len(self.engine.inventories))
        self.assertEqual(1, len(self.engine.reports), "nothing else has changed")

    def test_old_knowledge_is_forgotten_by_whom_it_belongs_to(self):
        self.conf.set_override("forget_after", 100, "agent")
        self.reporter.tell()
        self.assertEqual([self.clock.time - 100_000_000], self.forgotten)

    def test_it_reports_at_its_start_and_when_it_is_woken_and_at_its_stop(self):
        self.pipeline.reachability["libvirt"] = reach("libvirt")
        self.start()
        self.assertEqual("up", self.told())
        self.reporter.wake()
        self.assertEqual("up", self.told())
        self.reporter.stop(PATIENCE)
        self.assertEqual("stopped", self.told())
        self.assertFalse(self.reporter._thread.is_alive())

    def test_a_change_is_reported_at_once_and_more_of_the_same_is_not(self):
        self.start()
        self.assertEqual("blind", self.told())
        self.pipeline.reachability["libvirt"] = reach("libvirt", False, "refused")
        self.reporter.look()
        self.assertEqual("blind", self.told())
        self.pipeline.reachability["libvirt"] = reach("libvirt")
        self.reporter.look()
        self.assertEqual("up", self.told())
        self.reporter.look()
        self.spool.put("a", "b", "c")
        self.reporter.look()
        self.assertEqual("behind", self.told())
        self.spool.put("d")
        self.reporter.look()
        self.spool.rows.clear()
        self.reporter.look()
        self.assertEqual("up", self.told())
        self.assertEqual(5, len(self.engine.reports))

    def test_it_reports_regularly(self):
        self.conf.set_override("report_interval", 0.2, "agent")
        self.start()
        for _ in range(3):
            self.told()

    def test_no_error_ends_the_thread(self):
        self.engine.answers = [Retriable("away"), ZeroDivisionError("a bug"), lambda _: None]
        self.start()
        for _ in range(4):
            self.told()
            self.reporter.wake()

    def test_nor_does_one_of_its_own(self):
        report = self.reporter.report

        def bug():
            self.reporter.report = report
            raise ZeroDivisionError("a bug")

        self.reporter.report = bug
        self.start()
        eventually(lambda: self.reporter.report == report)
        self.reporter.wake()
        self.told()
