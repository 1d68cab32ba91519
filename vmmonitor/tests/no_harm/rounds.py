# SPDX-License-Identifier: Apache-2.0
"""Execute rounds, and collect the harm that comes of them."""

import collections
import concurrent.futures
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence

import fixtures
import libvirt

from vmmonitor.model import errors
from vmmonitor.model.states import IncidentState
from vmmonitor.testing.copies import counter
from vmmonitor.testing.guest import Guest
from vmmonitor.tests.fixtures.network_disks import NetworkDisks
from vmmonitor.tests.no_harm import checks, parts, plan
from vmmonitor.tests.no_harm.owner import Journal, Owned, Owner, Wish

GUESTS = 6
#: Time limit for recoveries after all parts work again, in seconds.
SETTLE_S = 90.0
#: Time for unexpected actions to appear, in seconds.
QUIET_S = 0.5
POLL_S = 0.2


class Rounds(fixtures.Fixture):
    """Six guests on two hosts, every second one persistent, and the rounds that they live through.

    Attributes: ``figures``, how often each thing happened; ``journal`` of the last round.

    :param seed: seed of the rounds.
    :param longest: longest stall, in seconds.
    """

    def __init__(self, seed: int, longest: float):
        super().__init__()
        self.seed = seed
        self._longest = longest
        self.figures: collections.Counter[str] = collections.Counter()
        self.journal = Journal()
        self._began_at = 0.0

    def _setUp(self) -> None:
        self.parts = self.useFixture(parts.Parts())
        self.deployment = self.parts.deployment
        disks = self.useFixture(NetworkDisks())
        owned = []
        for number in range(GUESTS):
            host, persistent = number // (GUESTS // 2), bool(number % 2)
            made = Guest(self.parts.hosts[host], boot=disks.create(), defined=persistent)
            owned.append(Owned(self.useFixture(made), persistent, host))
        self.owner = Owner(self.parts.hosts, owned)
        for one in owned:
            self._wait(lambda one=one: self.deployment.events(one.uuid), "a start is not stored")

    def run(self, number: int) -> list[str]:
        """Execute a round; return the harm that it did."""
        self.journal = Journal()
        self._began_at = time.time()
        actions = plan.draw_round(self.seed, number, GUESTS, self._longest)
        with concurrent.futures.ThreadPoolExecutor(len(actions)) as pool:
            began = time.monotonic()
            done = [pool.submit(self._act, action, began) for action in actions]
        for one in done:
            one.result()
        harm = [*self._settle(actions)]
        time.sleep(QUIET_S)
        harm += [*self._check(actions)]
        self.parts.wait_ready()
        self._repair()
        return harm

    def describe(self) -> str:
        """Return the journal of the last round, and the history of each guest during it."""
        parts_of_report = [self.journal.read()]
        for one in self.owner.owned:
            with contextlib.suppress(errors.Retriable):
                parts_of_report.append(checks.describe(one, self.deployment, self._began_at))
        return "\n\n".join(parts_of_report)

    # -- actions -------------------------------------------------------------------------------
    def _act(self, action: plan.Action, began: float) -> None:
        time.sleep(max(0.0, began + action.at - time.monotonic()))
        if action.kind in ("stall", "kill"):
            self.journal.write(f"{action}: begins")
            parts.stay(self.parts.find(action.target), action.kind, action.duration)
            self.journal.write(f"{action}: over")
        elif action.kind == "fail":
            self._kill_guest(int(action.target))
        else:
            self.owner.operate(int(action.target), action.kind, self.journal)
        self.figures[f"{action.kind} {action.target}" if action.duration else action.kind] += 1

    def _kill_guest(self, number: int) -> None:
        """Kill the newest process of a guest: the target of a migration, if there is one."""
        one = self.owner.owned[number]
        for process in reversed(counter().report(one.uuid).processes):
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(process["pid"])
                try:
                    with open(f"/proc/{process['pid']}/cmdline") as command:
                        if one.uuid in command.read():
                            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                            pid = process["pid"]
                            self.journal.write(f"kill guest {number} ({one.guest.name}) {pid}")
                            return
                finally:
                    os.close(pidfd)
        self.journal.write(f"kill guest {number} ({one.guest.name}): it has no process")

    # -- the end of a round --------------------------------------------------------------------
    def _settle(self, actions: Sequence[plan.Action]) -> list[str]:
        """Wait until each guest runs, is stopped, or has an incident that says why it is down."""
        harm = []
        if (ended := self.parts.restart_ended()) and not _disturbs(actions, "mariadb"):
            harm.append(f"ended by themselves: {', '.join(ended)}")
        for one in self.owner.owned:
            try:
                self._wait(lambda one=one: self._is_settled(one), "not settled")
            except TimeoutError:
                harm.append(self._find_unsettled(one))
        return harm

    def _is_settled(self, one: Owned) -> bool:
        incidents = self.deployment.incidents(one.uuid)
        if checks.find_active(incidents):
            return False
        if one.wish is not Wish.RUNNING or self.owner.runs(one):
            return True
        return bool(checks.explain(incidents, self._began_at)) or self._is_paused(one)

    def _is_paused(self, one: Owned) -> bool:
        """Return whether libvirt left the guest paused after a migration that failed."""
        return "paused" in self.owner.states(one)

    def _find_unsettled(self, one: Owned) -> str:
        found = [f"{one.state}: {one.reason}" for one in self.deployment.incidents(one.uuid)][-1:]
        return (
            f"{one.guest.name}: a failure is lost, or its recovery does not end: libvirt "
            f"{self.owner.states(one)}, wanted {one.wish.value}, last incident {found}"
        )

    def _check(self, actions: Sequence[plan.Action]) -> list[str]:
        harm = []
        parts_of_decision = ("engine-1", "engine-2", "mariadb", "rabbitmq")
        stalled = sum(action.duration for action in actions if action.target in parts_of_decision)
        for one in self.owner.owned:
            report = counter().report(one.uuid)
            since = self._began_at
            harm += checks.find_copies(one, report, since)
            harm += checks.find_starts_after_stops(one, report, since)
            harm += checks.find_calls_after_stops(one, self.deployment, since, stalled)
        return harm

    def _repair(self) -> None:
        """Let the owner start each guest that is down but not stopped by the owner."""
        for one in self.owner.owned:
            if one.wish is Wish.STOPPED and not self.owner.runs(one):
                self.figures["stopped guests at the end of a round"] += 1
                continue
            incidents = self.deployment.incidents(one.uuid)
            if self.owner.runs(one):
                resolved = [i for i in incidents if i.state is IncidentState.RESOLVED]
                self.figures["incidents resolved"] += sum(
                    (i.closed_at or 0) > self._began_at * checks.MICROSECONDS for i in resolved
                )
            elif one.wish is Wish.RUNNING:
                why = checks.explain(incidents, self._began_at) or "paused by a failed migration"
                self.figures[f"down: {why.partition(':')[0]}"] += 1
                self.journal.write(f"{one.guest.name} is down: {why}")
            self._wait(lambda one=one: self._is_repaired(one), "the owner cannot start it")

    def _is_repaired(self, one: Owned) -> bool:
        try:
            self.owner.repair(one, self.journal)
        except libvirt.libvirtError as error:
            self.journal.write(f"owner: start {one.guest.name} again: {error}")
            return False
        return self.owner.runs(one)

    def _wait(self, true: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + SETTLE_S
        while True:
            with contextlib.suppress(errors.Retriable, libvirt.libvirtError):
                if true():
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} (waited {SETTLE_S:g} s)")
            time.sleep(POLL_S)


def _disturbs(actions: Sequence[plan.Action], part: str) -> bool:
    return any(action.target == part for action in actions)
