# SPDX-License-Identifier: Apache-2.0
"""Test that hosts without monitoring are reported, with real agents and engines."""

import json
import signal

from testtools import content

from vmmonitor.db import agents, incidents
from vmmonitor.db.page import Page
from vmmonitor.model.incident import Incident, IncidentKind
from vmmonitor.model.states import IncidentState
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.services import MariaDB, PostgreSQL
from vmmonitor.tests.fixtures.shared import shared
from vmmonitor.tests.live.base import WholeTest
from vmmonitor.tests.promises import shows

#: Seconds, all of them; an agent that is merely slow on a busy machine is not late.
SOON = {
    "agent": {"report_interval": 1},
    "housekeeping": {"interval": 0.5, "late_after": 5, "unwatched_after": 7},
}


class Unwatched:
    """Tests that run on every database."""

    server = MariaDB

    def setUp(self):
        super().setUp()
        self.deploy(connection=shared(self.server).create(), options=SOON)
        self.engines = [
            self.start(self.deployment.engine(name)) for name in ("engine-1", "engine-2")
        ]

    def of_hosts(self) -> list[Incident]:
        """Return the host incidents, oldest first."""
        wanted = Page(limit=99, filters={"kind": IncidentKind.HOST}, sort=[("opened_at", "asc")])
        with self.deployment.database.reader() as tx:
            return incidents.page(tx, wanted)

    def are(self, *expected: tuple[str, str]) -> None:
        """Wait until the host incidents have these causes and states, oldest first."""
        self.wait(
            lambda: [(one.cause, one.state) for one in self.of_hosts()] == list(expected),
            f"the incidents of hosts are not {expected}",
        )

    def explain(self) -> None:
        super().explain()
        self.addDetail("hosts", content.text_content("\n".join(map(str, self.of_hosts()))))

    def test_hung_and_killed_agents_become_late(self):
        agent = self.watched()
        agent.send(signal.SIGSTOP)
        self.are(("agent.late", IncidentState.UNHANDLED))
        agent.send(signal.SIGCONT)
        self.are(("agent.late", IncidentState.RESOLVED))
        agent.kill()
        self.are(("agent.late", IncidentState.RESOLVED), ("agent.late", IncidentState.UNHANDLED))
        self.quiet()
        self.watched(agent)
        self.are(*[("agent.late", IncidentState.RESOLVED)] * 2)
        for one in self.of_hosts():
            lines = [step.message for step in self.deployment.steps(one.incident_id)]
            self.assertRegex(lines[0], r"^not monitored for \d+ s: the agent is late: does not")
            self.assertEqual(f"pending -> unhandled: {lines[0].partition(' s: ')[2]}", lines[1])
            self.assertRegex(lines[-1], "^unhandled -> resolved: the host is monitored again")
            # A starting agent may first report that it is not connected.
            self.assertLessEqual(len(lines), 4)
            self.assertEqual([], self.deployment.recoveries(one.incident_id))


@shows("P8")
class TestOnMariaDB(Unwatched, WholeTest):
    def test_agent_without_libvirt_becomes_blind(self):
        hypervisor = self.useFixture(Hypervisor())
        agent = self.watched(self.deployment.agent(hypervisor))
        hypervisor.kill()
        self.are(("agent.blind", IncidentState.UNHANDLED))
        url = self.deployment.serve_api()
        self.check_client_output(url)
        agent.kill()
        self.wait(lambda: "is late" in self.of_hosts()[0].reason, "not late")
        hypervisor.start()
        self.watched(agent)
        self.are(("agent.blind", IncidentState.RESOLVED))
        (one,) = self.of_hosts()
        shown = self.deployment.command(url, "incident", "show", one.incident_id)
        for line in (
            "since the host was last monitored",
            "the agent is blind: source libvirt",
            "the agent is late: does not report any longer; was blind",
            "unhandled -> resolved: the host is monitored again",
        ):
            self.assertIn(line, " ".join(shown.split()))

    def check_client_output(self, url):
        words = ("incident", "list", "--open", "--kind", "host", "-f", "json")
        (incident,) = json.loads(self.deployment.command(url, *words))
        self.assertEqual(("node-1", "agent.blind"), (incident["host"], incident["cause"]))
        self.assertEqual(("", "critical"), (incident["instance_uuid"], incident["severity"]))
        (agent,) = json.loads(self.deployment.command(url, "agent", "list", "-f", "json"))
        self.assertEqual("blind", agent["state"])
        self.assertIsNotNone(agent["unwatched_since"])
        # Both clocks are the clock of this machine.
        self.assertLess(abs(agent["clock_offset_ms"]), 5000)
        self.assertIn("blind", self.deployment.command(url, "agent", "list"))

    def test_agent_stopped_on_purpose_opens_no_incident(self):
        agent = self.watched()
        other = self.watched(self.deployment.agent(self.hypervisor(), "node-2"))
        self.assertEqual(0, agent.stop())
        other.kill()
        self.are(("agent.late", IncidentState.UNHANDLED))
        self.assertEqual(["node-2"], [one.host for one in self.of_hosts()])
        self.assertEqual(("stopped", "stopped on purpose"), self.deployment.agent_state())

    def test_engine_outage_marks_no_agent_late(self):
        self.watched()
        for engine in self.engines:
            engine.kill()
        self.wait(self.is_long_unheard, "the agent's last report is not old")
        for engine in self.engines:
            self.start(engine)
        self.wait(lambda: not self.is_long_unheard(), "the agent does not report")
        self.quiet()
        self.assertEqual([], self.of_hosts())
        self.assertEqual("up", self.deployment.agent_state()[0])

    def is_long_unheard(self):
        with self.deployment.database.reader() as tx:
            seen_at = agents.get(tx, "node-1").seen_at
        return self.deployment.database.now() - seen_at > 10_000_000


@shows("P8")
class TestOnPostgreSQL(Unwatched, WholeTest):
    server = PostgreSQL
