# SPDX-License-Identifier: Apache-2.0
"""Test the recovery of a killed server by nova, masakari and mistral."""

import signal

from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.tests.openstack.base import OpenStackTest, step

WORKFLOW = "vmmonitor_recover"


class TestNova(OpenStackTest):
    """Test the nova driver with a hard reboot."""

    steps = (step("nova"),)

    def actions(self, server) -> list[str]:
        """Return the actions of a server in nova, oldest first."""
        compute = self.lab.cloud.compute
        return [one.action for one in compute.server_actions(server.uuid)][::-1]

    def test_killed_server_is_rebooted(self):
        server = self.server()
        before = server.kill()
        (recovery,) = self.recovered(server, host="node1")
        self.assertEqual(("nova", RecoveryState.SUCCEEDED), (recovery.driver, recovery.state))
        self.assertNotEqual(before, server.pid())
        self.assertEqual(["create", "reboot"], self.actions(server))

    def test_server_killed_twice_at_once_is_rebooted(self):
        server = self.server("node2")
        for times in (1, 2):
            server.kill()
            self.assertEqual(times, len(self.recovered(server, times=times)))
        self.assertEqual(["create", "reboot", "reboot"], self.actions(server))

    def test_server_after_sigterm_is_rebooted(self):
        server = self.server()
        server.kill(signal.SIGTERM)
        self.recovered(server)
        self.assertEqual(["create", "reboot"], self.actions(server))

    def test_server_killed_without_nova_is_rebooted_later(self):
        server = self.server("node2")
        with self.lab.without("nova-api"):
            server.kill()
            self.wait(lambda: self.questions(server) >= 1, "nova is not asked")
            self.assertEqual([], self.recoveries(server))
        self.lab.wait_for_api()
        self.recovered(server)
        # nova itself stops what it finds dead for 15 s.
        self.assertEqual(["reboot"], self.actions(server)[-1:])
        self.assertEqual(1, self.actions(server).count("reboot"))

    def test_server_killed_during_recovery_is_rebooted(self):
        server = self.server()
        before = server.kill()
        self.wait(lambda: server.pid() not in (None, before), "it is not started")
        server.kill()
        self.wait(lambda: set(self.states(server)) == {IncidentState.RESOLVED}, "it stays down")
        server.becomes("ACTIVE")
        self.assertTrue(server.ping(60))


class TestStopAndStart(OpenStackTest):
    """Test the nova driver with the method stop_start."""

    steps = (step("nova", method="stop_start"),)

    def test_killed_server_is_stopped_and_started(self):
        server = self.server()
        server.kill()
        self.recovered(server)


class TestMasakari(OpenStackTest):
    """Test the masakari driver."""

    steps = (step("masakari"),)

    def notifications(self, server) -> list[str]:
        """Return the states of masakari's notifications about a server."""
        masakari = self.lab.cloud.instance_ha
        return [
            one.status
            for one in masakari.notifications()
            if one.payload.get("instance_uuid") == server.uuid
        ]

    def test_killed_server_is_recovered_by_masakari(self):
        server = self.server()
        server.kill()
        (recovery,) = self.recovered(server)
        self.assertEqual(("masakari", RecoveryState.SUCCEEDED), (recovery.driver, recovery.state))
        # It was followed to its end.
        self.assertEqual(["finished"], self.notifications(server))
        (incident,) = self.deployment.incidents(server.uuid)
        messages = [step.message for step in self.deployment.steps(incident.incident_id)]
        self.assertTrue([message for message in messages if "is finished" in message], messages)

    def test_server_killed_twice_is_recovered_by_masakari(self):
        """masakari alone treats the second failure as a duplicate."""
        server = self.server("node2")
        for times in (1, 2):
            server.kill()
            self.recovered(server, times=times)
        self.assertEqual(["finished"] * 2, self.notifications(server))


class TestMistral(OpenStackTest):
    """Test the mistral driver with the lab's workflow."""

    steps = (step("mistral", workflow=WORKFLOW),)

    def test_killed_server_is_recovered_by_mistral(self):
        server = self.server()
        server.kill()
        (recovery,) = self.recovered(server)
        self.assertEqual(("mistral", RecoveryState.SUCCEEDED), (recovery.driver, recovery.state))
        execution = self.lab.cloud.workflow.get(f"/executions/{recovery.recovery_id}").json()
        self.assertEqual(("SUCCESS", WORKFLOW), (execution["state"], execution["workflow_name"]))
        self.assertIn(server.uuid, execution["input"])


class TestFallback(OpenStackTest):
    """Test the next step without masakari, and evacuation of a host without nova-compute."""

    steps = (
        step("masakari", attempts=1),
        step("nova", attempts=1),
        step("nova", attempts=10, method="evacuate"),
    )

    def drivers(self, server) -> list[tuple[str, str]]:
        """Return (driver, state) of every attempt."""
        return [(recovery.driver, recovery.state) for recovery in self.recoveries(server)]

    def test_absent_masakari_falls_back_to_nova(self):
        server = self.server()
        with self.lab.without("masakari-api"):
            server.kill()
            self.recovered(server)
        self.assertEqual(
            [("masakari", RecoveryState.FAILED), ("nova", RecoveryState.SUCCEEDED)],
            self.drivers(server),
        )
        self.lab.wait_for_api("instance_ha")

    def test_server_of_down_host_is_evacuated(self):
        server = self.server("node2")
        with self.lab.host_down("node2"), self.lab.without("masakari-api"):
            server.kill()
            self.recovered(server, host="node1")
        *failed, last = self.drivers(server)
        self.assertEqual(
            [("masakari", RecoveryState.FAILED), ("nova", RecoveryState.FAILED)], failed[:2]
        )
        self.assertEqual(("nova", RecoveryState.SUCCEEDED), last)
        self.lab.wait_for_api("instance_ha")
