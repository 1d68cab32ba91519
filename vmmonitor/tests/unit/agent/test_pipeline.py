# SPDX-License-Identifier: Apache-2.0
"""The path of observations through the agent's pipeline to the spool."""

import testtools

from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.pipeline import MAX_BATCH
from vmmonitor.agent.spool import SpoolUnavailable
from vmmonitor.model import event as events
from vmmonitor.model.event import Reachability, SourceSnapshot
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.tests.unit.agent.base import (
    PATIENCE,
    UUID,
    Calls,
    Clock,
    MemorySpool,
    Rules,
    new_pipeline,
    raw,
)

HOUR = 3_600_000_000


class PipelineTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.clock = Clock()
        self.spool = MemorySpool()
        self.rules = Rules()
        self.inventory = Inventory({})
        self.calls = Calls()
        self.pipeline = new_pipeline(
            spool=self.spool,
            filters=self.rules,
            inventory=self.inventory,
            calls=self.calls,
            clock=self.clock,
        )

    def spooled(self, key="detail"):
        return [body[key] for body in self.spool.rows.values()]

    def listing(self, *seen, at=None):
        at = self.clock.time if at is None else at
        return SourceSnapshot(source="libvirt", started_at=at, why="reconnect", seen=seen)

    # -- stages --------------------------------------------------------------------------------
    def test_event_is_spooled_with_its_decision_and_state_change(self):
        self.pipeline.run_batch([raw(instance=Instance(uuid=UUID, name="web"), at=7)])
        (body,) = self.spool.rows.values()
        self.assertEqual(("compute-1", "web"), (body["host"], body["instance"]["name"]))
        self.assertEqual("incident", body["decision"]["action"])
        self.assertEqual((7, self.clock.time), (body["occurred_at"], body["spooled_at"]))
        self.assertEqual("shutoff", self.spool.known[UUID]["seen"]["state"])
        self.assertEqual(["wake", "check_status"], self.calls.names)
        self.assertEqual(7, self.pipeline.event_filter.last_event_at)

    def test_ignored_event_is_counted_and_updates_the_inventory(self):
        self.rules.action = events.IGNORE
        self.pipeline.run_batch([raw(), raw()])
        self.assertEqual([], self.spooled())
        self.assertEqual({"all-ignore": 2}, dict(self.pipeline.dropped))
        self.assertEqual("shutoff", self.spool.known[UUID]["seen"]["state"])
        self.assertEqual(["check_status"], self.calls.names, "the inventory changed")

    def test_disk_error_names_its_storage(self):
        disk = (
            "<disk><source protocol='nfs'><host name='filer'/></source><target dev='vda'/></disk>"
        )
        xml = f"<domain><devices>{disk}</devices></domain>"
        seen = Seen(instance=Instance(uuid=UUID), state="running", definition=xml)
        self.pipeline.run_batch([self.listing(seen, at=1)])
        self.pipeline.run_batch([raw("lifecycle.suspended/ioerror"), raw("io_error/pause"), raw()])
        storages = [body["attributes"].get("storage") for body in self.spool.rows.values()]
        self.assertEqual(["nfs:filer", "nfs:filer", None], storages)

    def test_event_of_the_agent_is_recorded_although_rules_ignore_it(self):
        self.rules.action = events.IGNORE
        self.pipeline.run_batch([raw("recovery.running/started", source="agent")])
        self.assertEqual(["agent"], [one["rule"] for one in self.spooled("decision")])

    def test_event_after_its_listing_is_dropped_as_already_in_inventory(self):
        self.pipeline.run_batch([raw("lifecycle.started/booted")])
        self.pipeline.run_batch([self.listing(), raw("lifecycle.stopped/failed")])
        self.assertEqual(["booted", "vanished"], self.spooled())
        self.assertEqual({"already-in-inventory": 1}, dict(self.pipeline.dropped))

    def test_event_is_recorded_if_the_filter_raises(self):
        self.pipeline.run_batch([raw("x/a"), raw("x/poison"), raw("x/b")])
        self.assertEqual(["a", "poison", "b"], self.spooled())
        decision = self.spooled("decision")[1]
        self.assertEqual(("record", "warning", "filter-failed"), tuple(decision.values()))

    def test_malformed_observation_is_dropped_alone_and_counted(self):
        for wrong in (
            "no observation",
            None,
            raw(instance=None),
            raw(attributes={"not json": object()}),
            raw(attributes=None),
            raw(source=None),
        ):
            self.pipeline.run_batch([raw("x/a"), wrong, raw("x/b")])
        self.assertEqual(["a", "b"] * 6, self.spooled())
        self.assertEqual(6, self.pipeline.dropped["unreadable"])

    def test_reachability_change_is_stored_and_announced(self):
        for reachable in (True, True, False, False, True):
            report = Reachability(source="libvirt", reachable=reachable, at=1)
            self.pipeline.run_batch([report])
        self.assertEqual(["check_status"] * 3, self.calls.names)
        self.assertIs(report, self.pipeline.reachability.reports["libvirt"])
        self.assertEqual([], self.spooled(), "unreachable does not mean stopped")

    def test_incident_event_is_logged_at_info_and_recorded_one_at_debug(self):
        with self.assertLogs("vmmonitor.agent.event_filter", "DEBUG") as logs:
            self.pipeline.run_batch([raw()])
            self.rules.action = events.RECORD
            self.pipeline.run_batch([raw()])
        self.assertEqual(["INFO", "DEBUG"], [one.levelname for one in logs.records])

    # -- correlation ---------------------------------------------------------------------------
    def reports(self):
        """Return the reports of QEMU and libvirt of one disk error, in their usual order."""
        disk = {"device": "virtio-disk1"}
        return [
            raw("block_io_error/report", source="qmp", attributes=disk | {"operation": "write"}),
            raw("io_error/report", attributes=disk),
            raw("io_error_reason/report", attributes=disk | {"reason": ""}),
        ]

    def report_libvirt(self, reachable=True):
        report = Reachability(source="libvirt", reachable=reachable, at=1)
        self.pipeline.run_batch([report])

    def test_several_reports_of_one_failure_become_one_event(self):
        self.report_libvirt()
        self.pipeline.run_batch(self.reports()[:1])
        self.assertEqual([], self.spooled())
        self.pipeline.run_batch(self.reports()[1:])
        self.assertEqual(["io_error"], self.spooled("type"))
        self.assertEqual("write", self.spooled("attributes")[0]["operation"])
        self.assertEqual({"duplicate-report": 2}, dict(self.pipeline.dropped))

    def test_secondary_report_without_a_primary_one_is_delivered(self):
        self.report_libvirt()
        self.start()
        self.pipeline.observe(self.reports()[0])
        self.spool.tried.get(timeout=PATIENCE)
        self.pipeline.stop(PATIENCE)
        self.assertEqual(["block_io_error"], self.spooled("type"))

    def test_stop_delivers_the_held_reports(self):
        self.report_libvirt()
        self.start()
        self.pipeline.observe(self.reports()[0])
        self.pipeline.stop(PATIENCE)
        self.assertEqual(["block_io_error"], self.spooled("type"))

    def test_secondary_report_is_not_held_while_libvirt_is_unreachable(self):
        for reachable in (None, False):
            if reachable is not None:
                self.report_libvirt(reachable)
            self.pipeline.run_batch(self.reports()[:1])
        self.assertEqual(["block_io_error"] * 2, self.spooled("type"))

    # -- clocks --------------------------------------------------------------------------------
    def test_clock_set_back_hides_no_vanished_instance(self):
        self.pipeline.run_batch([raw("lifecycle.started/booted", at=self.clock.time)])
        self.clock.time -= HOUR
        self.pipeline.run_batch([self.listing()])
        self.assertEqual(["booted", "vanished"], self.spooled())

    def test_clock_set_back_hides_no_state_change(self):
        self.pipeline.run_batch([raw("lifecycle.started/booted", at=self.clock.time)])
        self.clock.time -= HOUR
        crashed = Seen(instance=Instance(uuid=UUID), state="shutoff", reason="crashed")
        self.pipeline.run_batch([self.listing(crashed)])
        self.assertEqual(["booted", "crashed"], self.spooled())

    def test_clock_set_forward_causes_no_event(self):
        running = Seen(instance=Instance(uuid=UUID), state="running", reason="booted", run_id=1)
        self.pipeline.run_batch([self.listing(running)])
        self.clock.time += 1000 * HOUR
        self.pipeline.run_batch([self.listing(running)])
        self.assertEqual([], self.spooled())

    # -- the thread ----------------------------------------------------------------------------
    def start(self):
        self.pipeline.start()
        self.addCleanup(self.pipeline.stop, PATIENCE)

    def test_five_thousand_events_are_spooled_in_order_in_few_transactions(self):
        wanted = [str(number) for number in range(5000)]
        for detail in wanted:
            self.pipeline.observe(raw(f"x/{detail}"))
        self.start()
        self.pipeline.stop(PATIENCE)
        self.assertEqual(wanted, self.spooled())
        sizes = [self.spool.tried.get_nowait() for _ in range(self.spool.tried.qsize())]
        self.assertEqual((5000, 10, MAX_BATCH), (sum(sizes), len(sizes), max(sizes)))

    def test_events_wait_in_order_while_the_spool_is_unavailable(self):
        self.spool.failing = SpoolUnavailable("the disk is full")
        self.start()
        self.pipeline.observe(raw("x/1"))
        self.spool.tried.get(timeout=PATIENCE)
        for number in range(2, 1000):
            self.pipeline.observe(raw(f"x/{number}"))
        self.spool.tried.get(timeout=PATIENCE)
        self.assertEqual("the disk is full", self.pipeline.spool_writer.trouble)
        self.assertEqual(["check_status"], self.calls.names)
        self.spool.failing = None
        self.pipeline.stop(PATIENCE)
        self.assertEqual([str(number) for number in range(1, 1000)], self.spooled())
        self.assertEqual("", self.pipeline.spool_writer.trouble)

    def test_stop_while_the_spool_is_unavailable_logs_the_lost_events(self):
        self.spool.failing = SpoolUnavailable("the disk is full")
        self.start()
        with self.assertLogs("vmmonitor.agent.spool_writer", "ERROR") as logs:
            self.pipeline.observe(raw("x/1"))
            self.spool.tried.get(timeout=PATIENCE)
            for number in range(2, 700):
                self.pipeline.observe(raw(f"x/{number}"))
            self.pipeline.stop(PATIENCE)
        lost = [line for line in logs.output if "Lost" in line]
        self.assertEqual(699, len(lost))
        self.assertIn(f"(x/1) of instance {UUID}", lost[0])
        self.assertFalse(self.pipeline._thread.is_alive())

    def test_thread_survives_an_unexpected_error_of_the_spool(self):
        self.spool.failing = ZeroDivisionError("a bug")
        self.start()
        self.pipeline.observe(raw("x/1"))
        self.spool.tried.get(timeout=PATIENCE)
        self.spool.tried.get(timeout=PATIENCE)
        self.assertEqual("ZeroDivisionError: a bug", self.pipeline.spool_writer.trouble)
        self.spool.failing = None
        self.pipeline.stop(PATIENCE)
        self.assertEqual(["1"], self.spooled())

    def test_forget_removes_only_older_instances(self):
        transient = Seen(instance=Instance(uuid=UUID), state="shutoff", persistent=False)
        self.pipeline.run_batch([self.listing(transient, at=5)])
        self.start()
        self.pipeline.forget(before=5)
        self.pipeline.forget(before=6)
        self.pipeline.stop(PATIENCE)
        self.assertIsNone(self.inventory.get(UUID))
        self.assertEqual({UUID: None}, self.spool.known)
