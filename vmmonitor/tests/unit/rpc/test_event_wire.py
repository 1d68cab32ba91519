# SPDX-License-Identifier: Apache-2.0
"""The form of what crosses the bus. ``wire-1.json`` was recorded when schema 1 was made: it must
be readable for ever, and writing must still give exactly it while schema 1 is current."""

import contextlib
import dataclasses
import json
import pathlib
import unittest

from hypothesis import given
from hypothesis import strategies as st

from vmmonitor.model.agent import AgentReport
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.event import Decision, Event
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire, fields, inventory_wire
from vmmonitor.rpc.inventory_wire import InventoryChanges

RECORDED = json.loads(pathlib.Path(__file__).with_name("wire-1.json").read_text())

INSTANCE = Instance(
    uuid="7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a11",
    name="wéb",
    hypervisor_name="instance-0000002a",
    project_id="p1",
    project_name="demo",
    user_id="u1",
    user_name="alice",
    flavor="m1.small",
)
EVENT = Event(
    event_id="0f8fad5b-d9cb-469f-a165-70867728950e",
    host="compute-1",
    instance=INSTANCE,
    source="libvirt",
    type="io_error",
    detail="pause",
    occurred_at=1_795_353_600_123_456,
    attributes={"path": "/dev/vdb", "device": "virtio-disk1", "numbers": [1, 2.5, None, True]},
    sequence=42,
)
DECISION = Decision(action="incident", severity="critical", rule="io-error")
REPORT = AgentReport(
    host="compute-1",
    state="behind",
    reason="1001 events are spooled",
    version="0.1.0",
    sent_at=1_795_353_600_000_001,
    started_at=1_795_353_000_000_000,
    interval=10.0,
    spool_depth=1001,
    spool_refused=1,
    last_event_at=1_795_353_599_000_000,
    filter_checksum="ab" * 32,
    inventory_digest="cd" * 32,
    instances=7,
    machine_id="ef" * 16,
    boot_id="2f9d6c1e-8d7f-4f0b-9a39-0d9a3f6f5c11",
    figures={"dropped": {"noise": 12}},
)
SEEN = Seen(instance=INSTANCE, state="paused", reason="ioerror", run_id=3, definition="<domain/>")

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=6)
    ),
    max_leaves=12,
)


class RecordedTest(unittest.TestCase):
    def test_a_batch(self):
        form = event_wire.write_batch(
            "compute-1", 5, [event_wire.write_delivery(EVENT, DECISION, 4)]
        )
        self.assertEqual(RECORDED["batch"], json.loads(json.dumps(form)))
        batch = event_wire.read_batch(RECORDED["batch"])
        self.assertEqual(("compute-1", 5), (batch.host, batch.sent_at))
        expected = event_wire.Delivery(event=EVENT, decision=DECISION, spooled_at=4)
        self.assertEqual([expected], list(batch.deliveries))

    def test_receipts(self):
        receipts = [
            Receipt(status=ReceiptStatus.STORED),
            Receipt(status=ReceiptStatus.DUPLICATE),
            Receipt(status=ReceiptStatus.REFUSED, reason="host is missing"),
        ]
        self.assertEqual(RECORDED["receipts"], event_wire.write_receipts(receipts))
        self.assertEqual(receipts, event_wire.read_receipts(RECORDED["receipts"], 3))

    def test_a_report(self):
        self.assertEqual(
            RECORDED["report"], json.loads(json.dumps(event_wire.write_report(REPORT)))
        )
        self.assertEqual(REPORT, event_wire.read_report(RECORDED["report"]))

    def test_event_of_a_source_of_engines_is_refused_by_name(self):
        nova = dataclasses.replace(EVENT, type="nova.power_off", detail="start")
        drift = dataclasses.replace(EVENT, source="reconcile", type="lifecycle.stopped")
        notice = dataclasses.replace(EVENT, type="host.owner_changed")
        forms = [event_wire.write_delivery(one, DECISION, 1) for one in (nova, drift, notice)]
        batch = event_wire.read_batch(event_wire.write_batch(EVENT.host, 1, forms))
        self.assertEqual(["foreign_source"] * 3, [str(one)[:14] for one in batch.deliveries])

    def test_an_inventory(self):
        form = inventory_wire.write("compute-1", "cd", [SEEN])
        self.assertEqual(RECORDED["inventory"], json.loads(json.dumps(form)))
        host, digest, (seen,) = inventory_wire.read(RECORDED["inventory"])
        self.assertEqual(("compute-1", "cd"), (host, digest))
        self.assertEqual((INSTANCE, "paused", "ioerror"), (seen.instance, seen.state, seen.reason))

    def test_changes_of_an_inventory(self):
        autostarted = dataclasses.replace(SEEN, state="shutoff", reason="failed", autostart=True)
        changes = InventoryChanges(
            host="compute-1",
            base_digest="ab",
            digest="cd",
            changed=[autostarted],
            gone=["9f1c3b52-0f0a-4a46-a6d5-0b3c2b9b3a12"],
        )
        form = inventory_wire.write_changes(changes)
        self.assertEqual(RECORDED["inventory_changes"], json.loads(json.dumps(form)))
        read = inventory_wire.read_changes(RECORDED["inventory_changes"])
        told = dataclasses.replace(autostarted, run_id=-1, definition="")
        self.assertEqual(dataclasses.replace(changes, changed=[told]), read)

    def test_an_inventory_of_version_1_0_has_no_autostart(self):
        self.assertNotIn("autostart", RECORDED["inventory"]["instances"][0])
        (seen,) = inventory_wire.read(RECORDED["inventory"])[2]
        self.assertFalse(seen.autostart)

    def test_keys_that_are_not_known_yet_are_left_alone(self):
        newer = json.loads(json.dumps(RECORDED["batch"]))
        newer["later"] = newer["events"][0]["later"] = {"x": 1}
        self.assertEqual(EVENT, event_wire.read_batch(newer).deliveries[0].event)


class HostileTest(unittest.TestCase):
    def broken(self, **changes):
        form = event_wire.write_delivery(EVENT, DECISION, 4) | changes
        (delivery,) = event_wire.read_batch(
            {"schema": 1, "host": "compute-1", "sent_at": 5, "events": [form]}
        ).deliveries
        return delivery

    def test_what_is_wrong_with_one_event_is_said_of_it(self):
        for changes, word in (
            ({"event_id": ""}, "event_id must be a UUID"),
            ({"event_id": "x" * 36}, "event_id must be a UUID"),
            ({"event_id": EVENT.event_id.upper()}, "event_id must be a UUID"),
            ({"event_id": f"{EVENT.event_id}\n"}, "event_id must be a UUID"),
            ({"event_id": 7}, "event_id must be a UUID"),
            ({"host": "compute-1\x1b[31m"}, "host must be a host name"),
            ({"source": "lib virt"}, "source must consist of"),
            ({"type": "lifecycle/stopped"}, "type must consist of"),
            ({"detail": "failed\nCRITICAL"}, "detail must consist of"),
            ({"type": ""}, "type is missing"),
            (
                {"instance": {"uuid": "../os-hypervisors/detail?x="}},
                "instance.uuid must be a UUID",
            ),
            ({"instance": {"uuid": EVENT.event_id, "name": 5}}, "name must be a text"),
            ({"host": "compute-2"}, "the sending host"),
            ({"instance": None}, "instance must be an object"),
            ({"instance": {"name": "x"}}, "instance.uuid"),
            ({"occurred_at": -1}, "occurred_at"),
            ({"occurred_at": 2**63}, "occurred_at"),
            ({"occurred_at": True}, "occurred_at"),
            ({"occurred_at": fields.LATEST + 1}, "year 9999"),
            ({"attributes": []}, "attributes"),
            ({"attributes": {str(n): 1 for n in range(257)}}, "256"),
            ({"decision": None}, "decision"),
            ({"decision": {"action": "explode", "severity": "info"}}, "explode"),
            ({"decision": {"action": "record", "severity": "fatal"}}, "severity must be one of"),
            ({"decision": {"action": [], "severity": "info"}}, "action must be one of"),
            ({"spooled_at": "now"}, "spooled_at"),
        ):
            self.assertIn(word, self.broken(**changes), changes)

    def test_what_is_no_message_is_refused_as_a_whole(self):
        for form in (None, [], "x", {}, {"schema": 2}, {"schema": 1, "host": "h", "events": "x"}):
            self.assertRaises(InvalidMessage, event_wire.read_batch, form)
        self.assertRaises(InvalidMessage, event_wire.read_receipts, RECORDED["receipts"], 2)
        for receipt in ("stored", [], ["maybe"], None, 7):
            form = {"schema": 1, "receipts": [receipt]}
            self.assertRaises(InvalidMessage, event_wire.read_receipts, form, 1)

    def test_what_is_too_long_is_cut_by_the_writer(self):
        event = Event(
            event_id=EVENT.event_id,
            host="h",
            instance=Instance(uuid=INSTANCE.uuid, name="n" * 1000),
            source="s" * 100,
            type="t" * 100,
            detail="",
            occurred_at=1,
            attributes={"a": "x" * (1 << 20), "b": ["y" * (1 << 20)], "c": 1},
        )
        form = json.loads(json.dumps(event_wire.write_event(event)))
        read = event_wire.read_event(form)
        self.assertLess(len(json.dumps(form)), 1 << 17)
        self.assertEqual((255, 64), (len(read.instance.name), len(read.type)))
        self.assertEqual(["a", "b"], read.attributes["cut"])
        self.assertEqual(1, read.attributes["c"])

    def test_write_event_with_unusual_words_is_readable(self):
        event = dataclasses.replace(EVENT, type="unknown-A B", detail='{"a": 1}', source="/é")
        read = event_wire.read_event(event_wire.write_event(event))
        words = ("__", "unknown-A_B", "__a_:_1_")
        self.assertEqual(words, (read.source, read.type, read.detail))

    def test_read_instance_with_control_characters_in_its_name_replaces_them(self):
        name = "web\n2026-11-27 CRITICAL owned\x1b[31m\x85\u2028"
        instance = event_wire.read_instance({"uuid": INSTANCE.uuid, "name": name})
        self.assertEqual("web?2026-11-27 CRITICAL owned?[31m??", instance.name)

    def test_read_batch_of_invalid_host_is_refused(self):
        for host in ("", "-x", "..", "a/b", "a b", "h\n", "a|b", "é", "h" * 256, None, ["h"]):
            form = RECORDED["batch"] | {"host": host}
            self.assertRaisesRegex(InvalidMessage, "host must be", event_wire.read_batch, form)
        for host in ("h", "node_1", "compute-1.example.org", "10.0.0.1", "h" * 255):
            self.assertEqual(host, event_wire.read_batch(RECORDED["batch"] | {"host": host}).host)

    def test_read_report_with_unknown_state_is_refused(self):
        for state in ("watched!", "late", "", "u" * 64, None, ["up"]):
            form = RECORDED["report"] | {"state": state}
            self.assertRaisesRegex(InvalidMessage, "state must be", event_wire.read_report, form)

    def test_read_report_with_control_characters_replaces_them(self):
        form = RECORDED["report"] | {"reason": "\x1b[2J\nforged", "version": "1\r2"}
        report = event_wire.read_report(form)
        self.assertEqual(("?[2J?forged", "1?2"), (report.reason, report.version))

    def test_read_inventory_leaves_out_only_invalid_instances(self):
        good = RECORDED["inventory"]["instances"][0]
        bad = [
            "x",
            good | {"instance": {"uuid": "../x"}},
            good | {"state": "a b"},
            good | {"state": ""},
            good | {"reason": "x\ny"},
        ]
        form = RECORDED["inventory"] | {"instances": [*bad, good]}
        with self.assertLogs("vmmonitor.rpc.inventory_wire", "WARNING") as logs:
            self.assertEqual(1, len(inventory_wire.read(form)[2]))
        self.assertIn("Left out 5 invalid instances", logs.output[0])
        changes = RECORDED["inventory_changes"]
        read = inventory_wire.read_changes(changes | {"gone": [*changes["gone"], "u2", "", None]})
        self.assertEqual(changes["gone"], list(read.gone))

    def test_read_receipt_with_control_characters_replaces_them(self):
        form = {"schema": 1, "receipts": [["refused", "no\x1b[31m\n"]]}
        self.assertEqual("no?[31m?", event_wire.read_receipts(form, 1)[0].reason)

    @given(ANYTHING)
    def test_nothing_but_a_clear_refusal_comes_of_anything(self, form):
        for read in (
            event_wire.read_batch,
            event_wire.read_report,
            inventory_wire.read,
            inventory_wire.read_changes,
            event_wire.read_event,
        ):
            with contextlib.suppress(InvalidMessage):
                read(form)

    @given(st.dictionaries(st.sampled_from(sorted(RECORDED["batch"]["events"][0])), ANYTHING))
    def test_an_event_with_anything_in_it_spoils_no_other(self, changes):
        good = RECORDED["batch"]["events"][0]
        form = RECORDED["batch"] | {"events": [good | changes, good]}
        self.assertEqual(EVENT, event_wire.read_batch(form).deliveries[1].event)
