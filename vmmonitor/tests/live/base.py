# SPDX-License-Identifier: Apache-2.0
"""Common parts of the tests of the whole service."""

import contextlib
import time

import testtools
from testtools import content

from vmmonitor.model import errors
from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.testing.guest import Guest
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.fixtures.deployment import Deployment, Program
from vmmonitor.tests.fixtures.services import MariaDB, RabbitMQ
from vmmonitor.tests.fixtures.shared import shared

#: Time limit for expected results, in seconds, also on a busy machine.
PATIENCE_S = 60.0
#: Time for unexpected results to appear, in seconds.
QUIET_S = 1.0
AGENT_WATCHES = r"Agent started on host"
ENGINE_WORKS = "Engine started on host"
#: Causes of a killed guest: in libvirt's event, or in a listing at the same moment.
DIED = ("lifecycle.stopped/failed", "lifecycle.stopped/crashed")
DIED_LOGGED = r"lifecycle.stopped/(failed|crashed) of instance"
#: Each failure is logged; no instance is recovered.
LOG_ONLY = """
version: 1
policies:
- name: log-only
  match: {}
  hold: 0
  steps:
  - {driver: log, wait_for: nothing}
"""
#: A guest that is down is started at once, with many attempts.
RESTART = """
version: 1
policies:
- name: restart
  match: {}
  hold: 0
  steps:
  - driver: libvirt
    attempts: 200
    timeout: 5
    wait_for: running
    wait: 20
    backoff: {initial: 0.5, factor: 1, max: 1, jitter: 0.1}
"""


class WholeTest(testtools.TestCase):
    """Run vmmonitor on a real hypervisor; a failure shows every program's log."""

    deployment: Deployment

    def setUp(self) -> None:
        super().setUp()
        #: The guests whose timelines a failure shows.
        self.created: list[Guest] = []

    def hypervisor(self) -> Hypervisor:
        """Return the monitored hypervisor."""
        return shared(Hypervisor)

    def deploy(
        self,
        bus: str | None = None,
        connection: str | None = None,
        options=None,
    ) -> Deployment:
        """Prepare a deployment; by default on the shared RabbitMQ and MariaDB."""
        self.deployment = self.useFixture(
            Deployment(
                bus or shared(RabbitMQ).url, connection or shared(MariaDB).create(), options
            )
        )
        self.addOnException(lambda _: self.explain())
        return self.deployment

    def explain(self) -> None:
        """Attach the logs and timelines to a failed test."""
        self.deployment.attach(self)
        with contextlib.suppress(errors.Retriable):
            lines = [
                f"{step.at} {step.incident_id[:8]} {step.kind}: {step.message}"
                for guest in self.created
                for incident in self.deployment.incidents(guest.uuid)
                for step in self.deployment.steps(incident.incident_id)
            ]
            self.addDetail("timelines", content.text_content("\n".join(lines)))

    def policies(self, text: str) -> dict:
        """Return the options of an engine with this policy file."""
        return {"recovery": {"policy_file": self.deployment.file("policies.yaml", text)}}

    def start(self, program: Program) -> Program:
        """Start an agent or engine; return it when it is ready."""
        program.start(ENGINE_WORKS if "engine" in program.name else AGENT_WATCHES)
        return program

    def watched(self, program: Program | None = None, **options) -> Program:
        """Start an agent; return it when it is connected to its host."""
        program = program or self.deployment.agent(self.hypervisor(), options=options)
        before = len(program.log())
        program.start("Source libvirt is connected")
        program.wait_for(AGENT_WATCHES, before)
        return program

    def guest(self, **kwargs) -> Guest:
        guest = self.useFixture(Guest(self.hypervisor(), **kwargs))
        self.created.append(guest)
        return guest

    def guests(self, number: int, **kwargs) -> list[Guest]:
        return [self.guest(**kwargs) for _ in range(number)]

    def wait(self, true, what, timeout: float = PATIENCE_S) -> None:
        """Wait until ``true()`` returns a true value; ignore database errors."""

        def look():
            try:
                return true()
            except errors.Retriable:
                return False

        wait_until(look, timeout, what)

    def stops(self, guest: Guest) -> list[str]:
        """Return the causes of all stored stops of a guest."""
        stops = self.deployment.events(guest.uuid, "lifecycle.stopped")
        return [stored.event.cause for stored in stops]

    def states(self, guest: Guest) -> list[str]:
        """Return the states of a guest's incidents, oldest first."""
        return [incident.state for incident in self.deployment.incidents(guest.uuid)]

    def recovered(self, guest: Guest) -> None:
        """Wait until the guest answers and its only incident is resolved by one recovery.

        An attempt whose answer was lost with libvirtd counts as failed; the next one is cancelled
        when the instance is seen running.
        """
        self.wait(
            lambda: self.states(guest) == [IncidentState.RESOLVED], f"{guest.name}: not resolved"
        )
        self.assertTrue(guest.ping(PATIENCE_S), "the guest does not answer")
        (incident,) = self.deployment.incidents(guest.uuid)
        words = [recovery.state for recovery in self.deployment.recoveries(incident.incident_id)]
        *earlier, last = words
        self.assertIn(last, (RecoveryState.SUCCEEDED, RecoveryState.CANCELLED))
        self.assertEqual({RecoveryState.FAILED}, {RecoveryState.FAILED, *earlier})
        self.assertTrue(last == RecoveryState.SUCCEEDED or earlier, "no driver was called")

    def quiet(self) -> None:
        """Wait until unexpected results would have appeared."""
        time.sleep(QUIET_S)
