# SPDX-License-Identifier: Apache-2.0
"""The storage as the cause that incidents share."""

import unittest

from vmmonitor.model import storage
from vmmonitor.model.event import Event
from vmmonitor.model.instance import Instance

UUID = "7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a11"
HASH = "0123456789abcdef0123456789abcdef"
INSTANCES = f"/var/lib/nova/instances/{UUID}/disk"


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

    def test_disk_error_has_its_storage_as_the_cause(self):
        self.assertEqual("storage:rbd:vms@a", self.cause(storage="rbd:vms@a"))
        paused = self.cause("lifecycle.suspended", "ioerror", storage="rbd:vms@a")
        self.assertEqual("storage:rbd:vms@a", paused)

    def test_local_storage_is_a_cause_of_its_host_only(self):
        self.assertEqual("storage:node-1:dir:/srv", self.cause(storage="dir:/srv"))
        self.assertEqual(
            "storage:node-2:nbd:unix:/a", self.cause(host="node-2", storage="nbd:unix:/a")
        )
        self.assertEqual(f"storage:mount:{HASH}", self.cause(storage=f"mount:{HASH}"))

    def test_cause_is_derived_from_the_path_without_a_storage(self):
        cause = "storage:node-1:dir:/var/lib/nova/instances"
        self.assertEqual(cause, self.cause(path=INSTANCES))
        self.assertEqual("", self.cause(path="disk"))

    def test_other_events_have_no_shared_cause(self):
        for kind, detail in (("lifecycle.stopped", "failed"), ("lifecycle.suspended", "paused")):
            self.assertEqual("", self.cause(kind, detail, storage="rbd:vms@a"))

    def test_malformed_storage_has_a_bounded_unique_cause(self):
        for value in (7, ["rbd"], {}, None, ""):
            self.assertEqual("", self.cause(storage=value))
        one, other = (self.cause(storage=f"dir:/{'x' * 5000}{end}\udc80") for end in "ab")
        self.assertEqual((255, 255), (len(one), len(other)))
        self.assertNotEqual(one, other)
