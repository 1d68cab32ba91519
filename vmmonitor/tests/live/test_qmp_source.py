# SPDX-License-Identifier: Apache-2.0
"""Test the qmp source on real guests, together with the libvirt source."""

import time

import fixtures

from vmmonitor.agent.spool import Spool
from vmmonitor.model.event import RUNNING_AGAIN, RawEvent
from vmmonitor.rules import defaults, filters
from vmmonitor.sources.libvirt.qmp import QmpSource
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.faulty_disk import FaultyDisk, FullDisk
from vmmonitor.tests.functional.sources import base
from vmmonitor.tests.live.libvirt_base import LiveTest, fill
from vmmonitor.tests.unit.agent import base as agent_parts

#: Time for unexpected events to appear, in seconds.
QUIET_S = 0.3
#: The same if a report may wait for a duplicate.
WAITED_S = 3.0
ROOM = 2**24
STARTED = "lifecycle.started/booted"


class QmpTest(LiveTest):
    def listen(self, hypervisor):
        """Start a qmp source for a hypervisor; return its observations."""
        observed = base.Observed()
        made = QmpSource(base.new_conf(uri=hypervisor.uri, read_only=True), observed.append)
        self.addCleanup(made.stop)
        made.start()
        self.wait(lambda: observed.reachable() == [True], "reachable")
        return observed

    def wait_for_event(self, observed, guest, event_type):
        """Wait for an event of a guest and return it."""

        def events():
            return [
                event
                for event in observed.of(RawEvent)
                if (event.instance.uuid, event.type) == (guest.uuid, event_type)
            ]

        self.wait(events, event_type)
        return events()[0]

    def test_disk_error_without_source_name_is_reported(self):
        _, by_libvirt = self.watch(self.hypervisor())
        by_qemu = self.listen(self.hypervisor())
        faulty = self.useFixture(FaultyDisk(self.hypervisor()))
        guest = self.guest(disks=[faulty.disk("report", name=None)])
        self.wait(lambda: STARTED in by_libvirt.causes(guest.uuid), "started")
        before = by_libvirt.causes(guest.uuid)
        faulty.fail()
        self.assertEqual("e", guest.order("D", timeout=5))
        event = self.wait_for_event(by_qemu, guest, "block_io_error")
        self.assertEqual(("qmp", "report"), (event.source, event.detail))
        self.assertEqual(
            ("write", "Input/output error", "vdb"),
            tuple(event.attributes[name] for name in ("operation", "reason", "target")),
        )
        self.assertEqual(guest.name, event.instance.hypervisor_name)
        time.sleep(QUIET_S)
        self.assertEqual(before, by_libvirt.causes(guest.uuid))

    def test_disk_names_match_libvirt(self):
        _, by_libvirt = self.watch(self.hypervisor())
        by_qemu = self.listen(self.hypervisor())
        full = self.useFixture(FullDisk(self.hypervisor()))
        guest = self.guest(disks=[full.disk()])
        fill(guest)
        event = self.wait_for_event(by_qemu, guest, "block_io_error")
        self.assertEqual("stop", event.detail)
        self.assertIs(True, event.attributes["nospace"])
        same = self.wait_for_event(by_libvirt, guest, "io_error")
        for name in ("path", "device"):
            self.assertEqual(same.attributes[name], event.attributes[name])

    def test_panic_is_reported(self):
        by_qemu = self.listen(self.hypervisor())
        guest = self.guest(on_crash="preserve")
        guest.order("P")
        event = self.wait_for_event(by_qemu, guest, "guest_panicked")
        self.assertEqual(("pause", {}), (event.detail, event.attributes))

    def test_source_reconnects_after_libvirtd_restart(self):
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
        event = self.wait_for_event(by_qemu, guest, "block_io_error")
        self.assertEqual("read", event.attributes["operation"])
        self.assertEqual("disk", event.attributes["path"])


class BothTest(LiveTest):
    """Test both sources with the agent's pipeline and spool."""

    def setUp(self):
        super().setUp()
        path = self.useFixture(fixtures.TempDir()).join("spool.db")
        self.spool = Spool(path, 10_000, ROOM)
        self.addCleanup(self.spool.close)
        self.pipeline = agent_parts.new_pipeline(
            spool=self.spool,
            filters=filters.load(defaults.path(defaults.EVENT_FILTERS)),
            clock=lambda: time.time_ns() // 1000,
        )
        self.pipeline.start()
        self.addCleanup(self.pipeline.stop, 5)
        uri = self.hypervisor().uri
        self.source(observe=self.pipeline.observe, uri=uri)
        by_qemu = QmpSource(base.new_conf(uri=uri), self.pipeline.observe)
        self.addCleanup(by_qemu.stop)
        by_qemu.start()
        self.wait(self._both_see, "reachable")

    def _both_see(self):
        reports = self.pipeline.reachability.reports.values()
        return len(reports) == 2 and all(report.reachable for report in reports)

    def spooled(self, guest):
        """Return the spooled events of a guest, without its start."""
        entries = [entry.body for entry in self.spool.read(10_000)]
        return [
            one
            for one in entries
            if one["instance"]["uuid"] == guest.uuid and one["type"] not in RUNNING_AGAIN
        ]

    def causes(self, guest):
        return [f"{one['type']}/{one['detail']}" for one in self.spooled(guest)]

    def assert_events(self, guest, *expected):
        """Wait for these events, and check that no others follow."""
        self.wait(lambda: len(self.causes(guest)) >= len(expected), f"{expected}")
        time.sleep(WAITED_S)
        self.assertEqual(sorted(expected), sorted(self.causes(guest)))

    def failing(self, policy, **kwargs):
        """Return a guest with a failing disk."""
        faulty = self.useFixture(FaultyDisk(self.hypervisor()))
        guest = self.guest(disks=[faulty.disk(policy, **kwargs)])
        faulty.fail()
        return guest

    def test_report_errors_with_both_sources_are_one_event_each(self):
        guest = self.failing("report")
        for _ in range(3):
            self.assertEqual("e", guest.order("D", timeout=5))
        self.assert_events(guest, *["io_error/report"] * 3)
        # If QEMU's report came first, libvirt's event has its additional attributes.
        known = {(None, None), ("write", "Input/output error")}
        for event in self.spooled(guest):
            said = event["attributes"]
            self.assertEqual(("disk", "virtio-disk1"), (said["path"], said["device"]))
            self.assertIn((said.get("operation"), said.get("reason")), known)

    def test_report_errors_without_source_name_come_from_qemu(self):
        guest = self.failing("report", name=None)
        for _ in range(3):
            self.assertEqual("e", guest.order("D", timeout=5))
        self.assert_events(guest, *["block_io_error/report"] * 3)

    def test_stop_error_is_reported_by_libvirt(self):
        guest = self.failing("stop")
        guest.order("D", timeout=1)
        self.assert_events(guest, "io_error/pause", "lifecycle.suspended/ioerror")

    def test_stop_error_without_source_name_is_reported_by_qemu(self):
        guest = self.failing("stop", name=None)
        guest.order("D", timeout=1)
        self.assert_events(guest, "block_io_error/stop", "lifecycle.suspended/ioerror")

    def test_full_disk_is_reported_with_reason(self):
        full = self.useFixture(FullDisk(self.hypervisor()))
        guest = self.guest(disks=[full.disk()])
        fill(guest)
        self.assert_events(
            guest, "io_error/pause", "io_error_reason/pause", "lifecycle.suspended/ioerror"
        )

    def test_panic_with_both_sources_is_one_event(self):
        guest = self.guest(on_crash="preserve")
        guest.order("P")
        self.wait(lambda: "lifecycle.crashed/panicked" in self.causes(guest), "panicked")
        time.sleep(WAITED_S)
        self.assertNotIn("guest_panicked/pause", self.causes(guest))

    def test_repeated_disk_errors_open_incident(self):
        for name in ("disk", None):
            guest = self.failing("report", name=name)
            for _ in range(11):
                self.assertEqual("e", guest.order("D", timeout=5))
            self.wait(lambda guest=guest: len(self.spooled(guest)) == 11, "spooled")
            actions = [one["decision"]["action"] for one in self.spooled(guest)]
            self.assertEqual(["record"] * 9 + ["incident"] * 2, actions, name)
