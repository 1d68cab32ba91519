# SPDX-License-Identifier: Apache-2.0
"""Unhandled incidents are judged again at an interval."""

from vmmonitor.db import reviews
from vmmonitor.model.incident import Verdict
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import SECOND, delivery, policy

GONE = Verdict(kind="gone", reason="it was deleted in nova")
UNKNOWN = Verdict(kind="unknown", reason="nova does not answer")
MANUAL = Verdict(kind="manual", reason="the resize waits for a confirmation")
OTHER = "1f0c3e8a-9d4b-4a54-8f43-5a1f0e6f7b21"


class ReviewTest(base.EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.conf.set_override("poll_interval", 0.05, "recovery")
        self.policies = self.load(policy(steps=[]))
        self.store(delivery())
        self.decide()
        self.assertEqual("unhandled", self.incident().state)

    def asked(self, count: int) -> None:
        eventually(lambda: len(self.expectation.asked) == count, what=f"{count} verdicts")

    def test_unhandled_incident_of_a_deleted_instance_is_closed(self) -> None:
        self.expectation.answer = lambda *_: GONE
        self.recoveries()
        self.later(300)
        self.eventually_in("ignored")
        self.assertEqual(GONE.reason, self.incident().reason)
        question, state = self.line()[-2:]
        self.assertEqual("question", question[0])
        self.assertIn(f"{GONE.reason} -> gone", question[1])
        self.assertEqual(("state", f"unhandled -> ignored: {GONE.reason}"), state)
        self.assertEqual([], self.driver.requests)

    def test_unhandled_incident_that_is_a_failure_is_judged_once_per_interval(self) -> None:
        self.recoveries()
        for count in (1, 2, 3):
            self.later(300)
            self.asked(count)
        self.later(299)
        with self.database.reader() as tx:
            before = self.clock - 300 * SECOND
            self.assertEqual([], reviews.unhandled_since(tx, before, 9))
        self.assertEqual("unhandled", self.incident().state)

    def test_unknown_verdict_changes_nothing(self) -> None:
        self.expectation.answer = lambda *_: UNKNOWN
        entries = len(self.line())
        self.recoveries()
        self.later(300)
        self.asked(1)
        self.assertEqual(("unhandled", entries), (self.incident().state, len(self.line())))

    def test_incident_with_a_newer_event_is_not_closed(self) -> None:
        judged = self.incident()
        self.store(delivery())
        self.assertFalse(self.database.run(self.decisions().review, judged, GONE))
        self.assertEqual("unhandled", self.incident().state)

    def test_incident_left_by_a_manual_verdict_is_recovered_when_that_is_over(self) -> None:
        """nova cannot restart a server that waits for the confirmation of a resize."""
        self.policies = self.load(policy())
        self.store(delivery(uuid=OTHER))
        decisions = self.decisions()
        (left,) = (one for one in self.incidents() if one.instance.uuid == OTHER)
        self.database.run(decisions.decide, left, MANUAL)
        (left,) = (one for one in self.incidents() if one.instance.uuid == OTHER)
        self.assertEqual("unhandled", left.state)
        self.assertFalse(self.database.run(decisions.review, left, MANUAL))
        self.assertTrue(self.database.run(decisions.review, left, base.IT_FAILED))
        (released,) = (one for one in self.incidents() if one.instance.uuid == OTHER)
        self.assertEqual(("pending", self.clock), (released.state, released.hold_until))
        self.assertIsNotNone(self.database.run(decisions.decide, released, base.IT_FAILED))

    def test_review_is_begun_by_one_of_several_engines(self) -> None:
        self.later(300)
        given = (self.incident().incident_id, self.clock - 300 * SECOND, self.clock)
        began = race(4, lambda _: self.database.run(reviews.begin_review, *given))
        self.assertEqual(1, sum(began))

    def test_interval_of_zero_requests_no_verdict(self) -> None:
        self.conf.set_override("unhandled_interval", 0, "recovery")
        made = self.recoveries()
        self.later(10**6)
        made._review_unhandled(self.clock)
        self.assertEqual([], self.expectation.asked)
