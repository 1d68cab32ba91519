# SPDX-License-Identifier: Apache-2.0
"""Evidence is asked for behind the event, captured in a bounded queue, and sent until taken."""

import os
import queue
import threading

import fixtures
import testtools

from vmmonitor import conf as configuration
from vmmonitor.agent.evidence.collector import EvidenceCollector
from vmmonitor.agent.evidence.files import EvidenceFiles
from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.pipeline import Pipeline
from vmmonitor.model import event as events
from vmmonitor.model.errors import InvalidMessage, Retriable
from vmmonitor.model.event import Decision
from vmmonitor.model.evidence import KINDS, Item
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.unit.agent.base import PATIENCE, Clock, MemorySpool, raw


class Rules:
    """Asks for the same kinds with every event."""

    checksum = "0" * 64

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds

    def decide(self, event: events.Event) -> Decision:
        return Decision(
            action=events.RECORD, severity=events.INFO, rule="all", evidence=self.kinds
        )

    def wants(self, kind: str) -> bool:
        return kind in self.kinds


class Camera:
    """Captures the kind's own name.

    :ivar going: cleared, it hangs.
    """

    def __init__(self) -> None:
        self.going = threading.Event()
        self.going.set()
        self.taken: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.stopped = False
        self.bug: Exception | None = None

    def start(self) -> None: ...

    def stop(self, timeout: float) -> None:
        self.stopped = True

    def take(self, event, seen, kinds):
        for kind in kinds:
            self.taken.put(event.detail)
            self.going.wait(PATIENCE)
            if self.bug:
                raise self.bug
            yield Item(kind=kind, captured_at=7, content=kind.encode())


class Engine:
    """Takes evidence of events that it knows.

    :ivar known: None: of all.
    """

    def __init__(self) -> None:
        self.stored: list[tuple[str, str]] = []
        self.known: set[str] | None = None
        self.failing: Exception | None = None
        self.asked: queue.SimpleQueue[str] = queue.SimpleQueue()

    def report_evidence(self, host, event_id, item, timeout):
        self.asked.put(event_id)
        if self.failing:
            raise self.failing
        if self.known is not None and event_id not in self.known:
            return Receipt(status=ReceiptStatus.UNKNOWN)
        self.stored.append((event_id, item.kind))
        return Receipt(status=ReceiptStatus.STORED)


class EvidenceTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.conf = configuration.new([], files=[])
        self.set(directory=self.directory, store="engine")
        self.conf.set_override("retry_max", 0.5, "forwarder")
        self.spool, self.engine, self.camera = MemorySpool(), Engine(), Camera()
        self.loads = 0

    def set(self, **options):
        for name, value in options.items():
            self.conf.set_override(name, value, "evidence")

    def load(self, stats_wanted):
        self.loads += 1
        self.stats_wanted = stats_wanted
        return self.camera

    def evidence(self, *kinds):
        made = EvidenceCollector(self.conf, self.load, lambda uuid: None, self.spool, self.engine)
        self.addCleanup(made.stop, PATIENCE)
        made.start(Rules(*kinds))
        return made

    def pipeline(self, made, *kinds):
        return Pipeline(
            *("compute-1", Inventory({}), Rules(*kinds), self.spool),
            *(lambda: None, lambda: None, Clock()),
            evidence=made,
        )

    def outgoing(self):
        path = os.path.join(self.directory, "outgoing")
        return os.listdir(path) if os.path.exists(path) else []

    def delivered(self):
        """The events leave the spool, and the engine has them."""
        ids = {row["event_id"] for row in self.spool.rows.values()}
        self.engine.known = (self.engine.known or set()) | ids
        self.spool.rows.clear()
        return ids

    # -- off -----------------------------------------------------------------------------------
    def test_where_no_rule_asks_there_is_nothing(self):
        before = threading.active_count()
        made = self.evidence()
        self.pipeline(made).process([raw()])
        self.assertEqual((before, 0), (threading.active_count(), self.loads))
        (delivery,) = self.spool.rows.values()
        self.assertEqual({}, delivery["attributes"])
        self.assertEqual({"action", "severity", "rule"}, set(delivery["decision"]))
        self.assertEqual([], os.listdir(self.directory))

    def test_what_is_too_old_goes_though_no_rule_asks_any_more(self):
        kept = os.path.join(self.directory, "kept")
        files = EvidenceFiles(kept, 2**30)
        for number in range(2):
            files.write(f"7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a{number:02d}", [])
        os.utime(os.path.join(kept, files.names()[0]), (0, 0))
        self.evidence()
        self.assertEqual(files.names()[1:], os.listdir(kept))

    def test_a_reload_begins_with_it_once(self):
        made = self.evidence()
        made.use(Rules("console"))
        self.assertFalse(self.stats_wanted())
        made.use(Rules("stats"))
        self.assertEqual((1, True), (self.loads, self.stats_wanted()))

    # -- the way -------------------------------------------------------------------------------
    def test_the_event_refers_to_what_is_captured_behind_it(self):
        made = self.evidence(*KINDS)
        self.pipeline(made, *KINDS).process([raw(attributes={"evidence": "false", "path": "/x"})])
        (delivery,) = self.spool.rows.values()
        self.assertEqual(
            {"evidence": {"kinds": list(KINDS), "kept": "engine"}, "path": "/x"},
            delivery["attributes"],
        )
        (event_id,) = self.delivered()
        wanted = [(event_id, kind) for kind in KINDS]
        eventually(lambda: self.engine.stored == wanted, PATIENCE)
        eventually(lambda: self.outgoing() == [], PATIENCE)

    def test_on_the_host_it_says_where(self):
        self.set(store="host")
        made = self.evidence("console")
        self.pipeline(made, "console").process([raw()])
        (delivery,) = self.spool.rows.values()
        place = os.path.join(self.directory, "kept", delivery["event_id"])
        self.assertEqual(place, delivery["attributes"]["evidence"]["path"])
        eventually(lambda: os.path.exists(os.path.join(place, "console.txt")), PATIENCE)
        self.assertEqual([], self.engine.stored)

    def test_nothing_is_captured_of_what_could_not_be_spooled(self):
        made = self.evidence("console")
        pipeline = self.pipeline(made, "console")
        self.spool.failing = OSError("full")
        pipeline._stopping.set()
        pipeline.process([raw()])
        self.spool.failing = None
        pipeline.process([raw("test/second")])
        self.assertEqual("second", self.camera.taken.get(timeout=PATIENCE))

    def test_a_capture_that_hangs_delays_no_event_and_the_queue_is_bounded(self):
        self.set(queue_size=10)
        made = self.evidence("console")
        pipeline = self.pipeline(made, "console")
        self.camera.going.clear()
        pipeline.process([raw()])
        self.camera.taken.get(timeout=PATIENCE)
        pipeline.process([raw(f"test/{number}") for number in range(5000)])
        self.assertEqual(5001, self.spool.depth)
        self.assertEqual({"queue-full": 4990}, made.figures())
        self.camera.going.set()
        self.delivered()
        eventually(lambda: len(self.engine.stored) == 11, PATIENCE)

    def test_a_stop_does_not_wait_for_a_capture_that_hangs(self):
        made = self.evidence("console")
        self.camera.going.clear()
        self.addCleanup(self.camera.going.set)
        self.pipeline(made, "console").process([raw()])
        self.camera.taken.get(timeout=PATIENCE)
        made.stop(0.1)
        self.assertTrue(self.camera.stopped)

    def test_whatever_goes_wrong_is_counted_and_the_next_one_captured(self):
        made = self.evidence("console")
        pipeline = self.pipeline(made, "console")
        for bug, reason in ((ZeroDivisionError("a bug"), "failed"), (OSError(28), "not-written")):
            self.camera.bug = bug
            pipeline.process([raw()])
            eventually(lambda r=reason: made.figures().get(r) == 1, PATIENCE)
        self.camera.bug = None
        self.delivered()
        pipeline.process([raw()])
        self.delivered()
        eventually(lambda: len(self.engine.stored) == 1, PATIENCE)

    def test_where_nothing_can_capture_events_go_on(self):
        def load(stats_wanted):
            raise ImportError("no libvirt")

        made = EvidenceCollector(self.conf, load, lambda uuid: None, self.spool, self.engine)
        made.start(Rules("console"))
        self.pipeline(made, "console").process([raw()])
        self.assertEqual((1, {"nothing-captures": 1}), (self.spool.depth, made.figures()))
        made.stop(PATIENCE)

    # -- sending -------------------------------------------------------------------------------
    def left(self, count=1):
        """Evidence that an earlier life has left; returns the ids of its events."""
        files = EvidenceFiles(os.path.join(self.directory, "outgoing"), 2**30)
        ids = [f"7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a{number:02d}" for number in range(count)]
        for event_id in ids:
            files.write(event_id, [Item(kind="console", captured_at=1, content=b"x")])
        return ids

    def test_what_an_earlier_life_left_is_sent_though_no_rule_asks_any_more(self):
        ids = self.left(3)
        self.evidence()
        eventually(lambda: self.outgoing() == [], PATIENCE)
        self.assertEqual([(one, "console") for one in ids], self.engine.stored)

    def test_no_engine_is_waited_for(self):
        for error in (Retriable("away"), InvalidMessage("nonsense"), ZeroDivisionError("a bug")):
            (event_id,) = self.left()
            self.engine.failing = error
            made = self.evidence()
            for _ in range(2):
                self.engine.asked.get(timeout=PATIENCE)
            self.assertEqual([event_id], self.outgoing())
            self.engine.failing = None
            eventually(lambda: self.outgoing() == [], PATIENCE)
            made.stop(PATIENCE)

    def test_one_that_no_engine_can_store_does_not_stop_the_others(self):
        bad, *others = self.left(4)
        take = self.engine.report_evidence

        def choosy(host, event_id, item, timeout):
            if event_id == bad:
                self.engine.asked.put(event_id)
                raise Retriable("the database cannot take it")
            return take(host, event_id, item, timeout)

        self.engine.report_evidence = choosy
        self.evidence()
        eventually(lambda: self.outgoing() == [bad], PATIENCE)
        self.assertEqual([(one, "console") for one in others], self.engine.stored)

    def test_the_event_may_still_be_on_its_way(self):
        (event_id,) = self.left()
        self.engine.known = set()
        self.spool.put(event_id)
        self.evidence()
        for _ in range(2):
            self.engine.asked.get(timeout=PATIENCE)
        self.assertEqual([event_id], self.outgoing())
        self.delivered()
        eventually(lambda: self.outgoing() == [], PATIENCE)
        self.assertEqual([(event_id, "console")], self.engine.stored)

    def test_of_an_event_that_was_refused_or_purged_it_is_given_up(self):
        self.left()
        self.engine.known = set()
        self.evidence()
        eventually(lambda: self.outgoing() == [], PATIENCE)
        self.assertEqual([], self.engine.stored)

    def test_what_is_not_whole_is_given_up(self):
        broken, whole = self.left(2)
        os.unlink(os.path.join(self.directory, "outgoing", broken, "manifest.json"))
        self.evidence()
        eventually(lambda: self.outgoing() == [], PATIENCE)
        self.assertEqual([(whole, "console")], self.engine.stored)
