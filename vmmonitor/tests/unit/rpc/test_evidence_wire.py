# SPDX-License-Identifier: Apache-2.0
"""Evidence crosses the bus as it was; what is no evidence is refused."""

import json
import unittest

from vmmonitor.model import evidence
from vmmonitor.model.errors import InvalidMessage
from vmmonitor.model.evidence import Item
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import evidence_wire

EVENT_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
ITEM = Item(kind="console", captured_at=5, content=bytes(range(256)), message="cut")
FORM = {
    "schema": 1,
    "host": "compute-1",
    "event_id": EVENT_ID,
    "kind": "console",
    "captured_at": 5,
    "content": "a2c=",
    "message": "",
}
WRONG = (
    {"schema": 2},
    {"kind": "password"},
    {"kind": None},
    {"kind": ["console"]},
    {"captured_at": -1},
    {"captured_at": True},
    {"captured_at": 2**62},
    {"content": None},
    {"content": "%%"},
    {"content": "A" * (evidence.MAX_BYTES * 4 // 3 + 8)},
    {"message": "x" * 1001},
    {"event_id": 5},
    {"event_id": "../../etc/passwd"},
    {"event_id": EVENT_ID.upper()},
    {"event_id": f"{EVENT_ID}\n"},
    {"host": {}},
    {"host": ""},
    {"host": ".."},
    {"host": "a/b"},
)


class EvidenceWireTest(unittest.TestCase):
    def test_there_and_back(self):
        form = json.loads(json.dumps(evidence_wire.write("compute-1", EVENT_ID, ITEM)))
        self.assertEqual(
            evidence_wire.Exhibit(host="compute-1", event_id=EVENT_ID, item=ITEM),
            evidence_wire.read(form),
        )

    def test_the_largest_item_passes(self):
        large = Item(kind="screenshot", captured_at=1, content=b"x" * evidence.MAX_BYTES)
        self.assertEqual(
            large, evidence_wire.read(evidence_wire.write("compute-1", EVENT_ID, large)).item
        )

    def test_what_cannot_be_is_refused(self):
        evidence_wire.read(FORM)
        for change in WRONG:
            with self.assertRaises(InvalidMessage, msg=str(change)[:50]):
                evidence_wire.read(FORM | change)
        for form in (None, [], "x"):
            with self.assertRaises(InvalidMessage):
                evidence_wire.read(form)

    def test_receipts(self):
        for status in ReceiptStatus:
            receipt = Receipt(status=status, reason="so")
            form = json.loads(json.dumps(evidence_wire.write_receipt(receipt)))
            self.assertEqual(receipt, evidence_wire.read_receipt(form))
        for form in ({"schema": 1}, {"schema": 1, "receipt": "maybe"}, None):
            with self.assertRaises(InvalidMessage):
                evidence_wire.read_receipt(form)
