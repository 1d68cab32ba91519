# SPDX-License-Identifier: Apache-2.0
"""Run the scenarios on four hosts with an agent each, and an engine.

The shipped filter and the shipped policies are in force. Each fault is caused twice: on a guest
that is only observed, so that no recovery adds events, and on a guest that is recovered.
"""

import contextlib
import dataclasses
import itertools
import os
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import fixtures

from vmmonitor.model.event import INCIDENT, StoredEvent
from vmmonitor.rules import defaults
from vmmonitor.sources.libvirt.source import RESYNC_DELAYS
from vmmonitor.testing.guest import Guest
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.catalogue import acts
from vmmonitor.tests.catalogue.acts import Act, Scene
from vmmonitor.tests.catalogue.rows import STARTED, Row
from vmmonitor.tests.catalogue.score import Opened, Result, find_differences
from vmmonitor.tests.fixtures.deployment import Deployment, Program
from vmmonitor.tests.fixtures.services import RabbitMQ

#: Time limit for the expected results, in seconds; the longest hold is 10 s.
RESULT_TIMEOUT_S = 90.0
#: Time for unexpected results to appear, in seconds, including holds.
QUIET_S = 15.0
POLL_S = 0.5
OBSERVED = "observed-"
#: The host whose agent is connected to libvirt late.
LATE_HOST = "node-4"
#: Precedes the shipped policies.
OBSERVE_POLICY = """version: 1
policies:
- name: observe-only
  match:
    instance.name: {"=~": "observed-.*"}
  hold: 3600
  steps:
  - {driver: log, wait_for: nothing}
"""
#: Every source of a host: their events must not affect each other.
SOURCES = ("libvirt", "process", "qmp", "liveness")
#: Short times. libvirt needs 10 s to destroy a hung domain and sends no events during that time. A
#: round that takes twice its interval discards the measurements.
LIVENESS = {"interval": 6, "deadline": 10, "window": 20}


@dataclasses.dataclass(kw_only=True, slots=True)
class Scenario:
    """A row with its guests.

    :param before: number of events of the first guest before the act.
    """

    row: Row
    scenes: list[Scene]
    before: int = 0
    error: str = ""


class Lab(fixtures.Fixture):
    """Four hosts with vmmonitor: the second is a migration target, and the third one reboots.

    The agent of the fourth is connected to libvirt by a scenario.

    :param report_progress: called with one line of text.
    """

    def __init__(self, report_progress: Callable[[str], None] = lambda _: None):
        super().__init__()
        self._report_progress = report_progress

    def _setUp(self) -> None:
        self.hosts = {f"node-{i}": self.useFixture(Hypervisor()) for i in (1, 2, 3, 4)}
        self._agents: dict[str, Program] = {}
        directory = self.useFixture(fixtures.TempDir()).path
        database = f"sqlite:///{directory}/vmmonitor.db"
        self.deployment = self.useFixture(Deployment(self.useFixture(RabbitMQ()).url, database))
        with open(defaults.path(defaults.RECOVERY_POLICIES)) as shipped:
            policies = OBSERVE_POLICY + shipped.read().partition("\npolicies:\n")[2]
        options = {"recovery": {"policy_file": self.deployment.file("policies.yaml", policies)}}
        self.deployment.engine(options=options).start("Engine started on host")
        for name, host in self.hosts.items():
            options = {"sources": ",".join(SOURCES), "going_down_file": acts.shutdown_flag(host)}
            own = {"agent": options, "liveness": LIVENESS, "libvirt": {"uri": self._uri(name)}}
            self._agents[name] = self.deployment.agent(host, name, own)
            self._agents[name].start("Agent started on host")
            if name != LATE_HOST:
                self._wait_for_agent(name)
        self._listed_at = time.monotonic() + max(RESYNC_DELAYS) + QUIET_S / 10

    def _uri(self, host: str) -> str:
        """Return the URI of a host's libvirt for its agent."""
        if host != LATE_HOST:
            return self.hosts[host].uri
        # A socket that does not exist yet: the start of an agent takes too long for a scenario.
        return f"qemu+unix:///session?socket={self.hosts[host].socket('late')}"

    def _connect_late_agent(self) -> None:
        libvirtd = self.hosts[LATE_HOST].socket("libvirt")
        os.symlink(libvirtd, self.hosts[LATE_HOST].socket("late"))
        self._wait_for_agent(LATE_HOST)

    def _wait_for_agent(self, host: str) -> None:
        for source in SOURCES:
            self._agents[host].wait_for(f"Source {source} is connected")

    def run(self, rows: Sequence[Row]) -> dict[str, Result]:
        """Run all rows at the same time; return row name -> result."""
        scenarios = [Scenario(row=row, scenes=self._scenes(row)) for row in rows]
        self._scenarios = {scenario.row.name: scenario for scenario in scenarios}
        self._report_progress(f"{len(rows)} scenarios: the guests run")
        for scenario in scenarios:
            self._settle(scenario)
        # A fault that a listing finds first would be reported as a different event.
        time.sleep(max(0, self._listed_at - time.monotonic()))
        for scenario in scenarios:
            self._do(scenario, scenario.row.act)
        self._report_progress("all faults and operations are done")
        for scenario in scenarios:
            self._cure(scenario)
        deadline = time.monotonic() + RESULT_TIMEOUT_S
        left = scenarios
        while time.monotonic() < deadline and left:
            time.sleep(POLL_S)
            left = [scenario for scenario in left if not self._is_over(scenario)]
        self._report_progress("all expected results arrived, or the time limit passed")
        time.sleep(QUIET_S)
        return {scenario.row.name: self._result(scenario) for scenario in scenarios}

    # -- running -----------------------------------------------------------------------------
    def _scenes(self, row: Row) -> list[Scene]:
        names = (OBSERVED, "recovered-") if row.cause else ("planned-",)
        return [self._scene(row, f"{name}{uuid.uuid4().hex[:8]}") for name in names]

    def _scene(self, row: Row, name: str) -> Scene:
        here, there = self.hosts[row.on], self.hosts[row.target]
        disk, disks = None, []
        if row.disk:
            disk, make = row.disk(here)
            self.useFixture(disk)
            disks = [make()]
        guest = self.useFixture(Guest(here, name, disks=disks, **row.guest))
        return Scene(guest, there, self._connect_late_agent, disk)

    def _settle(self, scenario: Scenario) -> None:
        """Wait until the start of the guests, and all earlier events, are stored."""
        for scene in scenario.scenes:
            self._wait(lambda scene=scene: STARTED in self.deployment.causes(scene.guest.uuid))
        scenario.before = len(self.deployment.events(scenario.scenes[0].guest.uuid))

    def _wait(self, true: Callable[[], Any]) -> None:
        """Wait without an error: the result shows missing events."""
        with contextlib.suppress(TimeoutError):
            wait_until(true, RESULT_TIMEOUT_S, "")

    def _do(self, scenario: Scenario, act: Act) -> None:
        try:
            for scene in scenario.scenes:
                act(scene)
        except Exception:
            scenario.error += traceback.format_exc()

    def _cure(self, scenario: Scenario) -> None:
        if not scenario.row.cure or scenario.error:
            return
        for scene in scenario.scenes:
            self._wait(lambda scene=scene: self.deployment.incidents(scene.guest.uuid))
        self._do(scenario, scenario.row.cure)

    # -- results -------------------------------------------------------------------------
    def _is_over(self, scenario: Scenario) -> bool:
        return not find_differences(scenario.row, self._result(scenario))

    def _result(self, scenario: Scenario) -> Result:
        first = self.deployment.events(scenario.scenes[0].guest.uuid)[scenario.before :]
        others = [
            one.event.cause
            for one in first
            if _counts(one) and one.event.cause not in scenario.row.optional_events
        ]
        return Result(
            events=_by_libvirt(first, scenario.row.on, scenario.row),
            target_events=_by_libvirt(first, scenario.row.target, scenario.row),
            other_events=tuple(sorted(others)),
            incidents=tuple(self._incidents(scene.guest) for scene in scenario.scenes),
            error=scenario.error,
        )

    def _incidents(self, guest: Guest) -> tuple[Opened, ...]:
        stored = self.deployment.incidents(guest.uuid)
        return tuple((one.cause, one.host, one.state) for one in stored)

    def explain(self, name: str) -> str:
        """Return the stored events and timeline entries of a row's guests, in order of time."""
        lines = []
        for scene in self._scenarios[name].scenes:
            guest = scene.guest
            lines += [
                f"{one.event.occurred_at} {guest.name} {one.event.host} {one.event.source}:"
                f" {one.event.cause} {dict(one.event.attributes)} -> {one.incident_id}"
                for one in self.deployment.events(guest.uuid)
            ]
            lines += [
                f"{step.at} {guest.name} {step.incident_id} {step.kind}: {step.message}"
                for incident in self.deployment.incidents(guest.uuid)
                for step in self.deployment.steps(incident.incident_id)
            ]
        return "\n".join(sorted(lines))


def _counts(one: StoredEvent) -> bool:
    """Return whether the table lists an event of a source other than libvirt.

    Suspicions of the liveness source are left out, because they depend on the timing. So do the
    copies of a new owner's events, which were stored before the departure from the old owner.
    """
    if "repeats" in one.event.attributes:
        return False
    if one.event.source == "liveness":
        return one.decision.action == INCIDENT
    return one.event.source in SOURCES and one.event.source != "libvirt"


def _by_libvirt(stored: Sequence[StoredEvent], host: str, row: Row) -> tuple[str, ...]:
    """Return the causes that libvirt reported on a host, without repetitions."""
    causes = [
        one.event.cause
        for one in stored
        if (one.event.source, one.event.host) == ("libvirt", host)
        and one.event.cause not in row.optional_events
    ]
    # libvirt reports one reset up to three times, with other events in between.
    once = [
        cause for i, cause in enumerate(causes) if cause != "reboot" or cause not in causes[:i]
    ]
    return tuple(cause for cause, _ in itertools.groupby(once))
