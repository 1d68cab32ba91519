# SPDX-License-Identifier: Apache-2.0
"""Common parts of the tests on the lab."""

import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any

import testtools
from testtools import content

from vmmonitor.model import errors
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import IncidentState
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.fixtures.deployment import Deployment, Options, Program, merged
from vmmonitor.tests.fixtures.openstack_lab import OpenStackLab, Server
from vmmonitor.tests.fixtures.services import MariaDB, RabbitMQ
from vmmonitor.tests.fixtures.shared import shared

#: Time limit for expected results, in seconds, also on a busy machine.
PATIENCE_S = 180.0
#: Time for unexpected results to appear, in seconds.
QUIET_S = 2.0
AGENT_SEES = "Source libvirt is connected"
ENGINE_WORKS = "Engine started on host"
DIED = "lifecycle.stopped"

#: Like the shipped policies: a crash is recovered at once, other failures after a short hold.
POLICIES = """
version: 1
policies:
- name: crashed
  match:
    type: lifecycle.stopped
    detail: {{in: [failed, crashed]}}
  hold: 0
  steps:
{steps}
- name: other
  match: {{}}
  hold: 3
  steps:
{steps}
"""
STEP = """
  - driver: {driver}
    attempts: {attempts}
    timeout: 120
    wait_for: {wait_for}
    wait: 60
    backoff: {{initial: 1, factor: 1, max: 1, jitter: 0}}
    options: {options}
"""


def step(driver: str, wait_for: str = "active", attempts: int = 3, **options: str) -> str:
    """Return a step of a policy."""
    text = json.dumps(options)
    return STEP.format(driver=driver, wait_for=wait_for, attempts=attempts, options=text)


class OpenStackTest(testtools.TestCase):
    """Run an engine, and an agent for each host of the lab, for all tests of a class."""

    #: The steps of the recovery policies.
    steps: tuple[str, ...] = (step("libvirt", wait_for="running"),)
    #: Options of all programs.
    options: Options = {}

    lab: OpenStackLab
    deployment: Deployment
    engine: Program

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.lab = shared(OpenStackLab)
        options = merged(
            {
                "engine": {"expectation": "nova"},
                "nova": cls.lab.options(),
                # The account of [nova].
                "masakari": {"auth_section": "nova", "poll_interval": 0.5},
                "mistral": {"auth_section": "nova", "poll_interval": 0.5},
                "recovery": {"lease": 5, "verdict_retry_interval": 1},
            },
            cls.options,
        )
        bus, database = shared(RabbitMQ).url, shared(MariaDB).create()
        cls.deployment = Deployment(bus, database, options)
        cls.deployment.setUp()
        cls.addClassCleanup(cls.deployment.cleanUp)
        try:
            cls.engine = cls.new_engine("engine-1")
            for host in cls.lab.hosts.values():
                agent = cls.deployment.agent(host, host.name)
                agent.start(AGENT_SEES)
        except TimeoutError as error:
            for program in cls.deployment.programs:
                error.add_note(f"{program.name}: {program.output()}{program.log()[-3000:]}")
            raise

    @classmethod
    def new_engine(cls, host: str) -> Program:
        """Start an engine; return it when it is ready."""
        policies = cls.deployment.file("policies.yaml", POLICIES.format(steps="".join(cls.steps)))
        engine = cls.deployment.engine(host, {"recovery": {"policy_file": policies}})
        engine.start(ENGINE_WORKS)
        return engine

    def setUp(self) -> None:
        super().setUp()
        self._servers: list[Server] = []
        self.addOnException(lambda _: self.explain())

    def server(self, host: str = "node1", metadata: Mapping[str, str] | None = None) -> Server:
        """Boot a server, which is deleted after the test."""
        server = self.useFixture(Server(self.lab, host, dict(metadata or {})))
        self._servers.append(server)
        self.wait(lambda: self.deployment.events(server.uuid), "its start is not stored")
        return server

    def wait(self, true: Any, what: str, timeout: float = PATIENCE_S) -> None:
        """Wait until ``true()`` returns a true value."""

        def look() -> Any:
            with contextlib.suppress(errors.Retriable):
                return true()

        wait_until(look, timeout, what)

    # -- stored objects ------------------------------------------------------------------------
    def recoveries(self, server: Server) -> list[Recovery]:
        """Return all recoveries of a server, oldest first."""
        return [
            recovery
            for incident in self.deployment.incidents(server.uuid)
            for recovery in self.deployment.recoveries(incident.incident_id)
        ]

    def states(self, server: Server) -> list[str]:
        """Return the states of a server's incidents, oldest first."""
        return [incident.state for incident in self.deployment.incidents(server.uuid)]

    def wait_for_cause(self, server: Server, cause: str) -> None:
        """Wait until an event of a server is stored."""
        causes = self.deployment.causes
        self.wait(lambda: cause in causes(server.uuid), f"{cause} is not stored")

    def questions(self, server: Server) -> int:
        """Return the number of failed queries to nova about a server."""
        return sum(
            "the request to nova failed" in step.message
            for incident in self.deployment.incidents(server.uuid)
            for step in self.deployment.steps(incident.incident_id)
        )

    # -- expected results ----------------------------------------------------------------------
    def left_alone(self, server: Server) -> None:
        """Check that no recovery of a server was made or is due."""
        time.sleep(QUIET_S)
        closed = {IncidentState.RESOLVED, IncidentState.IGNORED}
        self.wait(lambda: set(self.states(server)) <= closed, "an incident stays open")
        self.assertEqual([], self.recoveries(server))

    def recovered(self, server: Server, times: int = 1, host: str = "") -> list[Recovery]:
        """Wait until a server runs again; return its recoveries.

        :param times: number of its incidents.
        :param host: expected host; empty for any.
        """
        over = [IncidentState.RESOLVED] * times
        self.wait(lambda: self.states(server) == over, f"{server.name} is not recovered")
        active = server.becomes("ACTIVE")
        self.assertTrue(server.ping(PATIENCE_S), "its guest does not answer")
        if host:
            self.assertEqual(host, active.compute_host)
        return self.recoveries(server)

    def explain(self) -> None:
        """Attach the logs and timelines to a failed test."""
        self.deployment.attach(self)
        lines = []
        for server in self._servers:
            with contextlib.suppress(errors.Retriable):
                lines += self._story(server)
        self.addDetail("timelines", content.text_content("\n".join(sorted(lines))))

    def _story(self, server: Server) -> list[str]:
        lines = [
            f"{one.event.occurred_at} {server.name} {one.event.host} {one.event.cause}"
            for one in self.deployment.events(server.uuid)
        ]
        for incident in self.deployment.incidents(server.uuid):
            lines += [
                f"{step.at} {server.name} {incident.incident_id[:8]} {step.kind}: {step.message}"
                for step in self.deployment.steps(incident.incident_id)
            ]
        return lines
