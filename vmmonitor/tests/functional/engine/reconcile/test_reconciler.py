# SPDX-License-Identifier: Apache-2.0
"""Reconciliation on a database: simultaneous engines, holds, restarts and errors."""

import dataclasses
from typing import Any

from vmmonitor.db import agents, drift_records, inventories
from vmmonitor.engine.ingest.local_events import LocalEvents
from vmmonitor.engine.reconcile import verdict
from vmmonitor.engine.reconcile.reconciler import Reconciler
from vmmonitor.expectation import Expectation
from vmmonitor.model.desired import DesiredSnapshot, DesiredState, DesiredStatus
from vmmonitor.model.errors import Retriable
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.model.states import AgentState
from vmmonitor.rules import defaults, filters, policies
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import UUID, delivery

WEB = Instance(uuid=UUID, name="web")
RUNNING = Seen(instance=WEB, state="running", reason="booted")


class Nova(Expectation):
    """Returns the desired states that a test sets."""

    def __init__(self) -> None:
        self.expected: list[DesiredState] = []
        self.whole = True
        self.until: int | None = 1
        self.asked: list[int | None] = []
        self.error: Exception | None = None

    def judge(self, incident: Any, events: Any) -> Any:
        raise AssertionError("is not queried here")

    def survey(self, since: Any, sights: Any) -> DesiredSnapshot:
        self.asked.append(since)
        if self.error:
            raise self.error
        return DesiredSnapshot(states=tuple(self.expected), whole=self.whole, until=self.until)

    def says(self, state: str, host: str = "a") -> None:
        self.expected = [DesiredState(instance=WEB, host=host, state=state)]


class ReconcileCase(base.EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.policies = policies.load(defaults.path(defaults.RECOVERY_POLICIES))
        self.filters = filters.load(defaults.path(defaults.EVENT_FILTERS))
        self.nova = Nova()
        self.reports = 0
        self.engine = self.reconciliation()
        self.local_events = self.engine._tracker._local_events

    def reconciliation(self, database: Any = None, expectation: Any = None) -> Reconciler:
        database = database or self.database
        local_events = LocalEvents(
            filters=self.filters,
            writer=self.ingest(database),
            store_timeout=10,
            now=database.now,
        )
        return Reconciler(
            conf=self.conf,
            database=database,
            expectation=expectation or self.nova,
            local_events=local_events,
        )

    def host(
        self, name: str = "a", *seen: Seen, state: str = AgentState.UP, **changes: Any
    ) -> None:
        """Store the report and the inventory of a host's agent."""
        self.reports += 1
        digest = str(self.reports)
        report = samples.report(host=name, state=state, inventory_digest=digest, interval=1000.0)
        report = dataclasses.replace(report, spool_depth=0)
        self.database.run(agents.store_report, dataclasses.replace(report, **changes), self.clock)
        self.database.run(inventories.replace, name, digest, seen, self.clock)

    def round(self, seconds: float = 60.0) -> list[str]:
        """Reconcile once; return the causes of all events until now."""
        self.engine.reconcile()
        self.later(seconds)
        return self.told()

    def told(self) -> list[str]:
        return [one.event.cause for one in self.events() if one.event.source == "reconcile"]

    def noted(self) -> Any:
        with self.database.reader() as tx:
            return drift_records.get(tx, UUID)


class ReconcileTest(ReconcileCase):
    def test_instance_in_desired_state_has_no_record(self):
        self.nova.says(DesiredStatus.RUNNING)
        self.host("a", RUNNING)
        self.assertEqual([], self.round() + self.round())
        self.assertIsNone(self.noted())

    def test_drift_is_reported_once_after_hold_and_once_at_its_end(self):
        self.nova.says(DesiredStatus.RUNNING)
        self.host("a")
        self.assertEqual([], self.round(30))
        self.assertEqual([], self.round(29))
        self.assertEqual([], self.round(1))
        told_at = self.clock
        self.assertEqual(["reconcile.missing"], self.round())
        self.assertEqual(["reconcile.missing"], self.round(1000) and self.round())
        (event,) = [one.event for one in self.events()]
        self.assertEqual(("a", told_at - 60_000_000), (event.host, event.occurred_at))
        self.assertEqual("running", event.attributes["expected"])
        self.assertEqual(
            ("pending", "not-running"), (self.incident().state, self.incident().policy)
        )
        self.host("a", RUNNING)
        self.assertEqual(["reconcile.missing", "reconcile.agrees/missing"], self.round())
        self.assertEqual("resolved", self.incident().state)
        self.assertIsNone(self.noted())
        self.assertEqual(2, len(self.round()))

    def test_drift_shorter_than_hold_is_not_reported(self):
        self.nova.says(DesiredStatus.RUNNING)
        for _ in range(3):
            self.host("a")
            self.round(30)
            self.host("a", RUNNING)
            self.round(40)
        self.assertEqual([], self.told())

    def test_changed_drift_is_reported_again(self):
        self.nova.says(DesiredStatus.RUNNING)
        self.host("a", dataclasses.replace(RUNNING, state="paused", reason="user"))
        self.round()
        self.round()
        self.host("a", dataclasses.replace(RUNNING, state="shutoff", reason="destroyed"))
        self.round()
        self.round()
        self.assertEqual(
            ["reconcile.paused/user", "reconcile.not_running/destroyed"], self.round()
        )
        self.host("a", RUNNING)
        self.assertEqual("reconcile.agrees/not_running", self.round()[-1])

    def test_untrusted_host_neither_starts_nor_ends_drift(self):
        self.nova.says(DesiredStatus.RUNNING)
        for state in (AgentState.BLIND, AgentState.STOPPED, AgentState.LATE):
            self.host("a", state=state)
            self.assertEqual([], self.round() + self.round())
        self.host("a")
        self.round()
        self.host("a", inventory_digest="on its way")
        self.database.run(
            agents.store_report, samples.report(host="a", inventory_digest="newer"), self.clock
        )
        self.assertEqual([], self.round() + self.round())
        self.assertIsNone(self.noted(), "the hold starts again")
        self.host("a")
        self.round()
        self.assertEqual(["reconcile.missing"], self.round())
        self.host("a", RUNNING, state=AgentState.BLIND)
        self.assertEqual(["reconcile.missing"], self.round())
        self.assertIsNotNone(self.noted())

    def test_silent_agent_is_not_trusted_before_it_is_late(self):
        self.nova.says(DesiredStatus.RUNNING)
        self.host("a", interval=10.0)
        self.later(31)
        self.assertEqual([], self.round() + self.round())
        self.assertIsNone(self.noted())

    def test_instance_on_two_hosts_is_not_recovered(self):
        self.host("a", RUNNING)
        self.host("b", RUNNING)
        self.round()
        self.assertEqual(["reconcile.two_hosts"], self.round())
        self.assertIsNone(self.decide())
        incident = self.incident()
        self.assertEqual(("unhandled", "critical"), (incident.state, incident.severity))
        self.host("b")
        self.assertEqual("reconcile.agrees/two_hosts", self.round()[-1])
        self.assertEqual("resolved", self.incident().state)

    def test_migration_is_not_reported(self):
        self.nova.says(DesiredStatus.BUSY)
        self.host("a", RUNNING)
        self.host("b", RUNNING)
        self.assertEqual([], self.round() + self.round())
        self.host("a", dataclasses.replace(RUNNING, state="shutoff", reason="migrated"))
        self.nova.says(DesiredStatus.RUNNING, "b")
        self.assertEqual([], self.round() + self.round())

    def test_instance_running_on_wrong_host_is_reported(self):
        self.nova.says(DesiredStatus.GONE)
        self.host("a", RUNNING)
        self.round()
        self.assertEqual(["reconcile.unexpected/booted"], self.round())
        self.nova.says(DesiredStatus.RUNNING, "b")
        self.round()
        self.assertEqual("reconcile.wrong_host/booted", self.round()[-1])

    def test_end_of_drift_does_not_resolve_failure_of_host(self):
        self.nova.says(DesiredStatus.RUNNING)
        self.host("a")
        self.round()
        self.round()
        self.store(delivery(host="a"))
        self.host("a", RUNNING)
        self.assertEqual("reconcile.agrees/missing", self.round()[-1])
        self.assertEqual("pending", self.incident().state)

    def test_end_of_drift_does_not_resolve_earlier_incident(self):
        self.store(delivery(host="a"))
        self.nova.says(DesiredStatus.RUNNING)
        self.host("a")
        self.round()
        self.round()
        self.assertEqual(1, len(self.incidents()), "the event attaches")
        self.host("a", RUNNING)
        self.assertEqual("reconcile.agrees/missing", self.round()[-1])
        self.assertEqual("pending", self.incident().state)


class VerdictTest(ReconcileCase):
    """A drift needs no verdict of the expectation."""

    def test_verdict_of_wrong_place_is_failed_without_query(self):
        for cause in ("two_hosts", "wrong_host/booted", "unexpected/booted"):
            found = verdict.from_drift(samples.incident(cause=f"reconcile.{cause}"))
            self.assertEqual("failed", found.kind)
        for cause in ("reconcile.missing", base.FAILURE):
            self.assertIsNone(verdict.from_drift(samples.incident(cause=cause)))


class DesiredStateTest(ReconcileCase):
    def test_refresh_requests_changes_and_hourly_snapshot(self):
        self.nova.says(DesiredStatus.RUNNING)
        self.host("a")
        self.round()
        self.nova.expected, self.nova.whole, self.nova.until = [], False, 2
        self.assertEqual(["reconcile.missing"], self.round())
        self.round()
        self.assertEqual([None, 1, 2], self.nova.asked)
        self.later(3600)
        self.round()
        self.assertIsNone(self.nova.asked[-1])

    def test_refresh_error_reports_nothing_and_restarts_hold(self):
        self.nova.says(DesiredStatus.RUNNING)
        self.host("a")
        self.round()
        self.nova.error = Retriable("nova is away")
        self.assertRaises(Retriable, self.engine.reconcile)
        self.later(600)
        self.nova.error = None
        self.assertEqual([], self.round(), "the hold starts again")
        self.assertEqual([None, 1, None], self.nova.asked)
        self.assertEqual(["reconcile.missing"], self.round())

    def test_expectation_without_snapshot_reports_nothing(self):
        class Plain(Expectation):
            judge = Nova.judge

        self.engine = self.reconciliation(expectation=Plain(self.conf))
        self.host("a", RUNNING)
        self.assertEqual([], self.round() + self.round())

    def test_thread_continues_after_error_and_stops(self):
        self.conf.set_override("interval", 0.01, "reconcile")
        self.engine.start()
        eventually(lambda: len(self.nova.asked) > 2)
        self.nova.error = ZeroDivisionError("a bug")
        asked = len(self.nova.asked)
        eventually(lambda: len(self.nova.asked) > asked + 2)
        self.engine.stop(10)
        self.assertFalse(self.engine._thread._thread.is_alive())


class EnginesTest(ReconcileCase):
    """Several engines reconcile at the same time."""

    def another(self) -> Reconciler:
        made = type(self.database)(self.conf)
        made.now = lambda: self.clock
        self.addCleanup(made.dispose)
        return self.reconciliation(made)

    def test_several_engines_report_drift_once(self):
        self.nova.says(DesiredStatus.RUNNING)
        engines = [self.another() for _ in range(3)]
        for state in ((), (), (RUNNING,), (), (), (RUNNING,)):
            self.host("a", *state)
            self.assertEqual([None] * 3, race(3, lambda number: engines[number].reconcile()))
            self.later(60)
        words = ["reconcile.missing", "reconcile.agrees/missing"]
        self.assertEqual(words * 2, self.told())
        self.assertEqual(["resolved"] * 2, [one.state for one in self.incidents()])

    def test_new_engine_continues_hold_of_previous_one(self):
        self.nova.says(DesiredStatus.RUNNING)
        self.host("a")
        self.round()
        self.engine = self.another()
        self.assertEqual(["reconcile.missing"], self.round())
        self.engine = self.another()
        self.assertEqual(["reconcile.missing"], self.round())
        self.host("a", RUNNING)
        self.engine = self.another()
        self.assertEqual("reconcile.agrees/missing", self.round()[-1])

    def test_event_of_killed_engine_is_not_reported_again(self):
        self.nova.says(DesiredStatus.RUNNING)
        self.host("a")
        self.round()
        before = self.noted()
        self.round(0)
        with self.database.writer() as tx:
            drift_records.change(tx, self.noted(), reported_key="", event_id="")
        self.assertEqual(before.first_seen_at, self.noted().first_seen_at)
        self.engine = self.another()
        self.assertEqual(["reconcile.missing"], self.round())
        self.assertNotEqual("", self.noted().reported_key)

    def test_drift_that_other_engine_ended_is_reported_over(self):
        self.nova.says(DesiredStatus.RUNNING)
        self.host("a")
        self.round()
        other = self.another()
        store = self.local_events.store

        def late(raws: Any) -> None:
            self.local_events.store = store
            self.host("a", RUNNING)
            other.reconcile()
            store(raws)

        self.local_events.store = late
        self.assertEqual(["reconcile.missing", "reconcile.agrees/missing"], self.round())
        self.assertEqual("resolved", self.incident().state)
        self.assertIsNone(self.noted())

    def test_report_that_could_not_be_stored_is_repeated(self):
        self.nova.says(DesiredStatus.RUNNING)
        self.host("a")
        self.round()
        store = self.local_events.store

        def away(_: Any) -> None:
            raise Retriable("the database is away")

        self.local_events.store = away
        self.assertRaises(Retriable, self.engine.reconcile)
        self.local_events.store = store
        self.assertEqual(["reconcile.missing"], self.round())
