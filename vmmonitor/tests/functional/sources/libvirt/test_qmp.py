# SPDX-License-Identifier: Apache-2.0
"""The qmp source on libvirt's test driver, which has domains and no monitors."""

import json
from unittest import mock

import fixtures
import libvirt

from vmmonitor.model.event import RawEvent
from vmmonitor.sources.libvirt import qmp
from vmmonitor.tests.functional.sources import base

DISK = """<domain type='test'><name>with-disk</name><uuid>{}</uuid><memory>1024</memory>
<os><type>hvm</type></os><devices><disk type='file' device='disk'>
<source file='/images/web.img' index='2'/><target dev='vda' bus='virtio'/></disk></devices>
</domain>"""


class QmpTest(base.LibvirtTest):
    """Registers with a monitor that the test speaks for."""

    def setUp(self):
        super().setUp()
        self.register = self.replaced("qemuMonitorEventRegister", return_value=7)
        self.deregister = self.replaced("qemuMonitorEventDeregister")

    def replaced(self, name, **kwargs):
        double = mock.Mock(**kwargs)
        self.useFixture(fixtures.MonkeyPatch(f"libvirt_qemu.{name}", double))
        return double

    def new_source(self, **options):
        observed = base.Observed()
        made = qmp.QmpSource(base.new_conf(**options), observed.append)
        self.addCleanup(made.stop)
        made.start()
        return made, observed

    def says(self, domain, name, **details):
        """Have the monitor of a domain say something."""
        said = self.register.call_args[0][3]
        text = json.dumps({key.replace("_", "-"): value for key, value in details.items()})
        said(None, domain, name, 1, 2, text, None)

    def test_it_listens_on_a_connection_that_may_write(self):
        made, observed = self.new_source(read_only=True)
        self.wait(lambda: observed.reachable() == [True], "reachable")
        self.assertEqual("qmp", observed[0].source)
        opened, domain, pattern, _, _, flags = self.register.call_args[0]
        self.assertIs(made._connection.libvirt, opened)
        self.assertIsNone(domain)
        self.assertEqual("^(BLOCK_IO_ERROR|GUEST_PANICKED|MEMORY_FAILURE)$", pattern)
        self.assertEqual(1, flags)
        opened.defineXML(base.xml("writable", "0b7a5a0e-65cb-4f0c-8c1e-9d1f2a3b4c5d")).undefine()
        made.stop()
        self.deregister.assert_called_once_with(opened, 7)
        self.assertNotIn("qmp-source", base.threads("qmp"))

    def test_what_is_said(self):
        admin = self.admin()
        domain = admin.lookupByUUIDString(self.new_domain(admin))
        _, observed = self.new_source()
        self.wait(lambda: observed.reachable(), "reachable")
        self.says(domain, "GUEST_PANICKED", action="pause")
        self.wait(lambda: observed.of(RawEvent), "told")
        self.assertEqual(["guest_panicked/pause"], observed.causes(domain.UUIDString()))

    def test_a_storm_of_disk_errors_asks_libvirt_once(self):
        admin = self.admin()
        domain = admin.lookupByUUIDString(self.new_domain(admin))
        one = domain.UUIDString()
        xml = mock.Mock(return_value=DISK.format(one))
        self.useFixture(fixtures.MonkeyPatch("libvirt.virDomain.XMLDesc", xml))
        _, observed = self.new_source()
        self.wait(lambda: observed.reachable(), "reachable")
        error = {"node_name": "libvirt-2-format", "action": "report", "operation": "read"}
        for _ in range(1000):
            self.says(domain, "BLOCK_IO_ERROR", **error)
        self.wait(lambda: len(observed.causes(one)) == 1000, "told")
        self.assertEqual({"block_io_error/report"}, set(observed.causes(one)))
        self.assertEqual(
            {
                "node_name": "libvirt-2-format",
                "operation": "read",
                "target": "vda",
                "path": "/images/web.img",
            },
            observed[-1].attributes,
        )
        xml.assert_called_once()

    def test_a_disk_of_a_domain_that_is_gone(self):
        admin = self.admin()
        domain = admin.lookupByUUIDString(self.new_domain(admin))
        made, observed = self.new_source()
        self.wait(lambda: observed.reachable(), "reachable")
        domain.destroy()
        for node in ("libvirt-2-format", 7, None):
            self.says(domain, "BLOCK_IO_ERROR", node_name=node, action="stop")
        self.wait(lambda: len(observed.of(RawEvent)) == 3, "told")
        self.assertEqual(["block_io_error/stop"] * 3, observed.causes(domain.UUIDString()))
        self.assertEqual({}, made._disks)

    def test_another_run_of_the_domain_may_have_other_disks(self):
        admin = self.admin()
        domain = admin.lookupByUUIDString(self.new_domain(admin))
        made, observed = self.new_source()
        self.wait(lambda: observed.reachable(), "reachable")
        with mock.patch.object(domain, "ID", return_value=domain.ID() - 1):
            self.says(domain, "BLOCK_IO_ERROR", node_name="libvirt-2-format")
        self.wait(lambda: observed.of(RawEvent), "told")
        self.assertEqual({}, made._disks)

    def test_what_is_remembered_is_bounded(self):
        self.useFixture(fixtures.MonkeyPatch("vmmonitor.sources.libvirt.qmp.MAX_CACHED_DISKS", 3))
        admin = self.admin()
        domain = admin.lookupByUUIDString(self.new_domain(admin))
        made, observed = self.new_source()
        self.wait(lambda: observed.reachable(), "reachable")
        for number in range(10):
            self.says(domain, "BLOCK_IO_ERROR", node_name=f"libvirt-{number}-format")
        self.says(domain, "BLOCK_IO_ERROR", reason="x" * 10**6)
        self.wait(lambda: len(observed.of(RawEvent)) == 11, "told")
        self.assertTrue(len(made._disks) <= 3)
        self.assertEqual(4096, len(observed[-1].attributes["details"]))

    def test_it_comes_back_after_a_loss(self):
        made, observed = self.new_source()
        self.wait(lambda: observed.reachable() == [True], "reachable")
        lost = made._connection
        lost._closed(lost.libvirt, libvirt.VIR_CONNECT_CLOSE_REASON_EOF, None)
        self.wait(lambda: observed.reachable() == [True, False, True], "reachable again")
        self.assertEqual("libvirt closed the connection", observed[1].reason)


class RefusedTest(base.LibvirtTest):
    def test_a_libvirt_without_qemu(self):
        observed = base.Observed()
        made = qmp.QmpSource(base.new_conf(), observed.append)
        self.addCleanup(made.stop)
        made.start()
        self.wait(lambda: observed.reachable() == [False], "refused")
        self.assertIn("not supported", observed[0].reason)
