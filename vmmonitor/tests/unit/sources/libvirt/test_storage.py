# SPDX-License-Identifier: Apache-2.0
"""The storage of a disk, from the domain XML."""

import unittest

from vmmonitor.sources.libvirt.storage import find_storage

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


class FindStorageTest(unittest.TestCase):
    def storage_of(self, *disks, **attributes):
        return find_storage(xml(*disks), attributes).get("storage", "")

    def test_storage_of_each_kind_of_source(self):
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
            self.assertEqual(wanted, self.storage_of(disk(source)), source)

    def test_disk_is_found_by_its_path(self):
        two = (file(INSTANCES, target="vda"), disk(RBD))
        self.assertEqual("rbd:vms@mon-1:6789,mon-2:6789", self.storage_of(*two, path="vms/disk-1"))
        self.assertEqual("dir:/var/lib/nova/instances", self.storage_of(*two, path=INSTANCES))
        self.assertEqual("", self.storage_of(*two, path="/elsewhere"))

    def test_disk_is_found_by_its_name(self):
        two = (file(INSTANCES, target="vda"), disk(RBD))
        self.assertEqual("dir:/var/lib/nova/instances", self.storage_of(*two, target="vda"))
        self.assertEqual("rbd:vms@mon-1:6789,mon-2:6789", self.storage_of(*two, device="vdb"))

    def test_unnamed_disk_has_the_storage_that_all_disks_share(self):
        self.assertEqual("nbd:unix:/run/nbd.sock", self.storage_of(disk(SOCKET), disk(SOCKET)))
        self.assertEqual("", self.storage_of(disk(SOCKET), file(INSTANCES)))
        self.assertEqual(
            "nbd:unix:/run/nbd.sock", self.storage_of(disk(SOCKET), device="virtio-disk1")
        )
        cdrom = file("/iso/a.iso", device="cdrom")
        self.assertEqual("nbd:unix:/run/nbd.sock", self.storage_of(disk(SOCKET), cdrom))

    def test_invalid_definition_has_no_storage(self):
        for text in ("", "<domain>", "<!DOCTYPE x><domain/>", "<domain/>", "\x00"):
            self.assertEqual({}, find_storage(text, {"path": ["no"], "device": "vda"}), text)
