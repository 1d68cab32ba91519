# SPDX-License-Identifier: Apache-2.0
"""Run the programs of vmmonitor with their own RabbitMQ and MariaDB."""

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Mapping

import fixtures

from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.fixtures import own_configuration
from vmmonitor.tests.fixtures.services import MariaDB, RabbitMQ

START_S = 60.0
STOP_S = 40.0
#: Program -> text that it logs when it is ready.
READY = {"vmmonitor-agent": "Agent started on host", "vmmonitor-engine": "Engine started on host"}
#: The measured times are those of log records; other records are not needed.
LOG_FORMAT = "%(created).6f %(levelname)s %(name)s %(message)s"
LOG_LEVELS = (
    "amqp=WARN,oslo.messaging=INFO,stevedore=WARN,vmmonitor.agent.forwarder=DEBUG,"
    "vmmonitor.engine.recovery.driver_calls=DEBUG"
)

Sections = Mapping[str, Mapping[str, object]]


class Program(fixtures.Fixture):
    """One of vmmonitor's programs, started as by an operator; it is ready after the set-up.

    ``pid`` is its process, ``log`` the file with its output.
    """

    def __init__(self, name: str, conf: pathlib.Path):
        super().__init__()
        self._name = name
        self._conf = conf
        self.log = conf.with_suffix(f".{name}.log")

    def _setUp(self) -> None:
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [script(self._name), *own_configuration.arguments(str(self._conf))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.addCleanup(self._stop)
        wait_until(self._ready, START_S, f"{self._name} does not start")
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._name} ended: {self.log.read_text()[-2000:]}")

    def _ready(self) -> bool:
        return READY[self._name] in self.log.read_text() or self._process.poll() is not None

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


class Deployment(fixtures.Fixture):
    """RabbitMQ and MariaDB, with current tables.

    ``transport_url`` and ``connection`` are their addresses.
    """

    def _setUp(self) -> None:
        self._path = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.transport_url = self.useFixture(RabbitMQ()).url
        self._mariadb = self.useFixture(MariaDB())
        self.connection = self.new_database()

    def new_database(self) -> str:
        """Return the address of a new database with current tables."""
        self.connection = self._mariadb.create()
        conf = self.configure("sync")
        command = [script("vmmonitor-manage"), "--config-file", str(conf), "db", "sync"]
        subprocess.run(command, check=True, stdout=sys.stderr)
        return self.connection

    def configure(self, host: str, sections: Sections | None = None) -> pathlib.Path:
        """Write a configuration and return the path of its file."""
        ours: Sections = {
            "DEFAULT": {
                "host": host,
                "state_path": self._path / host,
                "transport_url": self.transport_url,
                "logging_default_format_string": LOG_FORMAT,
                "default_log_levels": LOG_LEVELS,
            },
            "database": {"connection": self.connection},
            # A few guests are killed again and again.
            "limits": {"max_restarts": -1, "flap_window": 0},
        }
        path = self._path / f"{host}.conf"
        with path.open("w") as file:
            for group, options in {**ours, **(sections or {})}.items():
                print(f"[{group}]", file=file)
                for name, value in options.items():
                    print(f"{name} = {value}", file=file)
        return path


def script(name: str) -> str:
    """Return the path of a program that is installed beside this Python."""
    return str(pathlib.Path(sys.executable).with_name(name))
