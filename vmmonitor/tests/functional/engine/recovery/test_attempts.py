# SPDX-License-Identifier: Apache-2.0
"""What an outcome leads to: the next attempt, the next step, or the end."""

import dataclasses
from unittest import mock

from vmmonitor.db import recoveries
from vmmonitor.model import states
from vmmonitor.model.errors import Conflict
from vmmonitor.model.recovery import Outcome
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import (
    FAIL,
    FAIL_FOR_GOOD,
    RUNS,
    WAIT,
    delivery,
    policy,
    step,
)
from vmmonitor.tests.promises import shows

DONE = Outcome(move="succeed", message="posted")
NOTHING_TO_DO = Outcome(move="skip", message="it is paused by its owner")


class AttemptsCase(base.EngineCase):
    def setUp(self):
        super().setUp()
        self.store(delivery())

    def due_at(self) -> int | None:
        with self.database.reader() as tx:
            return recoveries.next_due(tx, self.clock - 1)

    def attempt_and_fail(self, outcome=FAIL):
        claim = self.decide() if self.incident().state == "pending" else self.claim_or_finish()
        self.finish(claim, outcome)


class OutcomeTest(AttemptsCase):
    def test_the_driver_did_its_part_and_then_the_instance_runs(self):
        self.finish(self.decide())
        self.assertEqual([("fake", 0, 1, "waiting")], self.attempted())
        self.assertEqual(NOON + 60 * SECOND, self.last_attempt().wait_until)
        self.store(delivery(RUNS))
        self.assertEqual([("fake", 0, 1, "succeeded")], self.attempted())
        self.assertEqual("resolved", self.incident().state)
        self.assertEqual(
            [
                "fake, attempt 1: calling the driver",
                "fake, attempt 1: started",
                f"fake, attempt 1: the instance runs again: {RUNS}",
                f"recovering -> resolved: the instance runs again: {RUNS}",
            ],
            [message for _, message in self.line()[-4:]],
        )

    def test_the_instance_runs_before_the_driver_answers(self):
        claim = self.decide()
        self.store(delivery(RUNS))
        self.assertEqual(("recovering", NOON), (self.incident().state, self.incident().running_at))
        self.finish(claim)
        self.assertEqual(("resolved", "succeeded"), (self.incident().state, self.state()))

    def test_it_runs_and_fails_again_before_the_driver_answers(self):
        claim = self.decide()
        self.store(delivery(RUNS), delivery())
        self.assertIsNone(self.incident().running_at)
        self.finish(claim)
        self.assertEqual(("recovering", "waiting"), (self.incident().state, self.state()))

    def test_the_same_in_two_batches_and_back(self):
        claim = self.decide()
        for cause in (RUNS, base.FAILURE, RUNS):
            self.store(delivery(cause))
        self.assertEqual(4, self.incident().event_count)
        self.finish(claim)
        self.assertEqual("resolved", self.incident().state)

    def test_an_event_to_record_does_not_undo_that_it_runs(self):
        claim = self.decide()
        self.store(delivery(RUNS), delivery("reboot/info"))
        self.finish(claim)
        self.assertEqual("resolved", self.incident().state)

    def test_what_the_recovery_itself_causes_belongs_to_the_incident(self):
        claim = self.decide()
        self.store(delivery("lifecycle.stopped/destroyed"))
        self.finish(claim)
        self.store(delivery("io_error/pause"))
        self.assertEqual((3, 1), (self.incident().event_count, len(self.incidents())))

    def test_nothing_is_waited_for(self):
        self.policies = self.load(policy(steps=[step(wait_for="nothing")]))
        self.finish(self.decide())
        self.assertEqual(("unhandled", "succeeded"), (self.incident().state, self.state()))
        self.assertEqual("fake has done its part", self.incident().reason)

    def test_a_driver_for_which_nothing_is_left_to_wait_for(self):
        self.finish(self.decide(), DONE)
        self.assertEqual(("unhandled", "succeeded"), (self.incident().state, self.state()))

    def test_the_same_when_it_runs(self):
        claim = self.decide()
        self.store(delivery(RUNS))
        self.finish(claim, DONE)
        self.assertEqual(("resolved", "succeeded"), (self.incident().state, self.state()))

    def test_there_was_nothing_to_do(self):
        self.finish(self.decide(), NOTHING_TO_DO)
        self.assertEqual(("unhandled", "skipped"), (self.incident().state, self.state()))
        self.assertEqual(NOTHING_TO_DO.message, self.incident().reason)

    def test_a_failure_that_is_contradicted_waits_for_the_next_word(self):
        claim = self.decide()
        self.store(delivery(RUNS))
        self.finish(claim, FAIL)
        self.assertEqual(("recovering", "waiting"), (self.incident().state, self.state()))
        self.later(2)
        self.claim_or_finish()
        self.assertEqual(("resolved", "succeeded"), (self.incident().state, self.state()))

    def test_a_failure_for_good_of_what_runs(self):
        claim = self.decide()
        self.store(delivery(RUNS))
        self.finish(claim, FAIL_FOR_GOOD)
        self.assertEqual(("resolved", "failed"), (self.incident().state, self.state()))

    def state(self) -> str:
        return self.attempted()[-1][-1]


class RetryTest(AttemptsCase):
    def test_backoff_is_exact(self):
        self.attempt_and_fail()
        self.assertEqual(NOON + 4 * SECOND, self.due_at())
        self.assertEqual(("recovery", "attempt 2 of 3 in 4.0 s"), self.line()[-1])
        self.later(4)
        self.attempt_and_fail()
        self.assertEqual(NOON + 12 * SECOND, self.due_at())
        self.later(8)
        self.attempt_and_fail()
        self.assertEqual([("fake", 0, n, "failed") for n in (1, 2, 3)], self.attempted())
        self.assertEqual("unrecovered", self.incident().state)
        self.assertEqual("every step failed, the last with: no", self.incident().reason)
        self.assertIsNone(self.due_at())

    def test_jitter_only_shortens(self):
        backoff = {"initial": 4, "factor": 1, "max": 10, "jitter": 0.5}
        self.policies = self.load(policy(steps=[step(backoff=backoff)]))
        with mock.patch("random.random", return_value=1.0):
            self.attempt_and_fail()
        self.assertEqual(NOON + 2 * SECOND, self.due_at())

    def test_attempts_without_end(self):
        self.policies = self.load(policy(steps=[step(attempts=-1), step("other")]))
        for _ in range(25):
            self.attempt_and_fail()
            self.later(10)
        self.assertEqual(("fake", 0, 26, "requested"), self.attempted()[-1])
        self.assertEqual(
            self.last_attempt().created_at + 10 * SECOND, self.last_attempt().not_before
        )

    def test_steps_are_fallbacks_and_some_are_skipped(self):
        steps = [step("none", enabled=False), step(), step("none", enabled=False), step("other")]
        self.policies = self.load(policy(steps=steps))
        self.attempt_and_fail(FAIL_FOR_GOOD)
        self.assertEqual(NOON, self.due_at(), "the next step waits for nothing")
        self.attempt_and_fail(FAIL_FOR_GOOD)
        self.assertEqual([("fake", 1, 1, "failed"), ("other", 3, 1, "failed")], self.attempted())
        self.assertEqual("unrecovered", self.incident().state)

    @shows("P11")
    def test_next_step_waits_until_an_order_without_an_answer_has_expired(self):
        """The host may still start the instance, and the next step may start it elsewhere."""
        self.policies = self.load(policy(steps=[step(timeout=20), step("other")]))
        self.attempt_and_fail(dataclasses.replace(FAIL_FOR_GOOD, answered=False))
        self.assertEqual(NOON + 20 * SECOND, self.due_at())
        wait = "in 20.0 s, when the order without an answer has expired"
        self.assertEqual(("recovery", f"next step, 2 of 2: other, {wait}"), self.line()[-1])

    def test_the_word_of_a_failed_attempt_may_come_after_its_answer(self):
        self.attempt_and_fail()
        self.store(delivery("lifecycle.resumed/unpaused", action="record"))
        self.store(delivery("io_error/pause"))
        self.assertEqual(["recovering"], [one.state for one in self.incidents()])
        self.later(4)
        self.attempt_and_fail()
        self.assertEqual(["failed", "failed", "requested"], [one[-1] for one in self.attempted()])

    def test_one_that_was_seen_running_since_an_attempt_failed_is_left_alone(self):
        self.attempt_and_fail()
        self.store(delivery(RUNS))
        self.later(4)
        self.assertIsNone(self.claim_or_finish())
        self.assertEqual(
            ("resolved", "cancelled"), (self.incident().state, self.attempted()[-1][-1])
        )

    def test_an_instance_that_runs_during_the_backoff(self):
        self.attempt_and_fail()
        self.later(3)
        self.store(delivery(RUNS))
        self.assertEqual(
            ("resolved", "cancelled"), (self.incident().state, self.attempted()[-1][-1])
        )
        self.assertIsNone(self.due_at())

    def test_what_the_failed_attempt_caused_may_come_after_its_answer(self):
        self.attempt_and_fail()
        self.store(delivery(RUNS), delivery())
        self.assertEqual("requested", self.attempted()[-1][-1])
        self.assertEqual(3, self.incident().event_count)
        self.later(4)
        self.assertIsNotNone(self.claim_or_finish())

    def test_one_that_runs_by_the_time_of_the_next_attempt(self):
        self.attempt_and_fail()
        self.store(delivery(RUNS))
        self.assertEqual("recovering", self.incident().state)
        self.later(4)
        self.assertIsNone(self.claim_or_finish())
        self.assertEqual(
            ("resolved", "cancelled"), (self.incident().state, self.attempted()[-1][-1])
        )

    def test_one_that_is_not_seen_in_time(self):
        self.finish(self.decide())
        self.later(60)
        self.assertIsNone(self.claim_or_finish())
        self.assertEqual(["failed", "requested"], [one[-1] for one in self.attempted()])
        self.assertIn(
            "fake, attempt 1: the instance was not seen running in time",
            [message for _, message in self.line()],
        )
        self.assertEqual(NOON + 64 * SECOND, self.due_at())


class PolicyGoneTest(AttemptsCase):
    def gone(self):
        self.policies = self.load(policy("another"))

    def ended(self, *attempts: str) -> None:
        self.assertEqual(list(attempts), [one[-1] for one in self.attempted()])
        self.assertEqual("unrecovered", self.incident().state)
        self.assertEqual("policy restart is no longer in force", self.incident().reason)

    def test_while_requested(self):
        self.attempt_and_fail()
        self.gone()
        self.later(4)
        self.assertIsNone(self.claim_or_finish())
        self.ended("failed", "cancelled")

    def test_while_running(self):
        claim = self.decide()
        self.gone()
        self.finish(claim, FAIL)
        self.ended("failed")

    def test_while_running_in_an_engine_that_died(self):
        self.decide()
        self.gone()
        self.later(30)
        self.assertIsNone(self.claim_or_finish())
        self.ended("failed")

    def test_the_same_although_it_runs(self):
        self.decide()
        self.store(delivery(RUNS))
        self.gone()
        self.later(30)
        self.claim_or_finish()
        self.assertEqual("resolved", self.incident().state)

    def test_while_waiting_it_is_still_waited_for(self):
        self.finish(self.decide())
        self.gone()
        self.later(60)
        self.assertIsNone(self.claim_or_finish())
        self.ended("failed")

    def test_another_driver_at_its_place(self):
        self.attempt_and_fail()
        self.policies = self.load(policy(steps=[step("other")]))
        self.later(4)
        self.claim_or_finish()
        self.ended("failed", "cancelled")

    def test_fewer_attempts(self):
        self.attempt_and_fail()
        self.policies = self.load(policy(steps=[step(attempts=1), step("other")]))
        self.later(4)
        self.attempt_and_fail()
        self.assertEqual(("other", 1, 1, "requested"), self.attempted()[-1])


class TakeOverTest(AttemptsCase):
    def test_not_while_the_lease_lasts(self):
        self.decide()
        with self.database.reader() as tx:
            self.assertEqual([], recoveries.due(tx, NOON + 30 * SECOND - 1, 9))
            self.assertEqual(NOON + 30 * SECOND, recoveries.next_due(tx, NOON))

    def test_afterwards_and_what_the_first_one_says_then_does_no_harm(self):
        first = self.decide()
        self.later(30)
        second = self.claim_or_finish()
        self.assertEqual((False, True), (first.taken_over, second.taken_over))
        self.assertEqual(first.recovery.recovery_id, second.recovery.recovery_id)
        with self.assertRaises(Conflict):
            self.finish(first, FAIL_FOR_GOOD)
        self.assertEqual([("fake", 0, 1, "running")], self.attempted())
        self.assertEqual("recovering", self.incident().state)
        self.finish(second)
        self.assertEqual([("fake", 0, 1, "waiting")], self.attempted())

    def test_not_if_its_lease_was_renewed_meanwhile(self):
        claim = self.decide()
        self.later(30)
        with self.database.reader() as tx:
            (due,) = recoveries.due(tx, self.clock, 9)
        owner, until = claim.recovery.lease_owner, self.clock + SECOND
        key = (due.recovery_id, due.token)
        self.database.run(recoveries.renew_leases, owner, [key], until)
        with self.assertRaises(Conflict):
            self.take_up(due)

    def test_by_one_of_eight(self):
        self.decide()
        self.later(30)
        with self.database.reader() as tx:
            (due,) = recoveries.due(tx, self.clock, 9)
        answers = race(8, lambda _: self.take_up(due))
        self.assertEqual(7, sum(isinstance(answer, Conflict) for answer in answers))

    def test_an_outcome_of_what_has_ended_otherwise_does_no_harm(self):
        first = self.decide()
        self.later(30)
        self.finish(self.claim_or_finish())
        self.store(delivery(RUNS))
        with self.assertRaises(Conflict):
            self.finish(first, WAIT)
        self.assertEqual("resolved", self.incident().state)

    def test_a_second_decision_claims_nothing(self):
        judged = self.incident()
        self.decide()
        self.assertIsNone(self.database.run(self.decisions().decide, judged, base.IT_FAILED))
        self.assertEqual(1, len(self.attempted()))


class MovesTest(AttemptsCase):
    """An incident that is being recovered always has a recovery that is not over."""

    def test_whatever_becomes_of_it(self):
        endings = (WAIT, DONE, FAIL, FAIL_FOR_GOOD, NOTHING_TO_DO)
        for steps in ([step()], [step(attempts=1), step(wait_for="nothing")], [step(attempts=-1)]):
            self.policies = self.load(policy(steps=steps))
            for outcome in endings:
                for runs in (False, True):
                    self.one_story(outcome, runs)

    def one_story(self, outcome, runs):
        self.store(delivery(RUNS), delivery())
        claim = self.decide()
        if runs:
            self.store(delivery(RUNS))
        self.finish(claim, outcome)
        self.is_sound()
        while self.incident().state == "recovering":
            self.clock = self.due_at()
            if claim := self.claim_or_finish():
                self.finish(claim, FAIL_FOR_GOOD)
            self.is_sound()

    def is_sound(self):
        active = [one for one in self.attempted() if one[-1] in states.ACTIVE_RECOVERY_STATES]
        self.assertEqual(int(self.incident().state == "recovering"), len(active))
        self.assertIs(
            self.incident().state not in states.OPEN_INCIDENT_STATES,
            bool(self.incident().closed_at),
        )
        self.line()
