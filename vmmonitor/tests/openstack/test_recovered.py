# SPDX-License-Identifier: Apache-2.0
"""Test the recovery of a killed server that should run according to nova."""

from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.tests.openstack.base import DIED, OpenStackTest


class TestRecovered(OpenStackTest):
    """Test the libvirt driver, whose recovery nova does not observe."""

    def test_killed_server_is_recovered(self):
        server = self.server()
        before = server.kill()
        (recovery,) = self.recovered(server)
        self.assertEqual(
            ("libvirt", "node1", RecoveryState.SUCCEEDED),
            (recovery.driver, recovery.host, recovery.state),
        )
        self.assertNotEqual(before, server.pid())
        self.assertEqual(1, len(self.deployment.events(server.uuid, DIED)))

    def test_server_killed_twice_is_recovered(self):
        server = self.server("node2")
        server.kill()
        self.recovered(server)
        server.kill()
        self.assertEqual(2, len(self.recovered(server, times=2)))

    def test_server_killed_after_planned_stop_is_recovered(self):
        server = self.server()
        self.lab.cloud.compute.stop_server(server.uuid)
        server.becomes("SHUTOFF")
        self.left_alone(server)
        self.lab.cloud.compute.start_server(server.uuid)
        server.becomes("ACTIVE")
        server.kill()
        self.wait(lambda: IncidentState.RESOLVED in self.states(server), "it is not recovered")
        self.assertEqual(1, len(self.recoveries(server)))
        self.assertTrue(server.ping(60))

    def test_server_killed_without_nova_is_recovered_later(self):
        server = self.server()
        # nova-compute would set a server to SHUTOFF 15 s after the end of its guest.
        with self.lab.suspended("nova-compute-node1"):
            with self.lab.without("nova-api"):
                server.kill()
                self.wait(lambda: self.questions(server) >= 2, "nova is not asked again")
                self.assertEqual([], self.recoveries(server))
                self.assertIsNone(server.pid())
            self.lab.wait_for_api()
            over = [IncidentState.RESOLVED]
            self.wait(lambda: self.states(server) == over, "it is not recovered")
        self.recovered(server)

    def test_opted_out_server_is_not_recovered(self):
        server = self.server(metadata={"HA_Enabled": "false"})
        server.kill()
        self.wait(lambda: self.states(server) == [IncidentState.IGNORED], "it is not ignored")
        self.left_alone(server)
        self.assertIsNone(server.pid())
