# SPDX-License-Identifier: Apache-2.0
"""How long a killed server of nova's is away: with vmmonitor, and with masakari in its place.

On the lab of ``tools/openstack-lab``: real nova, real QEMUs, killed with SIGKILL. vmmonitor runs
as shipped (its policies for OpenStack, no hold for a crash), with an agent per host and engines
of its own; masakari with its own monitors, tuned (no random pause). A server is back when it has
a new QEMU and nova calls it ACTIVE, at work on nothing; that its guest answers is checked after.
"""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy

from vmmonitor import conf as configuration
from vmmonitor.rules import defaults
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.bench.deployment import Deployment, Program
from vmmonitor.tests.bench.figures import now, percentile, say
from vmmonitor.tests.bench.latency import CALL
from vmmonitor.tests.fixtures.openstack_lab import OpenStackLab, Server

SPREAD = (50, 95)
AT_ONCE = 8
#: Delay, in seconds, from the first to the second kill of a server.
AGAIN_S = 60.0
#: Interval of successive kills, in seconds: with the default options, more than 10 failures in
#: 60 s are a storm if they are a large share of all servers.
PACE_S = 8.0
STORM_S = 60.0
#: Timeout, in seconds, of the recovery of a server.
PATIENCE_S = 120.0
LOOK_S = 0.02
#: Maximum number of attempts to kill an engine before it has stored the outcome of its driver.
TRIES = 5
#: Number of servers that are booted at the same time.
BOOTED_AT_ONCE = 6

STATE = sqlalchemy.text(
    "SELECT state FROM recoveries WHERE instance_uuid = :uuid ORDER BY created_at DESC LIMIT 1"
)
OPEN = sqlalchemy.text(
    "SELECT COUNT(*) FROM incidents WHERE instance_uuid = :uuid"
    " AND state NOT IN ('resolved', 'ignored')"
)


@dataclasses.dataclass
class Killed:
    """A server that was killed; times are microseconds."""

    server: Server
    pid: int
    at: int
    back_at: int = 0

    @property
    def away_s(self) -> float | None:
        """The duration of the outage, in seconds; None if the server did not run again."""
        return round((self.back_at - self.at) / 1e6, 2) if self.back_at else None


def measure(kills: int, at_once: int = AT_ONCE, again_s: float = AGAIN_S) -> dict[str, Any]:
    """Kill servers, and return the figures.

    :param kills: number of servers that are killed one after another.
    :param at_once: number of servers that are killed at the same time.
    :param again_s: delay of the second kill of a server, in seconds.
    """
    with OpenStackLab() as lab:
        theirs = _beside(lab, min(kills, at_once), at_once, again_s)
        return {**Ours(lab).measure(kills, at_once, again_s), "masakari": theirs}


class Ours:
    """vmmonitor, with two engines, on the lab."""

    def __init__(self, lab: OpenStackLab):
        self._lab = lab
        self._lease = configuration.new([], files=[]).recovery.lease

    def measure(self, kills: int, at_once: int, again_s: float) -> dict[str, Any]:
        """Return the figures."""
        with Deployment() as self._deployment, contextlib.ExitStack() as stack:
            self._options = {
                "engine": {"expectation": "nova"},
                "nova": self._lab.options(),
                "recovery": {"policy_file": defaults.path(defaults.OPENSTACK_POLICIES)},
            }
            self._database = sqlalchemy.create_engine(self._deployment.connection)
            stack.callback(self._database.dispose)
            self._engines = [self._engine(stack, f"engine-{number}") for number in (1, 2)]
            for host in self._lab.hosts.values():
                options = {"libvirt": {"uri": host.uri}, "agent": {"going_down_file": ""}}
                conf = self._deployment.configure(host.name, options)
                stack.enter_context(Program("vmmonitor-agent", conf))
            time.sleep(3)
            figures, singles = _figures(self._lab, kills, at_once, again_s, "vmmonitor")
            return {
                "kills": kills,
                "kill_to_action_ms": _spread(self._to_action(singles)),
                **figures,
                **self._taken_over(stack),
            }

    def _engine(self, stack: contextlib.ExitStack, host: str) -> Program:
        conf = self._deployment.configure(host, self._options)
        return stack.enter_context(Program("vmmonitor-engine", conf))

    def _calls(self) -> list[tuple[int, str, Program]]:
        """Return (time, server, engine) of each call of a driver; microseconds since the epoch."""
        return [
            (round(float(at) * 1e6), uuid, engine)
            for engine in self._engines
            for at, uuid in CALL.findall(engine.log.read_text())
        ]

    def _to_action(self, kills: Sequence[Killed]) -> list[float]:
        calls = self._calls()
        return [
            (
                min(at for at, uuid, _ in calls if uuid == kill.server.uuid and at > kill.at)
                - kill.at
            )
            / 1000
            for kill in kills
        ]

    def _taken_over(self, stack: contextlib.ExitStack) -> dict[str, Any]:
        """Kill an engine during a driver call; return the time until another one has finished."""
        for number in range(TRIES):
            with _servers(self._lab, 1) as (server,):
                killed = _kill(server)
                caller = self._wait_for_call(killed)
                os.killpg(caller.pid, signal.SIGKILL)
                dead_at = time.monotonic()
                state = self._state(server)
                say(f"recovery: an engine is dead, its recovery is {state}")
                if state == "running":
                    self._wait_until_over(server)
                    over = time.monotonic() - dead_at
                    _wait([killed])
                    say(f"recovery: taken over and finished after {over:.1f} s")
                    return {"taken_over_s": round(over, 1), "lease_s": self._lease}
                _wait([killed])
            self._engines.append(self._engine(stack, f"engine-{number + 3}"))
            time.sleep(STORM_S)
        say("recovery: no engine could be killed in time")
        return {"taken_over_s": None, "lease_s": self._lease}

    def _wait_for_call(self, killed: Killed) -> Program:
        found: list[Program] = []

        def look() -> bool:
            found[:] = [
                engine
                for at, uuid, engine in self._calls()
                if uuid == killed.server.uuid and at > killed.at
            ]
            return bool(found)

        wait_until(look, PATIENCE_S, "no driver is called")
        return found[0]

    def _state(self, server: Server) -> str:
        with self._database.connect() as tx:
            return tx.execute(STATE, {"uuid": server.uuid}).scalar_one()

    def _wait_until_over(self, server: Server) -> None:
        def is_over() -> bool:
            with self._database.connect() as tx:
                return tx.execute(OPEN, {"uuid": server.uuid}).scalar_one() == 0

        wait_until(is_over, PATIENCE_S, "the recovery is not finished")


def _beside(lab: OpenStackLab, kills: int, at_once: int, again_s: float) -> dict[str, Any]:
    """Return the figures of masakari's monitors and engine."""
    monitors = [f"masakari-monitor-{host}" for host in lab.hosts]
    lab.run("start", *monitors)
    try:
        time.sleep(10)  # The monitors do not log when they are ready.
        return _figures(lab, kills, at_once, again_s, "masakari")[0]
    finally:
        lab.run("stop", *monitors)


def _figures(
    lab: OpenStackLab, kills: int, at_once: int, again_s: float, who: str
) -> tuple[dict[str, Any], list[Killed]]:
    """Kill servers one by one, one of them again, and many at once."""
    say(f"recovery: {who}: booting {kills} servers")
    with _servers(lab, kills) as servers:
        singles = []
        for server in servers:
            killed = _kill(server)
            _wait([killed])
            singles.append(killed)
            time.sleep(max(0.0, PACE_S - (now() - killed.at) / 1e6))
        away = [killed.away_s for killed in singles]
        say(f"recovery: {who}: one after another, s: {away}")
        first = singles[-1]
        time.sleep(max(0.0, again_s - (now() - first.at) / 1e6))
        again = _kill(first.server)
        _wait([again])
        say(f"recovery: {who}: the same server again after {again_s:g} s: {again.away_s} s")
    say(f"recovery: {who}: booting {at_once} servers on one host")
    with _servers(lab, at_once, "node1") as servers:
        many = [_kill(server) for server in servers]
        _wait(many)
        all_away = [killed.away_s for killed in many]
        say(f"recovery: {who}: {at_once} at once, s: {all_away}")
    figures = {
        "kill_to_active_ms": _spread([seconds * 1000 for seconds in away if seconds]),
        "eight_servers_s": max(all_away) if all(all_away) else None,
        "second_crash_s": again.away_s,
    }
    say(f"recovery: {who}: {figures}")
    return figures, singles


@contextlib.contextmanager
def _servers(lab: OpenStackLab, number: int, host: str = "") -> Iterator[list[Server]]:
    """Boot servers, on all hosts in turn or on one; they go with the block."""
    names = [host] if host else list(lab.hosts)
    servers = [Server(lab, names[index % len(names)]) for index in range(number)]
    with contextlib.ExitStack() as stack:
        for begin in range(0, number, BOOTED_AT_ONCE):
            batch = servers[begin : begin + BOOTED_AT_ONCE]
            for server in batch:
                server.request()
                stack.callback(server.remove)
            for server in batch:
                server.wait()
        time.sleep(2)
        yield servers


def _kill(server: Server) -> Killed:
    """Kill a server's QEMU."""
    pid = server.pid()
    if pid is None:
        raise ProcessLookupError(f"server {server.name} has no QEMU")
    at = now()
    os.kill(pid, signal.SIGKILL)
    return Killed(server, pid, at)


def _wait(killed: Sequence[Killed]) -> None:
    """Wait until servers are back and note when; those that stay down have no such time."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        waiting = [one for one in killed if not one.back_at]
        if not waiting:
            break
        time.sleep(LOOK_S)
        for one in waiting:
            if one.server.pid() in (None, one.pid):
                continue
            told = one.server.look()
            if told.status == "ACTIVE" and told.task_state is None:
                one.back_at = now()
    for one in killed:
        if one.back_at and not one.server.ping(PATIENCE_S):
            raise TimeoutError(f"server {one.server.name} is ACTIVE and its guest does not answer")


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {f"p{share}": round(percentile(values, share)) for share in SPREAD}
