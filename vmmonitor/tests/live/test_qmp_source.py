# SPDX-License-Identifier: Apache-2.0
"""The qmp source on real guests, beside what libvirt tells of the same faults."""

import time

from vmmonitor.model.event import RawEvent
from vmmonitor.sources.libvirt.qmp import QmpSource
from vmmonitor.tests.fixtures.faulty_disk import FaultyDisk, FullDisk
from vmmonitor.tests.fixtures.hypervisor import Hypervisor
from vmmonitor.tests.functional.sources import base
from vmmonitor.tests.live.libvirt_base import LiveTest, fill

#: Seconds in which nothing more must come.
QUIET_S = 0.3
STARTED = "lifecycle.started/booted"


class QmpTest(LiveTest):
    def listen(self, hypervisor):
        """Listen to the monitors of a hypervisor; returns what they tell."""
        observed = base.Observed()
        made = QmpSource(base.new_conf(uri=hypervisor.uri, read_only=True), observed.append)
        self.addCleanup(made.stop)
        made.start()
        self.wait(lambda: observed.reachable() == [True], "reachable")
        return observed

    def told(self, observed, guest, event_type):
        """Wait for an event of a guest and return it."""

        def events():
            return [
                event
                for event in observed.of(RawEvent)
                if (event.instance.uuid, event.type) == (guest.uuid, event_type)
            ]

        self.wait(events, event_type)
        return events()[0]

    def test_disk_error_of_a_disk_without_a_name_that_libvirt_does_not_tell(self):
        _, by_libvirt = self.watch(self.hypervisor())
        by_qemu = self.listen(self.hypervisor())
        faulty = self.useFixture(FaultyDisk(self.hypervisor()))
        guest = self.guest(disks=[faulty.disk("report", name=None)])
        self.wait(lambda: STARTED in by_libvirt.causes(guest.uuid), "started")
        before = by_libvirt.causes(guest.uuid)
        faulty.fail()
        self.assertEqual("e", guest.order("D", timeout=5))
        event = self.told(by_qemu, guest, "block_io_error")
        self.assertEqual(("qmp", "report"), (event.source, event.detail))
        self.assertEqual(
            ("write", "Input/output error", "vdb"),
            tuple(event.attributes[name] for name in ("operation", "reason", "target")),
        )
        self.assertEqual(guest.name, event.instance.hypervisor_name)
        time.sleep(QUIET_S)
        self.assertEqual(before, by_libvirt.causes(guest.uuid))

    def test_both_name_the_same_disk(self):
        _, by_libvirt = self.watch(self.hypervisor())
        by_qemu = self.listen(self.hypervisor())
        full = self.useFixture(FullDisk(self.hypervisor()))
        guest = self.guest(disks=[full.disk()])
        fill(guest)
        event = self.told(by_qemu, guest, "block_io_error")
        self.assertEqual("stop", event.detail)
        self.assertIs(True, event.attributes["nospace"])
        same = self.told(by_libvirt, guest, "io_error")
        for name in ("path", "device"):
            self.assertEqual(same.attributes[name], event.attributes[name])

    def test_panic(self):
        by_qemu = self.listen(self.hypervisor())
        guest = self.guest(on_crash="preserve")
        guest.order("P")
        event = self.told(by_qemu, guest, "guest_panicked")
        self.assertEqual(("pause", {}), (event.detail, event.attributes))

    def test_it_listens_again_when_libvirtd_is_back(self):
        own = self.useFixture(Hypervisor())
        self.hypervisor = lambda: own
        faulty = self.useFixture(FaultyDisk(own))
        guest = self.guest(disks=[faulty.disk("report")])
        by_qemu = self.listen(own)
        own.kill()
        self.wait(lambda: by_qemu.reachable() == [True, False], "not reachable")
        own.start()
        self.wait(lambda: by_qemu.reachable() == [True, False, True], "reachable again")
        faulty.fail()
        guest.order("R", timeout=5)
        event = self.told(by_qemu, guest, "block_io_error")
        self.assertEqual("read", event.attributes["operation"])
        self.assertEqual("disk", event.attributes["path"])
