# SPDX-License-Identifier: Apache-2.0
"""Measure the cost of a decision in the engine: from a hold that is over to the driver's call.

The dispatcher runs in this process, on a MariaDB of its own, with the limits on restarts and on
concurrency; the expectation and the driver answer at once. For each decision the processor time of
the worker (without the database's) and its statements are counted: for instances that fail one by
one, and for a thousand that fail at once. Some of these are queued and thus decided twice.
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
from vmmonitor.engine.admission import Admission
from vmmonitor.engine.admission.concurrency import RecoverySlots
from vmmonitor.engine.admission.restarts import RestartCheck
from vmmonitor.engine.recovery.dispatcher import Dispatcher
from vmmonitor.engine.recovery.pipeline import RecoveryPipeline
from vmmonitor.expectation import Expectation
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.model.recovery import Outcome, Recovery, RecoveryRequest
from vmmonitor.rules import policies
from vmmonitor.testing.agents import FakeAgents
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
    """Returns the verdict ``failed`` for every incident."""

    def __init__(self) -> None:
        pass

    def judge(self, incident: Incident, events: Sequence[Event]) -> Verdict:
        return Verdict(
            kind=VerdictKind.FAILED, reason="it failed", priority=hash(incident.incident_id) % 4
        )


class Costs:
    """The processor time and the statements of each decision, counted per thread."""

    def __init__(self, engine: sqlalchemy.Engine):
        self.costs: list[tuple[float, int]] = []
        self._thread = threading.local()
        sqlalchemy.event.listen(engine, "before_cursor_execute", self._count_statement)

    def _count_statement(self, *_: Any) -> None:
        self._thread.statements = getattr(self._thread, "statements", 0) + 1

    def start(self) -> None:
        """Start the measurement of a decision in this thread."""
        self._thread.started, self._thread.statements = time.thread_time(), 0

    def stop(self) -> None:
        """End the measurement: the driver is called, or there is nothing to call."""
        cost = (time.thread_time() - self._thread.started) * 1000
        self.costs.append((cost, self._thread.statements))


class Nothing(Driver):
    """A driver that succeeds at once; its call ends the measurement of a decision."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs

    def recover(self, request: RecoveryRequest) -> Outcome:
        self._costs.stop()
        return Outcome(move="succeed", message="nothing was done")

    def get(self, name: str) -> Driver:
        return self


class MeasuredPipeline:
    """Wraps the pipeline of a dispatcher, and measures each decision."""

    def __init__(self, pipeline: RecoveryPipeline, costs: Costs):
        self._pipeline = pipeline
        self._costs = costs

    def examine(self, incident: Incident) -> bool:
        self._costs.start()
        is_recovered = self._pipeline.examine(incident)
        if not is_recovered:
            self._costs.stop()
        return is_recovered

    def resume(self, recovery: Recovery) -> bool:
        return self._pipeline.resume(recovery)


class Engine(fixtures.Fixture):
    """A dispatcher with its workers, on its own database."""

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
        self.measured = Costs(self._database.engine)
        slots = RecoverySlots(conf)
        drivers: Any = Nothing(self.measured)
        self._dispatcher = Dispatcher(
            conf=conf,
            database=self._database,
            policies=rules,
            expectation=Failed(),
            drivers=drivers,
            agents=FakeAgents(),
            admission=Admission(checks=[RestartCheck(conf), slots], slots=slots),
        )
        measured: Any = MeasuredPipeline(self._dispatcher.pipeline, self.measured)
        self._dispatcher.pipeline = measured
        self._dispatcher.start()
        self.addCleanup(self._dispatcher.stop, 30)
        self._done = 0

    def fail(self, count: int) -> None:
        """Let instances fail at the same time, and wait until all are recovered."""
        now = self._database.now()
        crowd = [
            samples.incident(host=f"compute-{number % HOSTS}", opened_at=now, hold_until=now)
            for number in range(count)
        ]
        self._database.run(incidents.insert, crowd)
        self._dispatcher.enqueue(crowd)
        self._done += count
        wait_until(self._all_done, PATIENCE_S, "they are not recovered")

    def _all_done(self) -> bool:
        with self._database.reader() as tx:
            return tx.execute(OVER).scalar_one() >= self._done


def measure(
    warm_up: int = WARM_UP, one_by_one: int = ONE_BY_ONE, at_once: int = AT_ONCE
) -> dict[str, Any]:
    """Return the figures; the arguments are numbers of incidents."""
    with Engine() as engine:
        for _ in range(warm_up):
            engine.fail(1)
        alone = _costs(engine, [1] * one_by_one)
        together = _costs(engine, [at_once])
    return {
        "incidents": one_by_one,
        "decision_cpu_ms": spread([cost for cost, _ in alone]),
        "statements": statistics.median(statements for _, statements in alone),
        "incidents_at_once": at_once,
        "decision_at_once_cpu_ms": spread([cost for cost, _ in together]),
    }


def _costs(engine: Engine, crowds: Sequence[int]) -> list[tuple[float, int]]:
    engine.measured.costs.clear()
    began = time.monotonic()
    for count in crowds:
        engine.fail(count)
    costs = list(engine.measured.costs)
    took = time.monotonic() - began
    say(f"decisions: {sum(crowds)} incidents, {len(costs)} decisions took {took:.1f} s")
    return costs
