# SPDX-License-Identifier: Apache-2.0
"""Test the takeover of a driver call from a killed engine, without a repetition."""

import itertools

from vmmonitor.model.states import RecoveryState
from vmmonitor.tests.fixtures.deployment import Program
from vmmonitor.tests.fixtures.openstack_lab import Server
from vmmonitor.tests.openstack.base import OpenStackTest, step


class TakenOver(OpenStackTest):
    """Kill the one of two engines that called the driver."""

    numbers = itertools.count(2)

    def kill_the_caller(self, server: Server) -> Program:
        """Kill a server, and the engine that called the driver; return the other engine."""
        other = self.new_engine(f"engine-{next(self.numbers)}")
        engines = [self.engine, other]
        called = f"of instance {server.uuid}: driver"

        def callers() -> list[Program]:
            return [engine for engine in engines if called in engine.log()]

        server.kill()
        self.wait(callers, "no driver is called")
        (caller,) = callers()
        caller.kill()
        (recovery,) = self.recoveries(server)
        self.assertEqual(RecoveryState.RUNNING, recovery.state)
        (left,) = set(engines) - {caller}
        type(self).engine = left
        return left

    def finished_once(self, server: Server) -> None:
        """Wait until the server runs; check that one recovery succeeded."""
        (recovery,) = self.recovered(server)
        self.assertEqual(RecoveryState.SUCCEEDED, recovery.state)


class TestWithMasakari(TakenOver):
    steps = (step("masakari"),)

    def test_takeover_notifies_masakari_once(self):
        server = self.server()
        self.kill_the_caller(server)
        self.finished_once(server)
        states_of_notifications = [
            one.status
            for one in self.lab.cloud.instance_ha.notifications()
            if one.payload.get("instance_uuid") == server.uuid
        ]
        self.assertEqual(["finished"], states_of_notifications)


class TestWithMistral(TakenOver):
    steps = (step("mistral", workflow="vmmonitor_recover"),)

    def test_takeover_runs_one_workflow(self):
        server = self.server("node2")
        self.kill_the_caller(server)
        self.finished_once(server)
        (incident,) = self.deployment.incidents(server.uuid)
        executions = self.lab.cloud.workflow.get("/executions").json()["executions"]
        about = f"vmmonitor incident {incident.incident_id}"
        states_of = [one["state"] for one in executions if one["description"] == about]
        self.assertEqual(["SUCCESS"], states_of)
