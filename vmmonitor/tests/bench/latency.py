# SPDX-License-Identifier: Apache-2.0
"""How long after libvirt's callback an event is stored, and the recovery driver is called.

Real guests' QEMUs are killed, one after another; each is brought back by the ``libvirt`` driver
under the shipped policy (no hold) before the next one dies. The programs are real processes, and
say in their logs, by the machine's one clock, when the agent had the engine's receipt for an
event (which is after the commit) and when the engine called the driver.
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import random
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import libvirt
import sqlalchemy

from vmmonitor.sources.libvirt.connection import EVENT_LOOP
from vmmonitor.testing.guest import Guest
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.bench.deployment import Deployment, Program
from vmmonitor.tests.bench.figures import now, say, spread

#: Number of kills that do not count: the first event opens connections and imports modules.
WARM_UP = 3
GUESTS = 4
PATIENCE_S = 60.0
#: Times in the row of an event, in their order; ``spooled_at`` is before the spool's write to the
#: disk, ``stored_at`` before the commit.
STOPS = ("occurred_at", "spooled_at", "sent_at", "received_at", "stored_at")

RECEIPT = re.compile(r"Event (\S+) is stored, (\S+) ms after its callback")
CALL = re.compile(r"^(\S+) .*Recovery \S+ of instance (\S+): driver \S+ is called", re.MULTILINE)
STOPPED = sqlalchemy.text(
    "SELECT event_id, occurred_at, spooled_at, sent_at, received_at, stored_at"
    " FROM events WHERE instance_uuid = :uuid AND occurred_at >= :since"
    " AND type = 'lifecycle.stopped' AND detail = 'failed'"
    " ORDER BY occurred_at"
)
#: Query of the first event of a kill, from the kernel or from libvirt.
FIRST = sqlalchemy.text(
    "SELECT event_id, occurred_at FROM events"
    " WHERE instance_uuid = :uuid AND occurred_at >= :since"
    " AND type IN ('process.exited', 'lifecycle.stopped') ORDER BY occurred_at LIMIT 1"
)
OVER = sqlalchemy.text(
    "SELECT COUNT(*) FROM incidents WHERE instance_uuid = :uuid"
    " AND opened_at >= :since AND state = 'resolved'"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill, and the time of the callback of a bare libvirt connection; in microseconds."""

    uuid: str
    killed_at: int
    told_at: int


class Listener:
    """Records the time of the libvirt callback of each stop, without vmmonitor."""

    def __init__(self, connection: libvirt.virConnect):
        self.told: dict[str, int] = {}
        connection.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle, None
        )

    def _lifecycle(self, _connection, domain, event, _detail, _opaque) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            self.told[domain.UUIDString()] = now()


@contextlib.contextmanager
def listener(hypervisor: Hypervisor) -> Iterator[Listener]:
    """Yield a listener on its own connection."""
    with EVENT_LOOP.running(), hypervisor.connection() as connection:
        yield Listener(connection)


def measure(kills: int, warm_up: int = WARM_UP) -> dict[str, Any]:
    """Kill guests, and return the figures.

    :param kills: number of kills.
    :param warm_up: number of earlier kills that do not count.
    """
    with Deployment() as deployment, Hypervisor() as hypervisor, contextlib.ExitStack() as stack:
        say(f"latency: booting {GUESTS} guests")
        guests = [stack.enter_context(Guest(hypervisor, defined=True)) for _ in range(GUESTS)]
        engine = stack.enter_context(Program("vmmonitor-engine", deployment.configure("engine")))
        sections = {
            "libvirt": {"uri": hypervisor.uri, "read_only": False},
            "agent": {"allow_recovery": True, "going_down_file": ""},
        }
        conf = deployment.configure("node-1", sections)
        agent = stack.enter_context(Program("vmmonitor-agent", conf))
        database = sqlalchemy.create_engine(deployment.connection)
        stack.callback(database.dispose)
        heard = stack.enter_context(listener(hypervisor))
        time.sleep(2)
        done = []
        for number in range(warm_up + kills):
            done.append(_kill(guests[number % GUESTS], heard, database))
            if number % 10 == 9:
                say(f"latency: {number + 1} kills")
        return _figures(done[warm_up:], database, agent.log, engine.log)


def _kill(guest: Guest, heard: Listener, database: sqlalchemy.Engine) -> Kill:
    """Kill a guest's QEMU; returns when it runs and answers again."""
    time.sleep(random.uniform(0.2, 0.6))
    heard.told.pop(guest.uuid, None)
    pid = guest.pid()
    killed_at = now()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: guest.uuid in heard.told, PATIENCE_S, "no callback")
    time.sleep(0.3)
    if not guest.ping(PATIENCE_S):
        raise TimeoutError(f"guest {guest.name} was not brought back")
    which = {"uuid": guest.uuid, "since": killed_at}
    wait_until(lambda: _count(database, which), PATIENCE_S, "its incident is not over")
    return Kill(uuid=guest.uuid, killed_at=killed_at, told_at=heard.told[guest.uuid])


def _count(database: sqlalchemy.Engine, which: dict[str, Any]) -> int:
    with database.connect() as tx:
        return tx.execute(OVER, which).scalar_one()


def _figures(
    kills: list[Kill],
    database: sqlalchemy.Engine,
    agent_log: pathlib.Path,
    engine_log: pathlib.Path,
) -> dict[str, Any]:
    receipts = {found[1]: float(found[2]) for found in RECEIPT.finditer(agent_log.read_text())}
    calls = [(float(at) * 1e6, uuid) for at, uuid in CALL.findall(engine_log.read_text())]
    bare, first_stored, callback, stored, recovery = [], [], [], [], []
    way: dict[str, list[float]] = {f"{a} -> {b}": [] for a, b in itertools.pairwise(STOPS)}
    way |= {"stored_at -> receipt": [], "receipt -> driver called": []}
    for kill in kills:
        with database.connect() as tx:
            which = {"uuid": kill.uuid, "since": kill.killed_at}
            stop, first = tx.execute(STOPPED, which).first(), tx.execute(FIRST, which).first()
        first_stored.append((first.occurred_at - kill.killed_at) / 1000 + receipts[first.event_id])
        bare.append((kill.told_at - kill.killed_at) / 1000)
        callback.append((stop.occurred_at - kill.killed_at) / 1000)
        stored.append(receipts[stop.event_id])
        called_at = min(at for at, uuid in calls if uuid == kill.uuid and at > stop.occurred_at)
        recovery.append((called_at - stop.occurred_at) / 1000)
        moments = [getattr(stop, name) / 1000 for name in STOPS]
        moments += [stop.occurred_at / 1000 + stored[-1], called_at / 1000]
        for steps, (before, after) in zip(way.values(), itertools.pairwise(moments), strict=True):
            steps.append(after - before)
    say(f"latency: kill -> bare libvirt callback, ms: {spread(bare)}")
    for name, steps in way.items():
        say(f"latency: {name}, ms: {spread(steps)}")
    figures = {
        "kills": len(kills),
        "kill_to_stored_ms": spread(first_stored),
        "kill_to_callback_ms": spread(callback),
        "callback_to_stored_ms": spread(stored),
        "callback_to_recovery_ms": spread(recovery),
    }
    for name, figure in list(figures.items())[1:]:
        say(f"latency: {name}: {figure}")
    return figures
