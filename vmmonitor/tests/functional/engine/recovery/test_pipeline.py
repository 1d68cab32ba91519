# SPDX-License-Identifier: Apache-2.0
"""Each call of a driver has a fresh verdict and passes all admission checks."""

from unittest import mock

from vmmonitor.db import incidents, recoveries
from vmmonitor.engine.admission.check import Denied
from vmmonitor.engine.admission.restarts import RestartCheck
from vmmonitor.engine.recovery import pipeline
from vmmonitor.expectation.libvirt import LibvirtExpectation
from vmmonitor.model.incident import HoldReason, Verdict
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import (
    FAIL,
    FAIL_FOR_GOOD,
    IT_FAILED,
    RUNS,
    SECOND,
    WAIT,
    delivery,
    policy,
    step,
)
from vmmonitor.tests.promises import shows

PLANNED = Verdict(kind="planned", reason="a user stopped it")
GONE = Verdict(kind="gone", reason="it was deleted")
UNKNOWN = Verdict(kind="unknown", reason="nova is working on the server: rebooting")
MUTED = Verdict(kind="muted", reason="nova-compute is disabled")
ENDED = [("fake", 0, 1, "failed"), ("fake", 0, 2, "cancelled")]
HELD = [("fake", 0, 1, "failed"), ("fake", 0, 2, "requested")]


class BackoffCase(base.EngineCase):
    """The first attempt has failed, and the second one is due after 4 s."""

    def setUp(self) -> None:
        super().setUp()
        self.store(delivery())

    def fail_once(self) -> None:
        self.finish(self.decide(), FAIL)
        self.later(4)


@shows("P4")
class PlannedTest(BackoffCase):
    def setUp(self) -> None:
        super().setUp()
        self.conf.set_override("poll_interval", 0.05, "recovery")

    def test_stop_by_owner_during_backoff_ends_the_recovery_with_every_driver(self) -> None:
        self.expectation = LibvirtExpectation(self.conf)
        self.policies = self.load(policy(steps=[step(attempts=2), step("webhook")]))
        self.driver.answer = lambda _: FAIL
        webhook = base.FakeDriver()
        self.recoveries(webhook=webhook)
        eventually(lambda: self.attempted() == HELD)
        self.later(2)
        self.store(delivery("lifecycle.stopped/destroyed", occurred_at=self.clock))
        self.later(2)
        self.eventually_in("ignored")
        self.assertEqual(ENDED, self.attempted())
        self.assertEqual((1, 0), (len(self.driver.requests), len(webhook.requests)))
        self.assertIn("a user or an operator stopped it", self.incident().reason)

    def test_stop_by_owner_during_a_call_ends_the_next_step(self) -> None:
        answers = [IT_FAILED, PLANNED]
        self.expectation.answer = lambda *_: answers.pop(0)
        self.policies = self.load(policy(steps=[step(), step("webhook")]))
        self.driver.answer = lambda _: FAIL_FOR_GOOD
        webhook = base.FakeDriver()
        self.recoveries(webhook=webhook)
        self.eventually_in("ignored")
        self.assertEqual(
            [("fake", 0, 1, "failed"), ("webhook", 1, 1, "cancelled")], self.attempted()
        )
        self.assertEqual([], webhook.requests)

    def test_deleted_instance_is_not_recovered_by_a_takeover(self) -> None:
        self.decide()
        self.later(30)
        self.expectation.answer = lambda *_: GONE
        self.recoveries()
        self.eventually_in("ignored")
        self.assertEqual([("fake", 0, 1, "cancelled")], self.attempted())
        self.assertEqual([], self.driver.requests)

    def test_stop_that_the_driver_caused_itself_is_no_plan(self) -> None:
        self.expectation = LibvirtExpectation(self.conf)

        def stop_and_fail(request: base.RecoveryRequest) -> base.Outcome:
            if request.recovery.attempt > 1:
                return WAIT
            self.store(delivery("lifecycle.stopped/destroyed", occurred_at=self.clock))
            return FAIL

        self.driver.answer = stop_and_fail
        self.recoveries()
        eventually(lambda: self.attempted() == HELD)
        self.later(4)
        eventually(lambda: len(self.driver.requests) == 2, what="the second attempt is made")
        self.assertEqual("recovering", self.incident().state)


class VerdictTest(BackoffCase):
    """Verdicts that are neither a failure nor a plan hold the next attempt."""

    def test_unknown_verdict_holds_the_attempt_until_it_is_known(self) -> None:
        self.fail_once()
        for _ in range(3):
            self.assertIsNone(self.claim_or_finish(verdict=UNKNOWN))
            self.assertEqual(HELD, self.attempted())
            incident = self.incident()
            self.assertEqual(("recovering", "unknown"), (incident.state, incident.held_by))
            self.later(self.conf.recovery.verdict_retry_interval)
        reason = f"fake, attempt 2: {UNKNOWN.reason}"
        self.assertEqual(reason, incident.reason)
        self.assertEqual(1, [message for _, message in self.line()].count(reason))
        claim = self.claim_or_finish()
        self.assertEqual(2, claim.recovery.attempt)
        self.assertEqual("", self.incident().held_by)
        self.finish(claim, WAIT)
        self.store(delivery(RUNS))
        self.assertEqual("resolved", self.incident().state)

    def test_verdict_that_stays_unknown_logs_one_warning(self) -> None:
        self.fail_once()
        self.conf.set_override("unknown_limit", 25, "recovery")
        with self.assertLogs("vmmonitor", "WARNING") as logs:
            for _ in range(6):
                self.assertIsNone(self.claim_or_finish(verdict=UNKNOWN))
                self.later(10)
        self.assertEqual(1, len([line for line in logs.output if "is held" in line]))

    def test_maintenance_that_began_meanwhile_holds_the_attempt(self) -> None:
        self.fail_once()
        self.assertIsNone(self.claim_or_finish(verdict=MUTED))
        self.assertEqual(HELD, self.attempted())
        self.assertEqual("maintenance", self.incident().held_by)
        self.later(self.conf.recovery.maintenance_interval)
        self.assertIsNotNone(self.claim_or_finish())

    def test_instance_that_runs_while_its_attempt_is_held_is_resolved(self) -> None:
        self.fail_once()
        self.claim_or_finish(verdict=MUTED)
        self.store(delivery(RUNS))
        self.assertEqual(("resolved", ""), (self.incident().state, self.incident().held_by))
        self.assertEqual(ENDED, self.attempted())

    def test_event_after_the_verdict_has_it_requested_again(self) -> None:
        self.fail_once()
        due, judged = self.due_recovery(), self.incident()
        self.store(delivery("lifecycle.stopped/destroyed"))
        decide = self.next_attempts().decide
        outdated = self.database.run(decide, due, judged, IT_FAILED)
        self.assertEqual(2, outdated.incident.event_count)
        self.assertEqual(HELD, self.attempted())

    def test_old_verdict_is_requested_again_before_the_call(self) -> None:
        self.conf.set_override("poll_interval", 0.05, "recovery")
        times = iter([0.0, pipeline.MAX_VERDICT_AGE + 1])
        clock = mock.patch.object(pipeline, "boot_time", lambda: next(times, 100.0))
        answers = [IT_FAILED, PLANNED]
        self.expectation.answer = lambda *_: answers.pop(0)
        with clock:
            self.recoveries()
            self.eventually_in("ignored")
        self.assertEqual(2, len(self.expectation.asked))
        self.assertEqual([], self.attempted())


class AdmissionTest(BackoffCase):
    """Each attempt passes the admission checks."""

    def setUp(self) -> None:
        super().setUp()
        self.denied: Denied | None = None
        self.fail_once()

    def check(self, tx, incident, policy, now) -> Denied | None:
        return self.denied

    def attempt(self, *checks):
        due, judged = self.due_recovery(), self.incident()
        decide = self.next_attempts([self, *checks]).decide
        return self.database.run(decide, due, judged, IT_FAILED)

    def deny(self, held_by: HoldReason, **more: str) -> None:
        until = self.clock + 60 * SECOND
        self.denied = Denied("hold", held_by, "not now", until, **more)
        self.assertIsNone(self.attempt())
        self.assertEqual(HELD, self.attempted())

    def test_denied_attempt_stays_requested_and_is_due_again(self) -> None:
        for held_by in (HoldReason.SILENCE, HoldReason.BUDGET, HoldReason.STORM):
            self.deny(held_by)
            incident = self.incident()
            self.assertEqual(
                ("recovering", held_by, "fake, attempt 2: not now"),
                (incident.state, incident.held_by, incident.reason),
            )
            self.later(59)
            with self.database.reader() as tx:
                self.assertEqual([], recoveries.due(tx, self.clock, 9))
            self.later(1)
        self.denied = None
        self.assertEqual(2, self.attempt().recovery.attempt)
        self.assertEqual("", self.incident().held_by)

    def test_attempt_that_a_storm_holds_belongs_to_the_storm(self) -> None:
        self.deny(HoldReason.STORM, part_of="storm-1")
        self.assertEqual("storm-1", self.incident().part_of)

    def test_retries_of_one_incident_do_not_use_up_its_budget(self) -> None:
        self.conf.set_override("max_restarts", 1, "limits")
        self.policies = self.load(policy(steps=[step(attempts=9)]))
        check = RestartCheck(self.conf)
        for number in range(2, 6):
            claim = self.attempt(check)
            self.assertEqual(number, claim.recovery.attempt)
            self.finish(claim, FAIL)
            self.later(10)

    def test_operator_override_admits_each_attempt(self) -> None:
        self.deny(HoldReason.BUDGET)
        with self.database.writer() as tx:
            incidents.set_override(tx, self.incident(), "jane", self.clock)
        self.later(60)
        self.assertIsNotNone(self.attempt())
