# SPDX-License-Identifier: Apache-2.0
"""Which storage a disk error comes from."""

import unittest

from vmmonitor.model import storage
from vmmonitor.model.event import Event
from vmmonitor.model.instance import Instance

UUID = "7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a11"
HASH = "0123456789abcdef0123456789abcdef"


def disk(source, kind="network", target="vdb", device="disk"):
    return f"<disk type='{kind}' device='{device}'>{source}<target dev='{target}'/></disk>"


def file(path, **more):
    return disk(f"<source file='{path}'/>", "file", **more)


def xml(*disks):
    return f"<domain><devices>{''.join(disks)}</devices></domain>"


RBD = """<source protocol='rbd' name='vms/disk-1'><host name='mon-2' port='6789'/>
<host name='mon-1' port='6789'/></source>"""
NBD = "<source protocol='nbd' name='a'><host name='10.0.0.5' port='10809'/></source>"
SOCKET = "<source protocol='nbd'><host transport='unix' socket='/run/nbd.sock'/></source>"
INSTANCES = f"/var/lib/nova/instances/{UUID}/disk"


class AttributeTest(unittest.TestCase):
    def told(self, *disks, **attributes):
        return storage.attribute(xml(*disks), attributes).get("storage", "")

    def test_kinds(self):
        for source, wanted in (
            (RBD, "rbd:vms@mon-1:6789,mon-2:6789"),
            (NBD, "nbd:10.0.0.5:10809"),
            (SOCKET, "nbd:unix:/run/nbd.sock"),
            ("<source protocol='iscsi' name='iqn/1'><host name='san' port='3260'/></source>",)
            + ("iscsi:san:3260",),
            ("<source protocol='nfs' name='/x'><host name='filer'/></source>", "nfs:filer"),
            (f"<source file='{INSTANCES}'/>", "dir:/var/lib/nova/instances"),
            (f"<source file='/var/lib/nova/mnt/{HASH}/volume-1'/>", f"mount:{HASH}"),
            (
                "<source dev='/dev/disk/by-path/pci-0-ip-10.0.0.7:3260-iscsi-iqn.x-lun-1'/>",
                "iscsi:10.0.0.7:3260",
            ),
            ("<source dev='/dev/dm-3'/>", "dir:/dev"),
            ("<source pool='default' volume='one'/>", "volume:default"),
            ("<source protocol='vxhs' name='x'/>", ""),
        ):
            self.assertEqual(wanted, self.told(disk(source)), source)

    def test_the_disk_by_its_path(self):
        two = (file(INSTANCES, target="vda"), disk(RBD))
        self.assertEqual("rbd:vms@mon-1:6789,mon-2:6789", self.told(*two, path="vms/disk-1"))
        self.assertEqual("dir:/var/lib/nova/instances", self.told(*two, path=INSTANCES))
        self.assertEqual("", self.told(*two, path="/elsewhere"))

    def test_the_disk_by_its_name(self):
        two = (file(INSTANCES, target="vda"), disk(RBD))
        self.assertEqual("dir:/var/lib/nova/instances", self.told(*two, target="vda"))
        self.assertEqual("rbd:vms@mon-1:6789,mon-2:6789", self.told(*two, device="vdb"))

    def test_without_a_name_only_what_all_disks_share(self):
        self.assertEqual("nbd:unix:/run/nbd.sock", self.told(disk(SOCKET), disk(SOCKET)))
        self.assertEqual("", self.told(disk(SOCKET), file(INSTANCES)))
        self.assertEqual("nbd:unix:/run/nbd.sock", self.told(disk(SOCKET), device="virtio-disk1"))
        cdrom = file("/iso/a.iso", device="cdrom")
        self.assertEqual("nbd:unix:/run/nbd.sock", self.told(disk(SOCKET), cdrom))

    def test_what_cannot_be_read(self):
        for text in ("", "<domain>", "<!DOCTYPE x><domain/>", "<domain/>", "\x00"):
            self.assertEqual({}, storage.attribute(text, {"path": ["no"], "device": "vda"}), text)


class SharedCauseTest(unittest.TestCase):
    def cause(self, kind="io_error", detail="pause", host="node-1", **attributes):
        return storage.shared_cause(
            Event(
                event_id="1",
                host=host,
                instance=Instance(uuid=UUID),
                source="libvirt",
                type=kind,
                detail=detail,
                occurred_at=0,
                attributes=attributes,
            )
        )

    def test_of_a_disk_error(self):
        self.assertEqual("storage:rbd:vms@a", self.cause(storage="rbd:vms@a"))
        paused = self.cause("lifecycle.suspended", "ioerror", storage="rbd:vms@a")
        self.assertEqual("storage:rbd:vms@a", paused)

    def test_what_only_the_host_has(self):
        self.assertEqual("storage:node-1:dir:/srv", self.cause(storage="dir:/srv"))
        self.assertEqual(
            "storage:node-2:nbd:unix:/a", self.cause(host="node-2", storage="nbd:unix:/a")
        )
        self.assertEqual(f"storage:mount:{HASH}", self.cause(storage=f"mount:{HASH}"))

    def test_an_agent_that_says_no_more_than_the_path(self):
        cause = "storage:node-1:dir:/var/lib/nova/instances"
        self.assertEqual(cause, self.cause(path=INSTANCES))
        self.assertEqual("", self.cause(path="disk"))

    def test_of_anything_else(self):
        for kind, detail in (("lifecycle.stopped", "failed"), ("lifecycle.suspended", "paused")):
            self.assertEqual("", self.cause(kind, detail, storage="rbd:vms@a"))

    def test_hostile_words(self):
        for word in (7, ["rbd"], {}, None, ""):
            self.assertEqual("", self.cause(storage=word))
        one, other = (self.cause(storage=f"dir:/{'x' * 5000}{end}\udc80") for end in "ab")
        self.assertEqual((255, 255), (len(one), len(other)))
        self.assertNotEqual(one, other)
