# SPDX-License-Identifier: Apache-2.0
"""The sentences of a time line, and what they are made of."""

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
    def test_who_was_asked_is_added(self):
        verdict = timeline.answered(PLAIN, Asked, 34_300)
        self.assertEqual(
            "asked nova whether it should run here: it is down -> failed (34 ms)",
            timeline.message(verdict),
        )
        self.assertEqual(
            {
                "asked": "nova",
                "question": "whether it should run here",
                "answer": "it is down",
                "verdict": "failed",
                "ms": 34.3,
            },
            timeline.data(verdict),
        )
        self.assertEqual(7, verdict.priority)

    def test_who_says_it_himself_is_believed(self):
        verdict = dataclasses.replace(PLAIN, asked="the weather", question="how it is")
        answered = timeline.answered(verdict, Asked, 999)
        self.assertEqual(
            "asked the weather how it is: it is down -> failed", timeline.message(answered)
        )

    def test_a_verdict_for_which_nobody_was_asked(self):
        self.assertEqual("failed: it is down", timeline.message(PLAIN))

    def test_every_expectation_says_who_it_is_and_what_it_finds_out(self):
        for one in (LibvirtExpectation, NovaExpectation):
            self.assertTrue(one.ASKED and one.QUESTION.startswith("whether "))

    def test_what_reconciliation_found(self):
        verdict = reconcile_verdict.from_drift(samples.incident(cause="reconcile.two_hosts"), [])
        self.assertTrue(
            timeline.message(verdict).startswith("asked reconciliation what it found: ")
        )


class TestPlan(unittest.TestCase):
    def test_it_is_the_policy(self):
        event = samples.stored().event
        told = json.loads(json.dumps(timeline.chosen(POLICY, event)))
        self.assertEqual((event.event_id, "restart", 2.0), tuple(told.values())[:3])
        self.assertEqual(["a", "b"], [step["driver"] for step in told["steps"]])
        self.assertEqual(2.0, told["steps"][0]["backoff"]["initial"])

    def test_of_no_policy(self):
        told = timeline.chosen(None, samples.stored().event)
        self.assertEqual(("", 0.0, []), (told["policy"], told["hold"], told["steps"]))

    def test_what_comes_next(self):
        step = PolicyStep(driver="a", attempts=3)
        self.assertEqual("attempt 2 of 3 in 4.0 s", timeline.next_attempt(step, 2, 4.0))
        step = PolicyStep(driver="a", attempts=-1)
        self.assertEqual(
            "attempt 9, of any number, in 300.0 s", timeline.next_attempt(step, 9, 300.0)
        )
        self.assertEqual("next step, 2 of 2: b", timeline.next_step(POLICY, 1))


class TestDriver(unittest.TestCase):
    def test_what_it_is_asked_and_answers(self):
        recovery = samples.recovery(step=1, attempt=2, driver="b", called_at=1_000_000)
        told = timeline.call(POLICY, recovery)
        self.assertEqual(
            ("b", 2, 3, 2, 2, 30.0),
            tuple(
                told[name] for name in ("asked", "attempt", "attempts", "step", "steps", "timeout")
            ),
        )
        outcome = Outcome(move="wait", message="started")
        told = timeline.answer(outcome, POLICY.steps[1], recovery, 1_604_500)
        self.assertEqual(("b", "started", "wait", 604.5), tuple(
            told[name] for name in ("asked", "answer", "outcome", "ms")
        ))  # fmt: skip
