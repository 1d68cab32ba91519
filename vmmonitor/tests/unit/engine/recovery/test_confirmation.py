# SPDX-License-Identifier: Apache-2.0
"""The confirmation of failures by the agent of their host."""

import dataclasses
import os
import threading

import fixtures
import testtools

from vmmonitor import conf as configuration
from vmmonitor.engine.recovery.confirmation import (
    INSPECTIONS_PER_WORKER,
    Confirmation,
    find_contradiction,
)
from vmmonitor.model.errors import InvalidMessage, Retriable
from vmmonitor.model.event import CRITICAL, INCIDENT, Decision, StoredEvent
from vmmonitor.model.incident import IncidentKind, Verdict, VerdictKind
from vmmonitor.model.inspection import Inspection
from vmmonitor.rules.policies import Policy, PolicyStep
from vmmonitor.testing import builders
from vmmonitor.testing.agents import STOPPED, FakeAgents
from vmmonitor.tests.promises import shows

FAILED = Verdict(kind=VerdictKind.FAILED, reason="it failed", asked="nova", priority=3)
RUNS = Inspection(state="running", reason="booted", managed=True, process=True, answers=True)
CAUSES = (
    "lifecycle.stopped/failed",
    "process.exited",
    "reconcile.missing",
    "liveness.hung/monitor",
    "liveness.stalled/failed",
    "watchdog/reset",
    "lifecycle.suspended/ioerror",
    "lifecycle.crashed/panicked",
)


def found(state, **changes):
    lives = state not in ("shutoff", "absent", "")
    made = Inspection(
        state=state,
        reason="x",
        managed=state != "",
        process=lives,
        answers=None if lives else False,
    )
    return dataclasses.replace(made, **changes)


def policy(*drivers, enabled=True):
    steps = tuple(PolicyStep(driver=driver, enabled=enabled) for driver in drivers)
    return Policy(name="restart", hold=0, steps=steps)


def stored(event=None, authenticated=False):
    return StoredEvent(
        event=event or builders.event("lifecycle.stopped/failed"),
        decision=Decision(action=INCIDENT, severity=CRITICAL, rule="died"),
        incident_id="x",
        spooled_at=1,
        sent_at=1,
        received_at=1,
        stored_at=1,
        corrected_at=1,
        authenticated=authenticated,
    )


class ContradictionTest(testtools.TestCase):
    @shows("P4")
    def test_instance_that_runs_and_answers_contradicts_each_failure(self):
        for cause in CAUSES:
            self.assertEqual("it runs and answers", find_contradiction(RUNS, cause), cause)

    def test_instance_that_is_down_without_a_process_contradicts_none(self):
        for state in ("shutoff", "absent", ""):
            for cause in CAUSES:
                self.assertEqual("", find_contradiction(found(state), cause), (state, cause))

    def test_instance_that_lives_contradicts_a_stop(self):
        for state in ("running", "paused", "pmsuspended"):
            for answers in (None, False):
                living = found(state, answers=answers)
                for cause in ("lifecycle.stopped/failed", "process.exited", "reconcile.missing"):
                    message = find_contradiction(living, cause)
                    self.assertEqual(f"it is not stopped but {state} (x)", message)

    def test_hung_or_stalled_instance_does_not_answer(self):
        for answers in (None, False):
            running = found("running", answers=answers)
            for cause in ("liveness.hung/monitor", "liveness.stalled/failed", "watchdog/shutdown"):
                self.assertEqual("", find_contradiction(running, cause))

    def test_instance_that_a_failure_paused_or_crashed_contradicts_none(self):
        for state, cause in (
            ("paused", "lifecycle.suspended/ioerror"),
            ("paused", "watchdog/pause"),
            ("crashed", "lifecycle.crashed/panicked"),
        ):
            self.assertEqual("", find_contradiction(found(state, answers=True), cause))

    @shows("P11")
    def test_process_of_an_instance_that_libvirt_does_not_run_contradicts_each_failure(self):
        for state in ("shutoff", "absent"):
            for cause in CAUSES:
                message = find_contradiction(found(state, process=True), cause)
                self.assertEqual(
                    f"its QEMU process exists although libvirt reports {state}", message
                )

    def test_process_without_an_answer_of_libvirt_contradicts_a_stop_only(self):
        silent = found("", process=True)
        for cause in CAUSES[:3]:
            message = find_contradiction(silent, cause)
            self.assertEqual("its QEMU process exists although libvirt does not answer", message)
        for cause in CAUSES[3:]:
            self.assertEqual("", find_contradiction(silent, cause))


class ConfirmationTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.conf = configuration.new([], files=[])

    def confirm(self, inspection, verdict=FAILED, **changes):
        self.agents = FakeAgents(inspection=inspection)
        self.confirmation = Confirmation(self.conf, self.agents)
        incident = builders.incident()
        pending = self.confirmation.begin(incident, policy("libvirt"))
        return self.confirmation.confirm(verdict, incident, [stored(**changes)], pending)

    def test_confirmed_failure_keeps_its_verdict(self):
        self.assertEqual(FAILED, self.confirm(STOPPED))
        self.assertEqual([(builders.HOST, builders.UUID)], self.agents.inspected)

    def test_contradicted_failure_is_unknown_with_the_reason(self):
        verdict = self.confirm(RUNS)
        reason = "it failed, but the agent on compute-1 finds that it runs and answers"
        expected = dataclasses.replace(FAILED, kind=VerdictKind.UNKNOWN, reason=reason, runs=True)
        self.assertEqual(expected, verdict)

    def test_instance_that_does_not_answer_is_not_taken_for_one_that_runs(self):
        verdict = self.confirm(found("running", answers=None))
        self.assertEqual((VerdictKind.UNKNOWN, False), (verdict.kind, verdict.runs))

    def test_any_other_verdict_stays(self):
        for kind in VerdictKind:
            if kind != VerdictKind.FAILED:
                verdict = Verdict(kind=kind, reason="nova")
                self.assertEqual(verdict, self.confirm(RUNS, verdict))

    def test_failure_reported_by_a_silent_host_stands(self):
        for error in (Retriable("timeout: no answer"), InvalidMessage("state is missing")):
            self.assertEqual(FAILED, self.confirm(error))

    def test_failure_that_only_another_host_reported_is_unknown_without_an_answer(self):
        event = builders.event("lifecycle.stopped/failed", host="compute-2")
        verdict = self.confirm(Retriable("timeout: no answer"), event=event)
        self.assertEqual(VerdictKind.UNKNOWN, verdict.kind)
        self.assertIn("compute-1 did not confirm it", verdict.reason)

    @shows("P12")
    def test_failure_without_authentication_is_unknown_without_an_answer(self):
        with open(os.path.join(self.useFixture(fixtures.TempDir()).path, "key"), "w") as key:
            self.conf.set_override("master_key_file", key.name, "rpc")
        for mode in ("require", "log"):
            self.conf.set_override("signatures", mode, "rpc")
            silent = Retriable("timeout: no answer")
            self.assertEqual(VerdictKind.UNKNOWN, self.confirm(silent).kind)
            self.assertEqual(FAILED, self.confirm(silent, authenticated=True))
            event = builders.event("nova.error", source="nova_notifications")
            self.assertEqual(FAILED, self.confirm(silent, event=event))

    def test_no_agent_is_asked_if_no_driver_can_act(self):
        confirmation = Confirmation(configuration.new([], files=[]), FakeAgents())
        incident = builders.incident()
        for without in (None, policy(), policy("log"), policy("nova", enabled=False)):
            self.assertIsNone(confirmation.begin(incident, without))
        for kind in (IncidentKind.HOST, IncidentKind.STORM):
            other = builders.incident(kind=kind)
            self.assertIsNone(confirmation.begin(other, policy("nova")))
        self.assertEqual(FAILED, confirmation.confirm(FAILED, incident, [], None))

    def test_agents_that_hang_make_further_verdicts_unknown(self):
        over = threading.Event()
        self.addCleanup(over.set)
        agents = FakeAgents()
        agents.inspect = lambda *_: over.wait() and STOPPED
        conf = configuration.new([], files=[])
        confirmation = Confirmation(conf, agents)
        incident = builders.incident()
        for _ in range(INSPECTIONS_PER_WORKER * conf.recovery.workers):
            self.assertIsNotNone(confirmation.begin(incident, policy("nova")).found)
        pending = confirmation.begin(incident, policy("nova"))
        verdict = confirmation.confirm(FAILED, incident, [stored()], pending)
        self.assertEqual(VerdictKind.UNKNOWN, verdict.kind)
        self.assertIn("too many questions", verdict.reason)
