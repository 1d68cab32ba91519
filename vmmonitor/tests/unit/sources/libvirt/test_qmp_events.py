# SPDX-License-Identifier: Apache-2.0
"""What QEMU's monitor says, in words."""

import json
import unittest

import hypothesis
from hypothesis import strategies

from vmmonitor.rpc import event_wire
from vmmonitor.sources.libvirt import qmp_events

UUID = "7cbbfad7-b25b-4977-945f-310ada8fac56"
IO_ERROR = {
    "device": "",
    "node-name": "libvirt-2-format",
    "reason": "Input/output error",
    "operation": "write",
    "action": "report",
}
XML = """<domain><devices>
  <disk type='file'>
    <source file='/images/web.img' index='3'/>
    <backingStore type='file'><source file='/images/base.img' index='4'/></backingStore>
    <target dev='hda'/><alias name='ide0-0-0'/>
  </disk>
  <disk type='network'>
    <source protocol='nbd' index='2'><host transport='unix' socket='/run/nbd'/></source>
    <target dev='vdb'/><alias name='virtio-disk1'/>
  </disk>
  <disk type='block'><source dev='/dev/sdq' index='5'/><target dev='vdc'/></disk>
  <disk type='network'><source protocol='rbd' name='vms/web' index='6'/></disk>
</devices></domain>"""


def event(name, details):
    """The event of details, as text or to be written as JSON."""
    text = details if isinstance(details, str) else json.dumps(details)
    return qmp_events.decode_monitor_event(name, UUID, "web", text, 1000)


class EventTest(unittest.TestCase):
    def assert_says(self, expected, name, details):
        told = event(name, details)
        self.assertEqual(expected, (told.type, told.detail, told.attributes))

    def test_who_and_when(self):
        told = event("BLOCK_IO_ERROR", IO_ERROR)
        self.assertEqual(("qmp", 1000), (told.source, told.occurred_at))
        self.assertEqual(
            (UUID, "web", "web"),
            (told.instance.uuid, told.instance.name, told.instance.hypervisor_name),
        )

    def test_disk_error(self):
        said = {
            "node_name": "libvirt-2-format",
            "reason": "Input/output error",
            "operation": "write",
        }
        self.assert_says(("block_io_error", "report", said), "BLOCK_IO_ERROR", IO_ERROR)

    def test_disk_is_full(self):
        full = IO_ERROR | {"action": "stop", "nospace": True, "device": "drive0"}
        told = event("BLOCK_IO_ERROR", full)
        self.assertEqual("stop", told.detail)
        self.assertIs(True, told.attributes["nospace"])
        self.assertEqual("drive0", told.attributes["device"])

    def test_panic(self):
        self.assert_says(("guest_panicked", "pause", {}), "GUEST_PANICKED", '{"action": "pause"}')
        info = {"type": "hyper-v", "arg1": 2**63, "arg2": 2}
        told = event("GUEST_PANICKED", {"action": "poweroff", "info": info})
        self.assertEqual("hyper-v", told.attributes["info"]["type"])
        self.assertEqual("0x8000000000000000", told.attributes["info"]["arg1"])
        self.assertEqual(2, told.attributes["info"]["arg2"])

    def test_memory_failure_is_told_as_libvirt_tells_it(self):
        self.assert_says(
            ("memory_failure", "inject", {"recipient": "guest", "flags": ["action_required"]}),
            "MEMORY_FAILURE",
            {
                "recipient": "guest",
                "action": "inject",
                "flags": {"action-required": True, "recursive": False},
            },
        )

    def test_unknown(self):
        self.assert_says(("unknown-NEWS", "", {"a": 1}), "NEWS", {"a": 1})

    def test_what_cannot_be_read_is_kept_as_it_is(self):
        for details in ("{", "[1]", "7", "nonsense", "[" * 60000):
            told = event("BLOCK_IO_ERROR", details)
            self.assertEqual(("block_io_error", ""), (told.type, told.detail))
            self.assertEqual(details[:4096], told.attributes["details"])
        self.assertEqual({}, event("BLOCK_IO_ERROR", "").attributes)

    def test_what_is_too_long_is_not_read(self):
        told = event("BLOCK_IO_ERROR", IO_ERROR | {"reason": "x" * qmp_events.MAX_DETAILS})
        self.assertEqual(4096, len(told.attributes["details"]))
        many = event("BLOCK_IO_ERROR", {f"a{number}": 1 for number in range(5000)})
        self.assertEqual(qmp_events.MAX_EVENT_ATTRIBUTES, len(many.attributes))

    json_values = strategies.recursive(
        strategies.none()
        | strategies.booleans()
        | strategies.floats()
        | strategies.integers()
        | strategies.text(),
        lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    )
    keys = strategies.sampled_from(["action", "flags", "info", "node-name"]) | strategies.text()

    @hypothesis.given(
        name=strategies.sampled_from([*qmp_events.QEMU_EVENT_TYPES, "\udc80\0"]),
        details=strategies.text() | strategies.dictionaries(keys, json_values),
    )
    @hypothesis.settings(max_examples=100, deadline=None)
    def test_whatever_comes_in_can_be_sent(self, name, details):
        told = event(name, details)
        json.dumps(event_wire.fit_attributes(told.attributes), allow_nan=False).encode()
        (told.type + told.detail).encode()
        self.assertNotIn("\0", told.type + told.detail)


class DiskTest(unittest.TestCase):
    def test_by_its_node(self):
        for node, expected in {
            "libvirt-3-format": {
                "device": "ide0-0-0",
                "target": "hda",
                "path": "/images/web.img",
            },
            "libvirt-4-storage": {
                "device": "ide0-0-0",
                "target": "hda",
                "path": "/images/base.img",
            },
            "libvirt-2-format": {"device": "virtio-disk1", "target": "vdb"},
            "libvirt-5-format": {"target": "vdc", "path": "/dev/sdq"},
            "libvirt-6-storage": {"path": "vms/web"},
        }.items():
            self.assertEqual(expected, qmp_events.find_disk(XML, node), node)

    def test_unknown(self):
        for node in ("libvirt-9-format", "libvirt--format", "#block123", "", "libvirt-2-format\n"):
            self.assertEqual({}, qmp_events.find_disk(XML, node), node)
        self.assertEqual({}, qmp_events.find_disk("<domain", "libvirt-2-format"))
        self.assertEqual({}, qmp_events.find_disk("<!DOCTYPE x>" + XML, "libvirt-2-format"))
