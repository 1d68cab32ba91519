# SPDX-License-Identifier: Apache-2.0
"""An engine's parts on SQLite, a clock that is set by hand, and what is outside the engine."""

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import fixtures
import testtools

from vmmonitor.db import events, incidents, recoveries, timeline_entries
from vmmonitor.db.page import Page
from vmmonitor.engine.admission import Admission
from vmmonitor.engine.admission.check import AdmissionCheck
from vmmonitor.engine.admission.concurrency import RecoverySlots
from vmmonitor.engine.ingest.writer import EventWriter
from vmmonitor.engine.recovery.attempts import Attempts
from vmmonitor.engine.recovery.claims import Claim
from vmmonitor.engine.recovery.decisions import Decisions
from vmmonitor.engine.recovery.dispatcher import Dispatcher
from vmmonitor.engine.recovery.next_attempts import NextAttempts
from vmmonitor.model import states
from vmmonitor.model.event import CRITICAL, INCIDENT, RECORD, Decision, Event
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.model.instance import Instance
from vmmonitor.model.recovery import Outcome, Recovery, RecoveryRequest
from vmmonitor.model.states import RecoveryState
from vmmonitor.rpc import event_wire
from vmmonitor.rules import policies as rules
from vmmonitor.rules.policies import Policies
from vmmonitor.testing.agents import FakeAgents
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures.database import SQLite
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON, SECOND

UUID = "7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a11"
FAILURE = "lifecycle.stopped/failed"
RUNS = "lifecycle.started/booted"

WAIT = Outcome(move="wait", message="started")
FAIL = Outcome(move="fail", message="no", retry=True)
FAIL_FOR_GOOD = Outcome(move="fail", message="never", retry=False)
IT_FAILED = Verdict(kind=VerdictKind.FAILED, reason="it failed")


def delivery(
    cause: str = FAILURE, action: str | None = None, uuid: str = UUID, **fields: Any
) -> event_wire.Delivery:
    """An event on its way. What says that the instance runs, or a planned stop, is recorded."""
    kind, _, detail = cause.partition("/")
    known = {
        "event_id": samples.new_id(),
        "host": "compute-1",
        "instance": Instance(uuid=uuid, name="web"),
        "source": "nova_notifications" if kind.startswith("nova.") else "libvirt",
        "type": kind,
        "detail": detail,
        "occurred_at": NOON,
    }
    harmless = detail in ("booted", "destroyed", "info")
    decision = Decision(
        action=action or (RECORD if harmless else INCIDENT), severity=CRITICAL, rule="died"
    )
    return event_wire.Delivery(
        event=Event(**{**known, **fields}), decision=decision, spooled_at=NOON
    )


def batch(*deliveries: event_wire.Delivery | str) -> event_wire.Batch:
    return event_wire.Batch(host="compute-1", sent_at=NOON, deliveries=deliveries)


def step(driver: str = "fake", **fields: Any) -> dict[str, Any]:
    backoff = {"initial": 4, "factor": 2, "max": 10, "jitter": 0}
    return {"driver": driver, "attempts": 3, "wait": 60, "backoff": backoff, **fields}


def policy(name: str = "restart", match: Any = None, **fields: Any) -> dict[str, Any]:
    known = {"name": name, "match": match or {"source": "libvirt"}, "hold": 0, "steps": [step()]}
    return {**known, **fields}


class FakeDriver:
    """Brings nothing back; answers what it is told to, and counts."""

    def __init__(self, answer: Callable[[RecoveryRequest], Any] = lambda request: WAIT):
        self.answer = answer
        self.requests: list[RecoveryRequest] = []
        self.at_once: dict[str, int] = {}
        self.most_at_once = 0
        self._guard = threading.Lock()

    def recover(self, request: RecoveryRequest) -> Any:
        incident_id = request.incident.incident_id
        with self._guard:
            self.requests.append(request)
            self.at_once[incident_id] = self.at_once.get(incident_id, 0) + 1
            self.most_at_once = max(self.most_at_once, self.at_once[incident_id])
        try:
            return self.answer(request)
        finally:
            with self._guard:
                self.at_once[incident_id] -= 1


class FakeDrivers:
    """What ``engine.drivers.Drivers`` is to the workers."""

    def __init__(self, **drivers: FakeDriver):
        self.drivers = drivers

    def get(self, name: str) -> FakeDriver:
        return self.drivers[name]


class FakeExpectation:
    """Says what it is told to."""

    ASKED = "somebody"
    QUESTION = "whether it should run"

    def __init__(self) -> None:
        self.answer: Callable[[Incident, Sequence[Event]], Verdict] = lambda *_: IT_FAILED
        self.asked: list[Incident] = []
        self.active = False

    def is_active(self, recovery: Recovery) -> bool:
        return self.active

    def judge(self, incident: Incident, told: Sequence[Event]) -> Verdict:
        self.asked.append(incident)
        return self.answer(incident, told)


class FakeRecoveryQueue:
    """Records the incidents that an event writer hands over."""

    def __init__(self) -> None:
        self.incidents: list[Incident] = []
        self.woken = 0

    def enqueue(self, incidents: Sequence[Incident]) -> None:
        self.incidents += incidents

    def wake(self) -> None:
        self.woken += 1


class EngineCase(testtools.TestCase):
    """Set ``clock`` to let time pass; nothing here waits for it."""

    def setUp(self) -> None:
        super().setUp()
        self.make_database()
        self.clock = NOON
        self.driver = FakeDriver()
        self.agents = FakeAgents()
        self.expectation = FakeExpectation()
        self.policies = self.load(policy())

    def make_database(self) -> None:
        sqlite = self.useFixture(SQLite())
        self.conf, self.database = sqlite.conf, sqlite.database
        self.database.now = lambda: self.clock

    # -- parts ---------------------------------------------------------------------------------
    def load(self, *rows: dict[str, Any]) -> Policies:
        """Policies, read from a file as an operator would write it."""
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, "policies.yaml")
        with open(path, "w") as file:
            json.dump({"version": 1, "policies": list(rows)}, file)
        return rules.load(path)

    def ingest(self, database: Any = None, **changes: Any) -> EventWriter:
        given = {"commit_events": 2000, "recovery_queue": FakeRecoveryQueue(), **changes}
        made = EventWriter(database=database or self.database, policies=self.policies, **given)
        made.start()
        self.addCleanup(made.stop, 10)
        return made

    def attempts(self) -> Attempts:
        return Attempts(self.conf, self.policies, self.database.now)

    def recoveries(
        self, database: Any = None, checks: Sequence[AdmissionCheck] = (), **drivers: FakeDriver
    ) -> Dispatcher:
        """Start a dispatcher with its workers."""
        slots = RecoverySlots(self.conf)
        made = Dispatcher(
            self.conf,
            database or self.database,
            self.policies,
            self.expectation,
            FakeDrivers(fake=self.driver, **drivers),
            self.agents,
            Admission(checks=[*checks, slots], slots=slots),
        )
        made.start()
        self.addCleanup(made.stop, 5)
        return made

    # -- what happens --------------------------------------------------------------------------
    def store(self, *deliveries: event_wire.Delivery | str) -> list[str]:
        """Store a batch; returns the receipts' words."""
        return [receipt.status for receipt in self.ingest().store(batch(*deliveries), 10)]

    def decide(self, verdict: Verdict = IT_FAILED) -> Claim | None:
        return self.database.run(self.decisions().decide, self.incident(), verdict)

    def decisions(self, checks: Sequence[AdmissionCheck] = ()) -> Decisions:
        """Return what decides, by the policies of this test."""
        return Decisions(self.conf, self.attempts(), checks, self.database.now)

    def finish(self, claim: Claim | None, outcome: Outcome = WAIT) -> None:
        self.database.run(self.attempts().finish, claim, outcome)

    def next_attempts(
        self, checks: Sequence[AdmissionCheck] = (), slots: Any = None
    ) -> NextAttempts:
        """Return what decides about due recoveries, by the policies of this test."""
        admission = Admission(checks=checks, slots=slots)
        return NextAttempts(self.conf, self.attempts(), admission, self.database.now)

    def due_recovery(self) -> Recovery:
        """Return the one recovery that is due."""
        with self.database.reader() as tx:
            (due,) = recoveries.due(tx, self.clock, 9)
        return due

    def claim_or_finish(
        self, is_active: bool = False, verdict: Verdict = IT_FAILED
    ) -> Claim | None:
        """Take up the one recovery that is due."""
        due = self.due_recovery()
        if due.state == RecoveryState.WAITING:
            self.database.run(self.attempts().end_wait, due, is_active)
            return None
        return self.take_up(due, verdict)

    def take_up(self, due: Recovery, verdict: Verdict = IT_FAILED) -> Claim | None:
        """Decide about a due recovery whose driver is to be called."""
        with self.database.reader() as tx:
            judged = incidents.get(tx, due.incident_id)
        return self.database.run(self.next_attempts().decide, due, judged, verdict)

    # -- what is in the database ---------------------------------------------------------------
    def events(self) -> list[Any]:
        with self.database.reader() as tx:
            return events.page(tx, Page(limit=10000, sort=[("id", "asc")]))

    def incidents(self) -> list[Incident]:
        with self.database.reader() as tx:
            return incidents.page(tx, Page(limit=10000, sort=[("opened_at", "asc")]))

    def incident(self) -> Incident:
        """The one incident that is open, or the newest one."""
        found = self.incidents()
        (one,) = [each for each in found if each.state in states.OPEN_INCIDENT_STATES] or found[
            -1:
        ]
        return one

    def attempted(self) -> list[tuple[str, int, int, str]]:
        """(driver, step, attempt, state) of the recoveries, oldest first."""
        with self.database.reader() as tx:
            found = recoveries.of_incident(tx, self.incident().incident_id)
        return [(one.driver, one.step, one.attempt, one.state) for one in found]

    def last_attempt(self) -> Any:
        with self.database.reader() as tx:
            return recoveries.of_incident(tx, self.incident().incident_id)[-1]

    def line(self) -> list[tuple[str, str]]:
        """(kind, message) of the incident's time line."""
        with self.database.reader() as tx:
            found = timeline_entries.of_incident(tx, self.incident().incident_id)
        self.assertEqual(sorted(one.at for one in found), [one.at for one in found])
        return [(one.kind, one.message) for one in found]

    def eventually_in(self, state: str) -> Incident:
        return eventually(
            lambda: (found := self.incident()).state == state and found,
            what=f"the incident becomes {state}",
        )

    def later(self, seconds: float) -> None:
        self.clock += round(seconds * SECOND)


def slowly(seconds: float) -> None:
    """Take so long, as something outside would."""
    time.sleep(seconds)
