# SPDX-License-Identifier: Apache-2.0
"""Runs the whole table on three hosts with an agent each, and an engine.

The shipped filter is in force, and so are the shipped policies. A fault is made twice: on a
guest of which an incident is only told, so that nothing disturbs what is seen, and on one that
is recovered.
"""

import contextlib
import dataclasses
import itertools
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import fixtures

from vmmonitor.model.event import INCIDENT, StoredEvent
from vmmonitor.rules import defaults
from vmmonitor.sources.libvirt.source import LIST_AGAIN
from vmmonitor.tests.catalogue import acts
from vmmonitor.tests.catalogue.acts import Act, Scene
from vmmonitor.tests.catalogue.rows import STARTED, Row
from vmmonitor.tests.catalogue.score import Opened, Result, wrong
from vmmonitor.tests.fixtures.deployment import Deployment
from vmmonitor.tests.fixtures.guest import Guest
from vmmonitor.tests.fixtures.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.processes import wait_until
from vmmonitor.tests.fixtures.services import RabbitMQ

#: Seconds in which what must come has come; the longest hold is 10 s.
PATIENCE_S = 90.0
#: Seconds in which what must not come would have come, holds included.
QUIET_S = 15.0
POLL_S = 0.5
TOLD = "told-"
#: Comes before the shipped policies.
ONLY_TOLD = """version: 1
policies:
- name: only-told
  match:
    instance.name: {"=~": "told-.*"}
  hold: 3600
  steps:
  - {driver: log, wait_for: nothing}
"""
#: All of them, since what one tells must not disturb what another does.
SOURCES = ("libvirt", "process", "qmp", "liveness")
#: Short times; but libvirt is silent for the 10 s in which it ends what hangs, and twice that long
#: between two rounds makes the measures worthless.
LIVENESS = {"interval": 6, "deadline": 10, "window": 20}


@dataclasses.dataclass(kw_only=True, slots=True)
class Play:
    """A row with its guests.

    :param before: number of events that the first guest had before the act.
    """

    row: Row
    scenes: list[Scene]
    before: int = 0
    error: str = ""


class Lab(fixtures.Fixture):
    """Three hosts and vmmonitor. The second is there to migrate to, the third to go down.

    :param say: called with a line about the progress.
    """

    def __init__(self, say: Callable[[str], None] = lambda _: None):
        super().__init__()
        self._say = say

    def _setUp(self) -> None:
        self.hosts = {f"node-{i}": self.useFixture(Hypervisor()) for i in (1, 2, 3)}
        directory = self.useFixture(fixtures.TempDir()).path
        database = f"sqlite:///{directory}/vmmonitor.db"
        self.deployment = self.useFixture(Deployment(self.useFixture(RabbitMQ()).url, database))
        with open(defaults.path(defaults.RECOVERY_POLICIES)) as shipped:
            policies = ONLY_TOLD + shipped.read().partition("\npolicies:\n")[2]
        options = {"recovery": {"policy_file": self.deployment.file("policies.yaml", policies)}}
        self.deployment.engine(options=options).start("An engine works on host")
        for name, host in self.hosts.items():
            options = {"sources": ",".join(SOURCES), "going_down_file": acts.going_down(host)}
            agent = self.deployment.agent(host, name, {"agent": options, "liveness": LIVENESS})
            agent.start()
            for source in SOURCES:
                agent.wait_for(f"Source {source} sees its host")
        self._listed_at = time.monotonic() + max(LIST_AGAIN) + QUIET_S / 10

    def run(self, rows: Sequence[Row]) -> dict[str, Result]:
        """Play all rows side by side; returns the results by the rows' names."""
        plays = [Play(row=row, scenes=self._scenes(row)) for row in rows]
        self._plays = {play.row.name: play for play in plays}
        self._say(f"{len(rows)} scenarios: the guests run")
        for play in plays:
            self._settle(play)
        # A listing that sees a fault first tells it by another name.
        time.sleep(max(0, self._listed_at - time.monotonic()))
        for play in plays:
            self._do(play, play.row.act)
        self._say("everything is done to them")
        for play in plays:
            self._cure(play)
        deadline = time.monotonic() + PATIENCE_S
        left = plays
        while time.monotonic() < deadline and left:
            time.sleep(POLL_S)
            left = [play for play in left if not self._is_over(play)]
        self._say("what must come has come")
        time.sleep(QUIET_S)
        return {play.row.name: self._result(play) for play in plays}

    # -- the play ------------------------------------------------------------------------------
    def _scenes(self, row: Row) -> list[Scene]:
        names = (TOLD, "recovered-") if row.cause else ("planned-",)
        return [self._scene(row, f"{name}{uuid.uuid4().hex[:8]}") for name in names]

    def _scene(self, row: Row, name: str) -> Scene:
        here, there = self.hosts[row.on], self.hosts["node-2"]
        disk, disks = None, []
        if row.disk:
            disk, make = row.disk(here)
            self.useFixture(disk)
            disks = [make()]
        guest = self.useFixture(Guest(here, name, disks=disks, **row.guest))
        return Scene(guest, there, disk)

    def _settle(self, play: Play) -> None:
        """Wait until the start of the guests is stored, with all that comes before it."""
        for scene in play.scenes:
            self._wait(lambda scene=scene: STARTED in self.deployment.causes(scene.guest.uuid))
        play.before = len(self.deployment.events(play.scenes[0].guest.uuid))

    def _wait(self, true: Callable[[], Any]) -> None:
        """Wait; what does not come is missing in the result, which says it better."""
        with contextlib.suppress(TimeoutError):
            wait_until(true, PATIENCE_S, "")

    def _do(self, play: Play, act: Act) -> None:
        try:
            for scene in play.scenes:
                act(scene)
        except Exception:
            play.error += traceback.format_exc()

    def _cure(self, play: Play) -> None:
        if not play.row.cure or play.error:
            return
        for scene in play.scenes:
            self._wait(lambda scene=scene: self.deployment.incidents(scene.guest.uuid))
        self._do(play, play.row.cure)

    # -- what came of it -----------------------------------------------------------------------
    def _is_over(self, play: Play) -> bool:
        return not wrong(play.row, self._result(play))

    def _result(self, play: Play) -> Result:
        first = self.deployment.events(play.scenes[0].guest.uuid)[play.before :]
        others = [
            one.event.cause
            for one in first
            if _counts(one) and one.event.cause not in play.row.perhaps
        ]
        return Result(
            sees=_by_libvirt(first, play.row.on, play.row),
            target_sees=_by_libvirt(first, "node-2", play.row),
            besides=tuple(sorted(others)),
            incidents=tuple(self._incidents(scene.guest) for scene in play.scenes),
            error=play.error,
        )

    def _incidents(self, guest: Guest) -> tuple[Opened, ...]:
        stored = self.deployment.incidents(guest.uuid)
        return tuple((one.cause, one.host, one.state) for one in stored)

    def explain(self, name: str) -> str:
        """Return what is stored of a row's guests, a line each, in the order of time."""
        lines = []
        for scene in self._plays[name].scenes:
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
    """Whether an event of a source beside libvirt's has its place in the table: of liveness only
    what is a failure, since how soon it suspects something is a matter of time."""
    if one.event.source == "liveness":
        return one.decision.action == INCIDENT
    return one.event.source in SOURCES and one.event.source != "libvirt"


def _by_libvirt(stored: Sequence[StoredEvent], host: str, row: Row) -> tuple[str, ...]:
    """Return what libvirt told on a host, repeats folded."""
    told = [
        one.event.cause
        for one in stored
        if (one.event.source, one.event.host) == ("libvirt", host)
        and one.event.cause not in row.perhaps
    ]
    # libvirt tells one reset two or three times, and other events may come in between.
    once = [cause for i, cause in enumerate(told) if cause != "reboot" or cause not in told[:i]]
    return tuple(cause for cause, _ in itertools.groupby(once))
