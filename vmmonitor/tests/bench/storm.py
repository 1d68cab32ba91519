# SPDX-License-Identifier: Apache-2.0
"""Measure a storm of a thousand failures: the decisions of one engine process, and the response
times of the API meanwhile."""

import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from typing import Any

import fixtures
import sqlalchemy

from vmmonitor.api import token_file
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.bench.deployment import Deployment, Program
from vmmonitor.tests.bench.figures import say, spread
from vmmonitor.tests.bench.senders import Senders

HOSTS = 40
#: Instances of each host that fail.
EACH = 25
#: Duration, in seconds, of the measurement of response times; longer than the storm.
LOOK_S = 30.0
PAUSE_S = 0.05
START_S = 60.0
POLICIES = """
version: 1
policies:
- name: log
  match: {type: lifecycle.stopped}
  hold: 0
  steps:
  - {driver: log, wait_for: nothing}
"""
#: Requests of a dashboard during the storm.
PAGES = ("/v1/incidents?limit=100", "/v1/incidents?kind=storm", "/v1/recoveries?limit=100")
WAITING = (
    "SELECT COUNT(*) FROM incidents WHERE kind = 'instance' AND state IN ('pending', 'recovering')"
)
COUNTS = "SELECT kind, held_by, COUNT(*) FROM incidents GROUP BY kind, held_by"


class API(fixtures.Fixture):
    """The API in a WSGI server; ``url`` is its address."""

    def __init__(self, conf: pathlib.Path):
        super().__init__()
        self._conf = conf
        self._token_file = str(conf.with_name("engine") / "api.token")

    def _setUp(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "cheroot", "--bind", f"127.0.0.1:{port}"]
            + ["vmmonitor.wsgi.api:application"],
            env={**os.environ, "VMMONITOR_CONFIG_FILES": str(self._conf)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.terminate)
        self.url = f"http://127.0.0.1:{port}"
        wait_until(self._answers, START_S, "the API does not start")

    def _answers(self) -> bool:
        try:
            self.ask(PAGES[0])
        except OSError:
            return False
        return True

    def ask(self, page: str) -> float:
        """Return the milliseconds that a page takes."""
        began = time.monotonic()
        token = token_file.load(self._token_file)
        request = urllib.request.Request(self.url + page, headers={"X-Auth-Token": token})
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
        return (time.monotonic() - began) * 1000


def measure(hosts: int = HOSTS, each: int = EACH, look_s: float = LOOK_S) -> dict[str, Any]:
    """Run the storm, and return the figures.

    :param each: number of instances of each host that fail.
    :param look_s: duration of the measurement of response times, in seconds.
    """
    with Deployment() as deployment:
        conf = deployment.configure("engine")
        policies = conf.with_name("policies.yaml")
        policies.write_text(POLICIES)
        conf = deployment.configure("engine", {"recovery": {"policy_file": policies}})
        with Program("vmmonitor-engine", conf), API(conf) as api:
            return _storm(deployment, api, hosts, each, look_s)


def _storm(
    deployment: Deployment, api: API, hosts: int, each: int, look_s: float
) -> dict[str, Any]:
    database = sqlalchemy.create_engine(deployment.connection)
    senders = Senders(
        **{"url": deployment.transport_url, "prefix": "node", "agents": hosts},
        **{"events": each, "batch": 1, "failures": 1},
    )
    answers: list[float] = []
    until = time.monotonic() + look_s
    looking = threading.Thread(target=_look, args=(api, answers, until), name="look", daemon=True)
    looking.start()
    say(f"storm: {hosts} agents report {each} failures each")
    began = time.monotonic()
    took = senders.run(again=False)
    wait_until(lambda: not _rows(database, WAITING)[0][0], START_S, "not all is decided")
    all_held_s = time.monotonic() - began
    say(f"storm: told within {took:.1f} s, all decided after {all_held_s:.1f} s")
    counts = {(kind, held_by): count for kind, held_by, count in _rows(database, COUNTS)}
    database.dispose()
    looking.join()
    held, passed = counts.get(("instance", "storm"), 0), counts.get(("instance", ""), 0)
    return {
        "incidents": held + passed,
        "storms": counts.get(("storm", ""), 0),
        "held": held,
        "passed": passed,
        "all_held_s": round(all_held_s, 1),
        "api_ms": spread(answers),
    }


def _look(api: API, answers: list[float], until: float) -> None:
    while time.monotonic() < until:
        for page in PAGES:
            answers.append(api.ask(page))
            time.sleep(PAUSE_S)


def _rows(database: sqlalchemy.Engine, query: str) -> list[Any]:
    with database.connect() as tx:
        return list(tx.execute(sqlalchemy.text(query)))
