# SPDX-License-Identifier: Apache-2.0
"""Two hosts with an agent each, two engines, RabbitMQ and MariaDB, to be stalled and killed."""

import abc
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence

import fixtures

from vmmonitor.testing import reaper
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.testing.processes import Processes
from vmmonitor.tests.fixtures.deployment import Deployment, Program
from vmmonitor.tests.fixtures.services import MariaDB, RabbitMQ, Service

#: Lines in the logs that show that an engine, or an agent, works.
ENGINE_READY = "Engine started on host"
AGENT_READY = "Source libvirt is connected"
#: A guest that is down is started at once, with many attempts.
POLICIES = """
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
OPTIONS = {
    # Many failures of few guests are the purpose of this test.
    "storm": {
        "min_failures": 100_000,
        "host_limit": 0,
        "host_percent": 0,
        "cloud_limit": 0,
        "cloud_percent": 0,
    },
}
#: Time limit for the start of a program after a failure of the database, in seconds.
START_S = 60.0


class Part(abc.ABC):
    """A part of the deployment."""

    def __init__(self, name: str):
        self.name = name
        self._lock = threading.Lock()

    @abc.abstractmethod
    def pids(self) -> Sequence[int]:
        """Return the pids of its processes."""

    @abc.abstractmethod
    def kill(self) -> None:
        """Kill it with SIGKILL."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start it after ``kill``."""

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Suspend its processes during the block."""
        with self._lock:
            stopped = [pid for pid in self.pids() if _send(pid, signal.SIGSTOP)]
            try:
                yield
            finally:
                for pid in stopped:
                    _send(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def absent(self) -> Iterator[None]:
        """Kill it, and start it again after the block."""
        with self._lock:
            self.kill()
            try:
                yield
            finally:
                self.start()


class ProgramPart(Part):
    """An agent or an engine.

    :param ready: pattern of the line in its log that shows that it works.
    """

    def __init__(self, name: str, program: Program, ready: str):
        super().__init__(name)
        self._program = program
        self._ready = ready
        self._started_in_log = 0

    def pids(self) -> Sequence[int]:
        return [self._program.pid, *reaper.descendants(self._program.pid)]

    def kill(self) -> None:
        self._program.kill()

    def start(self) -> None:
        self._started_in_log = len(self._program.log())
        self._program.start()

    def wait_ready(self) -> None:
        """Wait until it works after its last start."""
        self._program.wait_for(self._ready, self._started_in_log)

    def has_ended(self) -> bool:
        """Return whether it has ended without ``kill``."""
        return not os.path.exists(f"/proc/{self._program.pid}")


class LibvirtdPart(Part):
    """The libvirtd of a host; the guests keep running."""

    def __init__(self, name: str, hypervisor: Hypervisor):
        super().__init__(name)
        self._hypervisor = hypervisor

    def pids(self) -> Sequence[int]:
        return [self._hypervisor.pid]

    def kill(self) -> None:
        self._hypervisor.kill()

    def start(self) -> None:
        self._hypervisor.start()


class ServicePart(Part):
    """RabbitMQ or MariaDB."""

    def __init__(self, name: str, service: Service):
        super().__init__(name)
        self._service = service

    def pids(self) -> Sequence[int]:
        processes: Processes = self._service.processes
        return processes.pids()

    def kill(self) -> None:
        self._service.kill()

    def start(self) -> None:
        self._service.restart()


class Parts(fixtures.Fixture):
    """The whole deployment; ``deployment`` reads its database, ``hosts`` are its hypervisors."""

    def _setUp(self) -> None:
        self.hosts = [self.useFixture(Hypervisor()) for _ in range(2)]
        self._services = {"rabbitmq": self._use(RabbitMQ()), "mariadb": self._use(MariaDB())}
        self.deployment = self.useFixture(
            Deployment(self._services["rabbitmq"].url, self._services["mariadb"].url, OPTIONS)
        )
        policies = {"recovery": {"policy_file": self.deployment.file("policies.yaml", POLICIES)}}
        engines = [self.deployment.engine(f"engine-{n}", policies) for n in (1, 2)]
        agents = [
            self.deployment.agent(host, f"node-{n}") for n, host in enumerate(self.hosts, start=1)
        ]
        for engine in engines:
            engine.start(ENGINE_READY)
        for agent in agents:
            agent.start(AGENT_READY)
        parts: list[Part] = [LibvirtdPart(f"libvirtd-{n}", host) for n, host in self._number()]
        parts += [
            ProgramPart(f"agent-{n}", one, AGENT_READY) for n, one in enumerate(agents, start=1)
        ]
        parts += [
            ProgramPart(f"engine-{n}", one, ENGINE_READY) for n, one in enumerate(engines, start=1)
        ]
        parts += [ServicePart(name, service) for name, service in self._services.items()]
        self._parts = {part.name: part for part in parts}

    def find(self, name: str) -> Part:
        """Return a part by its name in ``plan.PARTS``."""
        return self._parts[name]

    def restart_ended(self) -> list[str]:
        """Start the programs that have ended, as a service manager does; return their names."""
        ended = [part for part in self._programs() if part.has_ended()]
        for part in ended:
            part.start()
        return [part.name for part in ended]

    def wait_ready(self) -> None:
        """Wait until each program works after its last start.

        Nothing reports a transient guest that arrives and fails while the agent of its new host is
        stopped, so that a round does not begin before all agents work.
        """
        for part in self._programs():
            part.wait_ready()

    def _programs(self) -> list[ProgramPart]:
        return [part for part in self._parts.values() if isinstance(part, ProgramPart)]

    def _use(self, service: Service) -> Service:
        self.useFixture(service)
        return service

    def _number(self) -> Iterator[tuple[int, Hypervisor]]:
        return enumerate(self.hosts, start=1)


def stay(part: Part, kind: str, duration: float) -> None:
    """Stall or kill a part for some time.

    :param kind: ``stall`` or ``kill``.
    :param duration: seconds.
    """
    with part.stalled() if kind == "stall" else part.absent():
        time.sleep(duration)


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
