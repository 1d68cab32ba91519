# SPDX-License-Identifier: Apache-2.0
"""What a decision costs the engine: from a hold that is over to the driver's call.

One engine's workers in this process, on a MariaDB of its own, with every gate of a real engine;
the expectation and the driver answer at once. Counted are the worker's time on a processor (the
database's is its own) and its statements, for each decision: where instances fail one by one, and
where a thousand fail at once, of which some wait for their turn, thus are decided on twice.
"""

import pathlib
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

import fixtures
import sqlalchemy

from vmmonitor.db import incidents, schema, session
from vmmonitor.drivers import Driver
from vmmonitor.engine.admission.limits import Restarts
from vmmonitor.engine.recovery.attempts import Claim
from vmmonitor.engine.recovery.dispatcher import Recoveries
from vmmonitor.expectation import Expectation
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.rules import policies
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.bench.figures import say, spread
from vmmonitor.tests.fixtures import database
from vmmonitor.tests.fixtures.services import MariaDB
from vmmonitor.tests.functional.db import samples

WARM_UP = 50
ONE_BY_ONE = 200
AT_ONCE = 1000
HOSTS = 20
PATIENCE_S = 300.0
POLICIES = """
version: 1
policies:
- name: restart
  match: {}
  steps:
  - {driver: nothing, wait_for: nothing}
"""
OVER = sqlalchemy.text("SELECT COUNT(*) FROM incidents WHERE state = 'unhandled'")


class Failed(Expectation):
    """Says of everything that it failed."""

    def __init__(self) -> None:
        pass

    def judge(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        return Verdict(
            kind=VerdictKind.FAILED, reason="it failed", priority=hash(incident.incident_id) % 4
        )


class Nothing(Driver):
    """Does nothing, well."""

    def __init__(self) -> None:
        pass

    def recover(self, request: RecoveryRequest) -> Outcome:
        return Outcome(move="succeed", message="nothing was done")

    def get(self, name: str) -> Driver:
        return self


class Measured(Recoveries):
    """Workers that note what each decision cost: (milliseconds, statements)."""

    costs: list[tuple[float, int]]

    def __init__(self, *parts: Any):
        super().__init__(*parts)
        self.costs = []
        self._here = threading.local()
        sqlalchemy.event.listen(parts[1].engine, "before_cursor_execute", self._count)

    def _count(self, *_: Any) -> None:
        self._here.statements = getattr(self._here, "statements", 0) + 1

    def _examine(self, incident: Incident) -> bool:
        self._here.began, self._here.statements = time.thread_time(), 0
        called = super()._examine(incident)
        if not called:
            self._note()
        return called

    def _call(self, claim: Claim, told: Sequence[Event]) -> None:
        self._note()
        super()._call(claim, told)

    def _note(self) -> None:
        cost = (time.thread_time() - self._here.began) * 1000
        self.costs.append((cost, self._here.statements))


class Engine(fixtures.Fixture):
    """The workers of an engine, ``recoveries``, on a database of their own."""

    def _setUp(self) -> None:
        url = self.useFixture(MariaDB()).create()
        conf = database.conf(url)
        self._database = session.Database(conf)
        self.addCleanup(self._database.dispose)
        schema.sync(self._database)
        with tempfile.TemporaryDirectory() as path:
            file = pathlib.Path(path, "policies.yaml")
            file.write_text(POLICIES)
            rules = policies.load(str(file))
        gates = [Restarts(conf).gate]
        self.recoveries = Measured(conf, self._database, rules, Failed(), Nothing(), gates)
        self.recoveries.start()
        self.addCleanup(self.recoveries.stop, 30)
        self._done = 0

    def fail(self, count: int) -> None:
        """Have so many instances fail at once; returns when all are recovered."""
        now = self._database.now()
        crowd = [
            samples.incident(host=f"compute-{number % HOSTS}", opened_at=now, hold_until=now)
            for number in range(count)
        ]
        self._database.run(incidents.insert, crowd)
        self.recoveries.enqueue(crowd)
        self._done += count
        wait_until(self._all_done, PATIENCE_S, "they are not recovered")

    def _all_done(self) -> bool:
        with self._database.reader() as tx:
            return tx.execute(OVER).scalar_one() >= self._done


def measure() -> dict[str, Any]:
    """Return the figures."""
    with Engine() as engine:
        for _ in range(WARM_UP):
            engine.fail(1)
        alone = _costs(engine, [1] * ONE_BY_ONE)
        at_once = _costs(engine, [AT_ONCE])
    return {
        "incidents": ONE_BY_ONE,
        "decision_cpu_ms": spread([cost for cost, _ in alone]),
        "statements": statistics.median(statements for _, statements in alone),
        "incidents_at_once": AT_ONCE,
        "decision_at_once_cpu_ms": spread([cost for cost, _ in at_once]),
    }


def _costs(engine: Engine, crowds: Sequence[int]) -> list[tuple[float, int]]:
    engine.recoveries.costs.clear()
    began = time.monotonic()
    for count in crowds:
        engine.fail(count)
    costs = list(engine.recoveries.costs)
    took = time.monotonic() - began
    say(f"decisions: {sum(crowds)} incidents, {len(costs)} decisions took {took:.1f} s")
    return costs
