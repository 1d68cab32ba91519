# SPDX-License-Identifier: Apache-2.0
"""What stands between a failure and its recovery, what is only tried, and whose word counts."""

from vmmonitor.engine.admission.check import Denied
from vmmonitor.model.incident import HoldReason, Verdict, VerdictKind
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import (
    FAIL,
    IT_FAILED,
    RUNS,
    SECOND,
    delivery,
    policy,
    step,
)


class GatesTest(base.EngineCase):
    def setUp(self):
        super().setUp()
        self.refusal = None
        self.asked = []
        self.store(delivery())

    def check(self, tx, incident, policy, now):
        self.asked.append((incident, policy))
        return self.refusal

    def ask(self, verdict=IT_FAILED):
        decide = self.decisions([self]).decide
        return self.database.run(decide, self.incident(), verdict)

    def refuse(
        self, move="hold", held_by=HoldReason.BUDGET, reason="too often", seconds=60, **more
    ):
        self.refusal = Denied(move, held_by, reason, self.clock + seconds * SECOND, **more)

    def test_a_gate_holds_it_and_lets_it_go(self):
        self.refuse(part_of="storm-1")
        self.assertIsNone(self.ask(Verdict(kind="failed", reason="it failed", priority=7)))
        incident = self.incident()
        self.assertEqual(("held", "budget", "too often"), incident_words(incident))
        self.assertEqual((7, "storm-1"), (incident.priority, incident.part_of))
        self.assertIn(("question", "failed: it failed"), self.line())
        self.later(60)
        self.refusal = None
        self.assertIsNotNone(self.ask())
        self.assertEqual(("recovering", "", "it failed"), incident_words(self.incident()))

    def test_refused_again_for_the_same_reason_is_not_told_again(self):
        self.refuse()
        self.ask()
        lines = len(self.line())
        self.later(60)
        self.refuse()
        self.ask()
        self.assertEqual(lines, len(self.line()))
        self.assertEqual(self.clock + 60 * SECOND, self.incident().hold_until)
        self.later(60)
        self.refuse(reason="still too often")
        self.ask()
        self.assertEqual(("hold", "still too often"), self.line()[-1])

    def test_from_held_to_silenced_and_back(self):
        self.refuse()
        self.ask()
        self.later(60)
        self.refuse("silence", HoldReason.SILENCE, "muted by jane")
        self.ask()
        self.assertEqual(("silenced", "silence", "muted by jane"), incident_words(self.incident()))
        self.later(60)
        self.refuse()
        self.ask()
        self.assertEqual(("held", "budget", "too often"), incident_words(self.incident()))

    def test_what_no_policy_acts_on_can_be_silenced_too(self):
        self.policies = self.load(policy(steps=[]))
        self.refuse("silence", HoldReason.SILENCE, "muted by jane")
        self.ask()
        self.assertEqual("silenced", self.incident().state)
        self.assertIsNone(self.asked[-1][1])
        self.later(60)
        self.refusal = None
        self.ask()
        self.assertEqual("unhandled", self.incident().state)

    def test_what_nobody_knows_can_be_silenced_too(self):
        self.conf.set_override("unknown_limit", 0, "recovery")
        self.refuse("silence", HoldReason.SILENCE, "muted by jane")
        self.ask(Verdict(kind="unknown", reason="nova is away"))
        self.assertEqual("silenced", self.incident().state)
        self.assertIsNone(self.asked[-1][1])

    def test_planned_is_not_asked_about(self):
        self.ask(Verdict(kind="planned", reason="somebody did it"))
        self.assertEqual([], self.asked)

    def test_manual_verdict_leaves_the_incident_unhandled(self):
        self.assertIsNone(self.ask(Verdict(kind=VerdictKind.MANUAL, reason="it was paused")))
        self.assertEqual(("unhandled", "", "it was paused"), incident_words(self.incident()))

    def test_manual_verdict_can_be_silenced(self):
        self.refuse("silence", HoldReason.SILENCE, "muted by jane")
        self.ask(Verdict(kind=VerdictKind.MANUAL, reason="it was paused"))
        self.assertEqual("silenced", self.incident().state)

    def test_maintenance_silences_until_it_is_over(self):
        self.ask(Verdict(kind=VerdictKind.MUTED, reason="host compute-1 is disabled in nova"))
        incident = self.incident()
        self.assertEqual(("silenced", HoldReason.MAINTENANCE), (incident.state, incident.held_by))
        self.later(self.conf.recovery.maintenance_interval)
        self.assertIsNotNone(self.ask())


class DryRunTest(base.EngineCase):
    def dry(self, **fields):
        self.policies = self.load(policy(**fields))
        self.store(delivery())
        self.recoveries(other=self.driver)

    def test_everywhere(self):
        self.conf.set_override("dry_run", True, "recovery")
        self.dry()
        self.assertIn("[recovery] dry_run", self.eventually_in("unhandled").reason)
        self.assertEqual([("fake", 0, 1, "skipped")], self.attempted())
        self.assertEqual([], self.driver.requests)
        self.assertIn("fake would have been called", self.last_attempt().message)

    def test_of_a_policy(self):
        self.dry(dry_run=True, steps=[step(), step("other")])
        self.assertIn("policy restart", self.eventually_in("unhandled").reason)
        self.assertEqual([("fake", 0, 1, "skipped")], self.attempted())
        self.assertEqual([], self.driver.requests)

    def test_of_a_step_goes_on_to_the_next(self):
        self.dry(steps=[step(dry_run=True), step("other", wait_for="nothing")])
        self.eventually_in("unhandled")
        wanted = [("fake", 0, 1, "skipped"), ("other", 1, 1, "succeeded")]
        self.assertEqual(wanted, self.attempted())
        self.assertEqual(["other"], [one.recovery.driver for one in self.driver.requests])


class ActiveTest(base.EngineCase):
    """A policy that waits for the expectation's word."""

    def setUp(self):
        super().setUp()
        self.policies = self.load(policy(steps=[step(wait_for="active", attempts=2)]))
        self.store(delivery())
        self.finish(self.decide())

    def test_it_says_so_at_last(self):
        self.assertEqual(self.clock + SECOND, self.last_attempt().look_at)
        self.later(1)
        self.assertIsNone(self.claim_or_finish())
        self.assertEqual("waiting", self.last_attempt().state)
        self.later(1)
        self.assertIsNone(self.claim_or_finish(is_active=True))
        self.assertEqual("succeeded", self.last_attempt().state)
        self.assertEqual("resolved", self.incident().state)

    def test_the_hosts_word_is_not_enough(self):
        self.store(delivery(RUNS))
        self.assertEqual("recovering", self.incident().state)
        self.later(1)
        self.claim_or_finish()
        self.assertEqual("waiting", self.last_attempt().state)

    def test_it_never_says_so(self):
        self.later(60)
        self.assertIsNone(self.claim_or_finish())
        self.assertEqual([("fake", 0, 1, "failed"), ("fake", 0, 2, "requested")], self.attempted())

    def test_the_workers_ask_until_it_does(self):
        self.expectation.active = False
        self.recoveries()
        self.later(1)
        self.expectation.active = True
        self.later(1)
        self.eventually_in("resolved")

    def test_a_failure_after_the_hosts_word_is_no_reason_to_restart_it(self):
        self.store(delivery(RUNS))
        self.later(60)
        self.claim_or_finish()
        self.assertEqual("resolved", self.incident().state)


class FailTest(base.EngineCase):
    def test_a_driver_that_fails_under_active_is_tried_again(self):
        self.policies = self.load(policy(steps=[step(wait_for="active", attempts=2)]))
        self.store(delivery())
        self.finish(self.decide(), FAIL)
        self.assertEqual([("fake", 0, 1, "failed"), ("fake", 0, 2, "requested")], self.attempted())


def incident_words(incident):
    return incident.state, incident.held_by, incident.reason
