# SPDX-License-Identifier: Apache-2.0
"""The incident of a host whose name two machines use."""

from vmmonitor.db import agents
from vmmonitor.engine.upkeep.agent_health import AgentHealth
from vmmonitor.model.states import IncidentState
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.engine import base


class ContendedHostTest(base.EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.health = AgentHealth(self.conf, self.database, lambda: self.clock)

    def report(self, machine: str) -> None:
        self.later(5)
        said = samples.report(machine_id=machine, boot_id="b", sent_at=self.clock)
        self.database.run(agents.store_report, said, self.clock)
        self.health.check()

    def test_two_machines_with_one_name_open_an_incident_until_one_is_gone(self):
        for machine in ("m1", "m2", "m1"):
            self.assertEqual([], self.incidents())
            self.report(machine)
        incident = self.incident()
        self.assertEqual(
            ("compute-1", "host.conflict", IncidentState.UNHANDLED),
            (incident.host, incident.cause, incident.state),
        )
        text = "two machines report as this host: machine m1, boot b and machine m2, boot b"
        self.assertEqual(text, incident.reason)
        self.report("m2")
        self.assertEqual(incident.updated_at, self.incident().updated_at)
        for _ in range(13):
            self.report("m2")
        self.assertEqual(IncidentState.RESOLVED, self.incident().state)
        self.assertRegex(self.incident().reason, "^only one machine reports as this host, after")

    def test_restart_of_the_host_opens_no_incident(self):
        for machine in ("m1", "m2", "m2", "m2"):
            self.report(machine)
        self.assertEqual([], self.incidents())
