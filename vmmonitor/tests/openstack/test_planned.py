# SPDX-License-Identifier: Apache-2.0
"""Test that planned operations in nova cause no recovery."""

from openstack import exceptions

from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.fixtures.openstack_lab import NOVA_S
from vmmonitor.tests.openstack.base import OpenStackTest
from vmmonitor.tests.promises import shows

DESTROYED = "lifecycle.stopped/destroyed"


@shows("P4")
class TestPlanned(OpenStackTest):
    def setUp(self) -> None:
        super().setUp()
        self.compute = self.lab.cloud.compute

    def test_stop_and_start_are_ignored(self):
        server = self.server()
        self.compute.stop_server(server.uuid)
        server.becomes("SHUTOFF")
        self.wait_for_cause(server, DESTROYED)
        self.left_alone(server)
        self.assertIsNone(server.pid())
        self.compute.start_server(server.uuid)
        server.becomes("ACTIVE")
        self.left_alone(server)

    def test_delete_is_ignored(self):
        server = self.server("node2")
        self.compute.delete_server(server.uuid)
        self.wait_for_cause(server, DESTROYED)

        def is_gone() -> bool:
            try:
                server.look()
            except exceptions.NotFoundException:
                return True
            return False

        wait_until(is_gone, NOVA_S, "it is not deleted")
        self.left_alone(server)

    def test_reboot_is_ignored(self):
        server = self.server()
        # The guest does not listen to the power button: the soft one becomes a hard one.
        for number, kind in enumerate(("SOFT", "HARD"), 1):
            before = server.pid()
            self.compute.reboot_server(server.uuid, kind)
            self.wait(
                lambda n=number: self.deployment.causes(server.uuid).count(DESTROYED) == n, kind
            )
            server.becomes("ACTIVE")
            self.assertNotEqual(before, server.pid())
            self.left_alone(server)

    def test_pause_and_unpause_are_ignored(self):
        server = self.server("node2")
        self.compute.pause_server(server.uuid)
        server.becomes("PAUSED")
        self.wait_for_cause(server, "lifecycle.suspended/paused")
        self.left_alone(server)
        self.assertFalse(server.ping(1))
        self.compute.unpause_server(server.uuid)
        server.becomes("ACTIVE")
        self.left_alone(server)

    def test_suspend_and_resume_are_ignored(self):
        server = self.server()
        self.compute.suspend_server(server.uuid)
        server.becomes("SUSPENDED")
        self.wait_for_cause(server, "lifecycle.stopped/saved")
        self.left_alone(server)
        self.assertIsNone(server.pid())
        self.compute.resume_server(server.uuid)
        server.becomes("ACTIVE")
        self.left_alone(server)

    def test_rescue_and_unrescue_are_ignored(self):
        server = self.server("node2")
        self.compute.rescue_server(server.uuid)
        server.becomes("RESCUE")
        self.wait_for_cause(server, DESTROYED)
        self.left_alone(server)
        self.compute.unrescue_server(server.uuid)
        server.becomes("ACTIVE")
        self.left_alone(server)

    def test_resize_is_ignored(self):
        server = self.server()
        flavor = self.compute.find_flavor("m1.micro")
        self.compute.resize_server(server.uuid, flavor.id)
        server.becomes("VERIFY_RESIZE")
        self.wait_for_cause(server, DESTROYED)
        self.left_alone(server)
        self.compute.confirm_server_resize(server.uuid)
        server.becomes("ACTIVE")
        self.left_alone(server)

    def test_live_migration_is_ignored(self):
        server = self.server("node1")
        self.compute.live_migrate_server(server.uuid, host="node2", block_migration="auto")
        self.wait_for_cause(server, "lifecycle.stopped/migrated")
        self.assertEqual("node2", server.becomes("ACTIVE").compute_host)
        self.assertTrue(server.ping(NOVA_S))
        self.left_alone(server)

    def test_shelve_and_unshelve_are_ignored(self):
        server = self.server("node2")
        self.compute.shelve_server(server.uuid)
        server.becomes("SHELVED_OFFLOADED")
        self.wait_for_cause(server, DESTROYED)
        self.left_alone(server)
        self.compute.unshelve_server(server.uuid)
        server.becomes("ACTIVE")
        self.left_alone(server)
