# SPDX-License-Identifier: Apache-2.0
"""The way of an observation to the spool, whatever is said and whatever fails."""

import testtools

from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.pipeline import CHUNK, Pipeline
from vmmonitor.agent.spool import SpoolUnavailable
from vmmonitor.model import event as events
from vmmonitor.model.event import Reachability, SourceSnapshot
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.tests.unit.agent.base import PATIENCE, UUID, Clock, MemorySpool, Rules, raw

HOUR = 3_600_000_000


class PipelineTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.clock = Clock()
        self.spool = MemorySpool()
        self.rules = Rules()
        self.inventory = Inventory({})
        self.woken = []
        self.pipeline = Pipeline(
            host="compute-1",
            inventory=self.inventory,
            filters=self.rules,
            spool=self.spool,
            spooled=lambda: self.woken.append("spooled"),
            changed=lambda: self.woken.append("changed"),
            now=self.clock,
        )

    def spooled(self, key="detail"):
        return [body[key] for body in self.spool.rows.values()]

    def listing(self, *seen, at=None):
        at = self.clock.time if at is None else at
        return SourceSnapshot(source="libvirt", started_at=at, why="reconnect", seen=seen)

    # -- what becomes of an observation --------------------------------------------------------
    def test_an_event_is_decided_and_spooled_with_what_it_changed(self):
        self.pipeline.process([raw(instance=Instance(uuid=UUID, name="web"), at=7)])
        (body,) = self.spool.rows.values()
        self.assertEqual(("compute-1", "web"), (body["host"], body["instance"]["name"]))
        self.assertEqual("incident", body["decision"]["action"])
        self.assertEqual((7, self.clock.time), (body["occurred_at"], body["spooled_at"]))
        self.assertEqual("shutoff", self.spool.known[UUID]["seen"]["state"])
        self.assertEqual((["spooled"], 7), (self.woken, self.pipeline.last_event_at))

    def test_what_is_ignored_is_counted_and_its_change_is_kept(self):
        self.rules.action = events.IGNORE
        self.pipeline.process([raw(), raw()])
        self.assertEqual([], self.spooled())
        self.assertEqual({"all-ignore": 2}, dict(self.pipeline.dropped))
        self.assertEqual("shutoff", self.spool.known[UUID]["seen"]["state"])
        self.assertEqual(["changed"], self.woken, "the inventory has")

    def test_what_stops_while_the_host_goes_down_says_so(self):
        self.pipeline._going_down = lambda: True
        self.pipeline.process([raw(), raw("process.exited/"), raw("lifecycle.suspended/ioerror")])
        said = [body["attributes"].get("host_going_down") for body in self.spool.rows.values()]
        self.assertEqual([True, True, None], said)

    def test_a_disk_error_says_of_which_storage(self):
        disk = (
            "<disk><source protocol='nfs'><host name='filer'/></source><target dev='vda'/></disk>"
        )
        xml = f"<domain><devices>{disk}</devices></domain>"
        seen = Seen(instance=Instance(uuid=UUID), state="running", definition=xml)
        self.pipeline.process([self.listing(seen, at=1)])
        self.pipeline.process([raw("lifecycle.suspended/ioerror"), raw("io_error/pause"), raw()])
        said = [body["attributes"].get("storage") for body in self.spool.rows.values()]
        self.assertEqual(["nfs:filer", "nfs:filer", None], said)

    def test_what_the_agent_itself_did_is_kept_whatever_the_rules_say(self):
        self.rules.action = events.IGNORE
        self.pipeline.process([raw("recovery.running/started", source="agent")])
        self.assertEqual(["agent"], [one["rule"] for one in self.spooled("decision")])

    def test_what_a_listing_told_is_not_told_twice(self):
        self.pipeline.process([raw("lifecycle.started/booted")])
        self.pipeline.process([self.listing(), raw("lifecycle.stopped/failed")])
        self.assertEqual(["booted", "vanished"], self.spooled())
        self.assertEqual({"already-in-inventory": 1}, dict(self.pipeline.dropped))

    def test_an_event_for_which_the_filter_fails_is_recorded(self):
        self.pipeline.process([raw("x/a"), raw("x/poison"), raw("x/b")])
        self.assertEqual(["a", "poison", "b"], self.spooled())
        decision = self.spooled("decision")[1]
        self.assertEqual(("record", "warning", "filter-failed"), tuple(decision.values()))

    def test_what_cannot_be_read_is_dropped_alone_and_counted(self):
        for wrong in (
            "no observation",
            None,
            raw(instance=None),
            raw(attributes={"not json": object()}),
            raw(attributes=None),
            raw(source=None),
        ):
            self.pipeline.process([raw("x/a"), wrong, raw("x/b")])
        self.assertEqual(["a", "b"] * 6, self.spooled())
        self.assertEqual(6, self.pipeline.dropped["unreadable"])

    def test_reachability_is_remembered_and_told_when_it_changes(self):
        for reachable in (True, True, False, False, True):
            word = Reachability(source="libvirt", reachable=reachable, at=1)
            self.pipeline.process([word])
        self.assertEqual(["changed"] * 3, self.woken)
        self.assertIs(word, self.pipeline.reachability["libvirt"])
        self.assertEqual([], self.spooled(), "unreachable is no stop of anything")

    def test_only_what_may_matter_at_once_is_logged_at_info(self):
        with self.assertLogs("vmmonitor.agent.pipeline", "DEBUG") as logs:
            self.pipeline.process([raw()])
            self.rules.action = events.RECORD
            self.pipeline.process([raw()])
        self.assertEqual(["INFO", "DEBUG"], [one.levelname for one in logs.records])

    # -- several words of one failure ----------------------------------------------------------
    def words(self):
        """Return what QEMU and libvirt tell of one disk error, in the order in which they do."""
        said = {"device": "virtio-disk1"}
        return [
            raw("block_io_error/report", source="qmp", attributes=said | {"operation": "write"}),
            raw("io_error/report", attributes=said),
            raw("io_error_reason/report", attributes=said | {"reason": ""}),
        ]

    def see_libvirt(self, reachable=True):
        word = Reachability(source="libvirt", reachable=reachable, at=1)
        self.pipeline.process([word])

    def test_one_failure_in_several_words_is_one_event(self):
        self.see_libvirt()
        self.pipeline.process(self.words()[:1])
        self.assertEqual([], self.spooled())
        self.pipeline.process(self.words()[1:])
        self.assertEqual(["io_error"], self.spooled("type"))
        self.assertEqual("write", self.spooled("attributes")[0]["operation"])
        self.assertEqual({"duplicate-report": 2}, dict(self.pipeline.dropped))

    def test_a_word_that_waits_in_vain_is_told_by_itself(self):
        self.see_libvirt()
        self.start()
        self.pipeline.observe(self.words()[0])
        self.spool.tried.get(timeout=PATIENCE)
        self.pipeline.stop(PATIENCE)
        self.assertEqual(["block_io_error"], self.spooled("type"))

    def test_a_stop_ends_the_wait(self):
        self.see_libvirt()
        self.start()
        self.pipeline.observe(self.words()[0])
        self.pipeline.stop(PATIENCE)
        self.assertEqual(["block_io_error"], self.spooled("type"))

    def test_nobody_waits_for_a_libvirt_that_is_away(self):
        for reachable in (None, False):
            if reachable is not None:
                self.see_libvirt(reachable)
            self.pipeline.process(self.words()[:1])
        self.assertEqual(["block_io_error"] * 2, self.spooled("type"))

    # -- clocks --------------------------------------------------------------------------------
    def test_a_clock_that_was_put_back_hides_nothing(self):
        self.pipeline.process([raw("lifecycle.started/booted", at=self.clock.time)])
        self.clock.time -= HOUR
        self.pipeline.process([self.listing()])
        self.assertEqual(["booted", "vanished"], self.spooled())

    def test_a_clock_that_was_put_back_hides_no_difference_either(self):
        self.pipeline.process([raw("lifecycle.started/booted", at=self.clock.time)])
        self.clock.time -= HOUR
        crashed = Seen(instance=Instance(uuid=UUID), state="shutoff", reason="crashed")
        self.pipeline.process([self.listing(crashed)])
        self.assertEqual(["booted", "crashed"], self.spooled())

    def test_a_clock_that_jumps_ahead_makes_nothing_up(self):
        running = Seen(instance=Instance(uuid=UUID), state="running", reason="booted", run_id=1)
        self.pipeline.process([self.listing(running)])
        self.clock.time += 1000 * HOUR
        self.pipeline.process([self.listing(running)])
        self.assertEqual([], self.spooled())

    # -- the thread ----------------------------------------------------------------------------
    def start(self):
        self.pipeline.start()
        self.addCleanup(self.pipeline.stop, PATIENCE)

    def test_five_thousand_at_once_keep_their_order_in_few_transactions(self):
        wanted = [str(number) for number in range(5000)]
        for detail in wanted:
            self.pipeline.observe(raw(f"x/{detail}"))
        self.start()
        self.pipeline.stop(PATIENCE)
        self.assertEqual(wanted, self.spooled())
        sizes = [self.spool.tried.get_nowait() for _ in range(self.spool.tried.qsize())]
        self.assertEqual((5000, 10, CHUNK), (sum(sizes), len(sizes), max(sizes)))

    def test_while_the_spool_cannot_be_written_events_wait_in_their_order(self):
        self.spool.failing = SpoolUnavailable("the disk is full")
        self.start()
        self.pipeline.observe(raw("x/1"))
        self.spool.tried.get(timeout=PATIENCE)
        for number in range(2, 1000):
            self.pipeline.observe(raw(f"x/{number}"))
        self.spool.tried.get(timeout=PATIENCE)
        self.assertEqual("the disk is full", self.pipeline.trouble)
        self.assertEqual(["changed"], self.woken)
        self.spool.failing = None
        self.pipeline.stop(PATIENCE)
        self.assertEqual([str(number) for number in range(1, 1000)], self.spooled())
        self.assertEqual("", self.pipeline.trouble)

    def test_a_stop_in_that_state_is_bounded_and_says_what_is_lost(self):
        self.spool.failing = SpoolUnavailable("the disk is full")
        self.start()
        with self.assertLogs("vmmonitor.agent.pipeline", "ERROR") as logs:
            self.pipeline.observe(raw("x/1"))
            self.spool.tried.get(timeout=PATIENCE)
            for number in range(2, 700):
                self.pipeline.observe(raw(f"x/{number}"))
            self.pipeline.stop(PATIENCE)
        lost = [line for line in logs.output if "Lost" in line]
        self.assertEqual(699, len(lost))
        self.assertIn(f"x/1 of instance {UUID}", lost[0])
        self.assertFalse(self.pipeline._thread.is_alive())

    def test_no_error_of_the_spool_ends_the_thread(self):
        self.spool.failing = ZeroDivisionError("a bug")
        self.start()
        self.pipeline.observe(raw("x/1"))
        self.spool.tried.get(timeout=PATIENCE)
        self.spool.tried.get(timeout=PATIENCE)
        self.assertEqual("ZeroDivisionError: a bug", self.pipeline.trouble)
        self.spool.failing = None
        self.pipeline.stop(PATIENCE)
        self.assertEqual(["1"], self.spooled())

    def test_the_inventory_is_tidied_by_the_thread_that_fills_it(self):
        transient = Seen(instance=Instance(uuid=UUID), state="shutoff", persistent=False)
        self.pipeline.process([self.listing(transient, at=5)])
        self.start()
        self.pipeline.forget(before=5)
        self.pipeline.forget(before=6)
        self.pipeline.stop(PATIENCE)
        self.assertIsNone(self.inventory.get(UUID))
        self.assertEqual({UUID: None}, self.spool.known)
