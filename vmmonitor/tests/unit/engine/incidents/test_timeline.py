# SPDX-License-Identifier: Apache-2.0
"""Texts and data of timeline entries."""

import dataclasses
import json
import unittest

from vmmonitor.engine.incidents import timeline
from vmmonitor.engine.reconcile import verdict as reconcile_verdict
from vmmonitor.expectation.libvirt import LibvirtExpectation
from vmmonitor.expectation.nova import NovaExpectation
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.model.recovery import Outcome
from vmmonitor.rules.policies import Policy, PolicyStep
from vmmonitor.tests.functional.db import samples

PLAIN = Verdict(kind=VerdictKind.FAILED, reason="it is down", priority=7)
POLICY = Policy(name="restart", hold=2.0, steps=(PolicyStep(driver="a"), PolicyStep(driver="b")))


class Asked:
    ASKED = "nova"
    QUESTION = "whether it should run here"


class TestVerdict(unittest.TestCase):
    def test_verdict_without_service_gets_that_of_expectation(self):
        verdict = timeline.with_query(PLAIN, Asked, 34_300)
        self.assertEqual(
            "asked nova whether it should run here: it is down -> failed (34 ms)",
            timeline.verdict_message(verdict),
        )
        self.assertEqual(
            {
                "asked": "nova",
                "question": "whether it should run here",
                "answer": "it is down",
                "verdict": "failed",
                "ms": 34.3,
            },
            timeline.verdict_data(verdict),
        )
        self.assertEqual(7, verdict.priority)

    def test_verdict_with_service_keeps_it(self):
        verdict = dataclasses.replace(PLAIN, asked="the weather", question="how it is")
        answered = timeline.with_query(verdict, Asked, 999)
        self.assertEqual(
            "asked the weather how it is: it is down -> failed", timeline.verdict_message(answered)
        )

    def test_message_of_verdict_without_query_has_reason_only(self):
        self.assertEqual("failed: it is down", timeline.verdict_message(PLAIN))

    def test_expectations_name_service_and_question(self):
        for one in (LibvirtExpectation, NovaExpectation):
            self.assertTrue(one.ASKED and one.QUESTION.startswith("whether "))

    def test_message_of_reconcile_verdict_names_reconciliation(self):
        verdict = reconcile_verdict.from_drift(samples.incident(cause="reconcile.two_hosts"))
        self.assertTrue(
            timeline.verdict_message(verdict).startswith("asked reconciliation what it found: ")
        )


class TestPlan(unittest.TestCase):
    def test_policy_data_contains_steps(self):
        event = samples.stored().event
        told = json.loads(json.dumps(timeline.policy_data(POLICY, event)))
        self.assertEqual((event.event_id, "restart", 2.0), tuple(told.values())[:3])
        self.assertEqual(["a", "b"], [step["driver"] for step in told["steps"]])
        self.assertEqual(2.0, told["steps"][0]["backoff"]["initial"])

    def test_policy_data_without_policy_is_empty(self):
        told = timeline.policy_data(None, samples.stored().event)
        self.assertEqual(("", 0.0, []), (told["policy"], told["hold"], told["steps"]))

    def test_messages_of_next_attempt_and_step_have_numbers(self):
        step = PolicyStep(driver="a", attempts=3)
        self.assertEqual("attempt 2 of 3 in 4.0 s", timeline.next_attempt_message(step, 2, 4.0))
        step = PolicyStep(driver="a", attempts=-1)
        self.assertEqual(
            "attempt 9, of any number, in 300.0 s", timeline.next_attempt_message(step, 9, 300.0)
        )
        self.assertEqual("next step, 2 of 2: b", timeline.next_step_message(POLICY, 1))


class TestDriver(unittest.TestCase):
    def test_call_and_answer_data_contain_attempt_and_duration(self):
        recovery = samples.recovery(step=1, attempt=2, driver="b", called_at=1_000_000)
        told = timeline.call_data(POLICY, recovery)
        self.assertEqual(
            ("b", 2, 3, 2, 2, 30.0),
            tuple(
                told[name] for name in ("asked", "attempt", "attempts", "step", "steps", "timeout")
            ),
        )
        outcome = Outcome(move="wait", message="started")
        told = timeline.outcome_data(outcome, POLICY.steps[1], recovery, 1_604_500)
        self.assertEqual(("b", "started", "wait", 604.5), tuple(
            told[name] for name in ("asked", "answer", "outcome", "ms")
        ))  # fmt: skip
