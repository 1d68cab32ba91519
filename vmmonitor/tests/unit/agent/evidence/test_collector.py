# SPDX-License-Identifier: Apache-2.0
"""Evidence is captured after its event, in a bounded queue, and sent until it is stored."""

import os
import queue
import threading

import fixtures
import testtools

from vmmonitor import conf as configuration
from vmmonitor.agent.evidence.collector import EvidenceCollector
from vmmonitor.agent.evidence.files import EvidenceFiles
from vmmonitor.agent.evidence.sender import EvidenceSender
from vmmonitor.agent.inventory import Inventory
from vmmonitor.model import event as events
from vmmonitor.model.errors import InvalidMessage, Retriable
from vmmonitor.model.event import Decision
from vmmonitor.model.evidence import KINDS, Item
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.unit.agent.base import PATIENCE, MemorySpool, new_pipeline, raw


class Rules:
    """Rules that ask for the same kinds of evidence for every event."""

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
    """A capturer whose content is the name of the kind; it hangs while ``going`` is cleared."""

    def __init__(self) -> None:
        self.going = threading.Event()
        self.going.set()
        self.taken: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.stopped = False
        self.bug: Exception | None = None

    def start(self) -> None: ...

    def stop(self, timeout: float) -> None:
        self.stopped = True

    def capture(self, event, seen, kinds):
        for kind in kinds:
            self.taken.put(event.detail)
            self.going.wait(PATIENCE)
            if self.bug:
                raise self.bug
            yield Item(kind=kind, captured_at=7, content=kind.encode())


class Engine:
    """An engine that stores evidence of the events in ``known``; None: of all events."""

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


class EvidenceCollectorTest(testtools.TestCase):
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

    def load(self, request):
        """Return the capturer, as a loader."""
        self.loads += 1
        self.request = request
        return self.camera

    def new_collector(self, loader=None):
        outgoing = EvidenceFiles(os.path.join(self.directory, "outgoing"), 2**30)
        sender = EvidenceSender(
            conf=self.conf, files=outgoing, spool=self.spool, engine=self.engine
        )
        collector = EvidenceCollector(
            conf=self.conf,
            loader=loader or self,
            inventory=Inventory({}),
            outgoing=outgoing,
            sender=sender,
        )
        self.addCleanup(collector.stop, PATIENCE)
        return collector

    def evidence(self, *kinds):
        """Return a collector that was started with rules for these kinds."""
        collector = self.new_collector()
        collector.start(Rules(*kinds))
        return collector

    def pipeline(self, collector, *kinds):
        return new_pipeline(spool=self.spool, filters=Rules(*kinds), evidence=collector)

    def outgoing(self):
        path = os.path.join(self.directory, "outgoing")
        return os.listdir(path) if os.path.exists(path) else []

    def delivered(self):
        """Move the events from the spool to the engine; return their ids."""
        ids = {row["event_id"] for row in self.spool.rows.values()}
        self.engine.known = (self.engine.known or set()) | ids
        self.spool.rows.clear()
        return ids

    # -- rules ---------------------------------------------------------------------------------
    def test_collector_without_a_rule_has_no_thread_and_no_file(self):
        before = threading.active_count()
        made = self.evidence()
        self.pipeline(made).run_batch([raw()])
        self.assertEqual((before, 0), (threading.active_count(), self.loads))
        (delivery,) = self.spool.rows.values()
        self.assertEqual({}, delivery["attributes"])
        self.assertEqual({"action", "severity", "rule"}, set(delivery["decision"]))
        self.assertEqual([], os.listdir(self.directory))

    def test_old_evidence_is_deleted_although_no_rule_asks(self):
        kept = os.path.join(self.directory, "kept")
        files = EvidenceFiles(kept, 2**30)
        for number in range(2):
            files.write(f"7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a{number:02d}", [])
        os.utime(os.path.join(kept, files.names()[0]), (0, 0))
        self.evidence()
        self.assertEqual(files.names()[1:], os.listdir(kept))

    def test_reload_of_rules_loads_the_capturer_once(self):
        made = self.evidence()
        made.use_filters(Rules("console"))
        self.assertFalse(self.request.wants_statistics())
        made.use_filters(Rules("stats"))
        self.assertEqual((1, True), (self.loads, self.request.wants_statistics()))

    # -- capture -------------------------------------------------------------------------------
    def test_event_refers_to_evidence_that_is_sent_to_the_engine(self):
        made = self.evidence(*KINDS)
        self.pipeline(made, *KINDS).run_batch(
            [raw(attributes={"evidence": "false", "path": "/x"})]
        )
        (delivery,) = self.spool.rows.values()
        self.assertEqual(
            {"evidence": {"kinds": list(KINDS), "kept": "engine"}, "path": "/x"},
            delivery["attributes"],
        )
        (event_id,) = self.delivered()
        wanted = [(event_id, kind) for kind in KINDS]
        eventually(lambda: self.engine.stored == wanted, PATIENCE)
        eventually(lambda: self.outgoing() == [], PATIENCE)

    def test_event_names_the_path_of_evidence_kept_on_the_host(self):
        self.set(store="host")
        made = self.evidence("console")
        self.pipeline(made, "console").run_batch([raw()])
        (delivery,) = self.spool.rows.values()
        place = os.path.join(self.directory, "kept", delivery["event_id"])
        self.assertEqual(place, delivery["attributes"]["evidence"]["path"])
        eventually(lambda: os.path.exists(os.path.join(place, "console.txt")), PATIENCE)
        self.assertEqual([], self.engine.stored)

    def test_lost_event_has_no_evidence(self):
        made = self.evidence("console")
        pipeline = self.pipeline(made, "console")
        self.spool.failing = OSError("full")
        pipeline.spool_writer.stop()
        pipeline.run_batch([raw()])
        self.spool.failing = None
        pipeline.run_batch([raw("test/second")])
        self.assertEqual("second", self.camera.taken.get(timeout=PATIENCE))

    def test_hung_capture_delays_no_event_and_the_queue_is_bounded(self):
        self.set(queue_size=10)
        made = self.evidence("console")
        pipeline = self.pipeline(made, "console")
        self.camera.going.clear()
        pipeline.run_batch([raw()])
        self.camera.taken.get(timeout=PATIENCE)
        pipeline.run_batch([raw(f"test/{number}") for number in range(5000)])
        self.assertEqual(5001, self.spool.depth)
        self.assertEqual({"queue-full": 4990}, made.figures())
        self.camera.going.set()
        self.delivered()
        eventually(lambda: len(self.engine.stored) == 11, PATIENCE)

    def test_stop_does_not_wait_for_a_hung_capture(self):
        made = self.evidence("console")
        self.camera.going.clear()
        self.addCleanup(self.camera.going.set)
        self.pipeline(made, "console").run_batch([raw()])
        self.camera.taken.get(timeout=PATIENCE)
        made.stop(0.1)
        self.assertTrue(self.camera.stopped)

    def test_failed_capture_is_counted_and_the_next_one_succeeds(self):
        made = self.evidence("console")
        pipeline = self.pipeline(made, "console")
        for bug, reason in ((ZeroDivisionError("a bug"), "failed"), (OSError(28), "not-written")):
            self.camera.bug = bug
            pipeline.run_batch([raw()])
            eventually(lambda r=reason: made.figures().get(r) == 1, PATIENCE)
        self.camera.bug = None
        self.delivered()
        pipeline.run_batch([raw()])
        self.delivered()
        eventually(lambda: len(self.engine.stored) == 1, PATIENCE)

    def test_events_are_spooled_if_evidence_cannot_be_captured(self):
        class Loader:
            def load(self, request):
                raise ImportError("no libvirt")

        made = self.new_collector(Loader())
        made.start(Rules("console"))
        self.pipeline(made, "console").run_batch([raw()])
        self.assertEqual((1, {"nothing-captures": 1}), (self.spool.depth, made.figures()))
        made.stop(PATIENCE)

    # -- sending -------------------------------------------------------------------------------
    def write_outgoing(self, count=1):
        """Write evidence of an earlier run; return the ids of its events."""
        files = EvidenceFiles(os.path.join(self.directory, "outgoing"), 2**30)
        ids = [f"7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a{number:02d}" for number in range(count)]
        for event_id in ids:
            files.write(event_id, [Item(kind="console", captured_at=1, content=b"x")])
        return ids

    def test_evidence_of_an_earlier_run_is_sent_although_no_rule_asks(self):
        ids = self.write_outgoing(3)
        self.evidence()
        eventually(lambda: self.outgoing() == [], PATIENCE)
        self.assertEqual([(event_id, "console") for event_id in ids], self.engine.stored)

    def test_evidence_is_sent_again_after_an_error_of_the_engine(self):
        for error in (Retriable("away"), InvalidMessage("nonsense"), ZeroDivisionError("a bug")):
            (event_id,) = self.write_outgoing()
            self.engine.failing = error
            made = self.evidence()
            for _ in range(2):
                self.engine.asked.get(timeout=PATIENCE)
            self.assertEqual([event_id], self.outgoing())
            self.engine.failing = None
            eventually(lambda: self.outgoing() == [], PATIENCE)
            made.stop(PATIENCE)

    def test_evidence_that_no_engine_can_store_blocks_no_other(self):
        bad, *others = self.write_outgoing(4)
        take = self.engine.report_evidence

        def choosy(host, event_id, item, timeout):
            if event_id == bad:
                self.engine.asked.put(event_id)
                raise Retriable("the database cannot take it")
            return take(host, event_id, item, timeout)

        self.engine.report_evidence = choosy
        self.evidence()
        eventually(lambda: self.outgoing() == [bad], PATIENCE)
        self.assertEqual([(event_id, "console") for event_id in others], self.engine.stored)

    def test_evidence_waits_for_an_event_in_the_spool(self):
        (event_id,) = self.write_outgoing()
        self.engine.known = set()
        self.spool.put(event_id)
        self.evidence()
        for _ in range(2):
            self.engine.asked.get(timeout=PATIENCE)
        self.assertEqual([event_id], self.outgoing())
        self.delivered()
        eventually(lambda: self.outgoing() == [], PATIENCE)
        self.assertEqual([(event_id, "console")], self.engine.stored)

    def test_evidence_of_a_refused_event_is_deleted(self):
        self.write_outgoing()
        self.engine.known = set()
        self.evidence()
        eventually(lambda: self.outgoing() == [], PATIENCE)
        self.assertEqual([], self.engine.stored)

    def test_incomplete_evidence_is_deleted(self):
        broken, whole = self.write_outgoing(2)
        os.unlink(os.path.join(self.directory, "outgoing", broken, "manifest.json"))
        self.evidence()
        eventually(lambda: self.outgoing() == [], PATIENCE)
        self.assertEqual([(whole, "console")], self.engine.stored)
