# SPDX-License-Identifier: Apache-2.0
"""Fence tokens, takeovers and their limit, and leases that are lost during a call."""

import threading

import sqlalchemy

from vmmonitor.db import recoveries
from vmmonitor.engine.admission.concurrency import RecoverySlots
from vmmonitor.model.errors import Conflict
from vmmonitor.model.incident import Verdict
from vmmonitor.model.recovery import Outcome
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import (
    FAIL,
    RUNS,
    SECOND,
    WAIT,
    delivery,
    policy,
    step,
)

UNKNOWN = Verdict(kind="unknown", reason="nova is working on the server: powering-off")


class TokenTest(base.EngineCase):
    def test_token_rises_with_each_claim_over_all_incidents(self) -> None:
        self.store(delivery())
        tokens = [self.claimed().recovery.token]
        for _ in range(2):
            self.finish(self.last, FAIL)
            self.later(8)
            tokens.append(self.claimed().recovery.token)
        self.later(30)
        tokens.append(self.claimed().recovery.token)
        self.finish(self.last, WAIT)
        self.store(delivery(RUNS))
        self.store(delivery())
        tokens.append(self.claimed().recovery.token)
        self.assertEqual(2, len(self.incidents()))
        self.assertEqual(sorted(set(tokens)), tokens)

    def claimed(self) -> base.Claim:
        self.last = self.decide() if self.incident().state == "pending" else self.claim_or_finish()
        return self.last


class TakeoverTest(base.EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.store(delivery())
        self.first = self.decide()

    def test_takeovers_are_counted_and_limited(self) -> None:
        self.conf.set_override("max_takeovers", 2, "recovery")
        for number in (1, 2):
            self.later(30)
            claim = self.claim_or_finish()
            self.assertEqual((True, number), (claim.taken_over, claim.recovery.takeovers))
        self.later(30)
        self.assertIsNone(self.claim_or_finish())
        self.assertEqual([("fake", 0, 1, "failed"), ("fake", 0, 2, "requested")], self.attempted())
        messages = [message for _, message in self.line()]
        self.assertTrue([each for each in messages if "it was taken over 2 times" in each])

    def test_driver_that_kills_each_engine_is_given_up_by_the_policy(self) -> None:
        self.conf.set_override("max_takeovers", 1, "recovery")
        self.policies = self.load(policy(steps=[step(attempts=2)]))
        calls = 1
        while self.incident().state == "recovering":
            self.later(30)
            calls += self.claim_or_finish() is not None
        self.assertEqual(("unrecovered", 4), (self.incident().state, calls))

    def test_takeover_with_unknown_verdict_is_postponed(self) -> None:
        self.later(30)
        self.assertIsNone(self.claim_or_finish(verdict=UNKNOWN))
        held = self.last_attempt()
        self.assertEqual(("running", self.clock + 10 * SECOND), (held.state, held.lease_until))
        self.assertEqual("unknown", self.incident().held_by)
        self.assertGreater(held.token, self.first.recovery.token)
        self.assertEqual(0, held.takeovers, "no driver was called")
        with self.assertRaises(Conflict):
            self.finish(self.first, WAIT)
        self.later(10)
        claim = self.claim_or_finish()
        self.assertTrue(claim.taken_over)
        self.assertEqual(("", 1), (self.incident().held_by, claim.recovery.takeovers))

    def test_takeover_needs_no_second_slot(self) -> None:
        self.conf.set_override("max_recoveries", 1, "limits")
        self.later(30)
        slots = RecoverySlots(self.conf)
        decide = self.next_attempts([slots], slots).decide
        due, judged = self.due_recovery(), self.incident()
        claim = self.database.run(decide, due, judged, base.IT_FAILED)
        self.assertTrue(claim.taken_over)


class LostLeaseTest(base.EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.conf.set_override("poll_interval", 0.05, "recovery")
        self.orders: list[str] = []
        self.is_stalled = threading.Event()
        self.go_on = threading.Event()
        self.addCleanup(self.go_on.set)
        self.store(delivery())

    def stop_and_start(self, request: base.RecoveryRequest) -> Outcome:
        """Give two orders, as a driver does that asks its lease before each."""
        for order in ("stop", "start"):
            if not request.lease.is_held():
                return Outcome(move="fail", message="the lease is lost", retry=True)
            self.orders.append(order)
            self.is_stalled.set()
            self.go_on.wait(20)
        return WAIT

    def test_recovery_that_was_taken_over_ends_the_driver_of_the_first_engine(self) -> None:
        self.driver.answer = self.stop_and_start
        first = self.recoveries()
        self.is_stalled.wait(20)
        running = self.last_attempt()
        lease = {"lease_owner": "another", "lease_until": self.clock + 60 * SECOND}
        changes = {**lease, "token": running.token + 1}
        transition = recoveries.transition
        self.database.run(transition, running, "take_over", now=self.clock, **changes)
        held = self.driver.requests[0].lease
        self.assertTrue(held.is_held())
        first._leases.renew()
        self.assertFalse(held.is_held())
        self.go_on.set()
        eventually(lambda: not len(first._workers), what="the driver has returned")
        self.assertEqual(["stop"], self.orders)
        self.assertEqual([("fake", 0, 1, "running")], self.attempted())

    def test_lease_that_expired_by_the_engines_clock_is_not_held(self) -> None:
        self.driver.answer = self.stop_and_start
        first = self.recoveries()
        self.is_stalled.wait(20)
        first._leases.stop(5)
        self.assertTrue(self.driver.requests[0].lease.is_held())
        self.later(self.conf.recovery.lease)
        self.assertFalse(self.driver.requests[0].lease.is_held())
        self.go_on.set()
        eventually(lambda: not len(first._workers), what="the driver has returned")
        self.assertEqual(["stop"], self.orders)

    def test_lease_of_a_driver_is_renewed_with_one_statement_for_all(self) -> None:
        self.store(*(delivery(uuid=samples.new_id()) for _ in range(3)))
        self.driver.answer = self.stop_and_start
        first = self.recoveries()
        eventually(lambda: len(self.driver.requests) == 4)
        first._leases.stop(5)
        statements: list[str] = []

        def count(connection: object, cursor: object, statement: str, *_: object) -> None:
            if threading.current_thread() is this_thread:
                statements.append(statement)

        this_thread = threading.current_thread()
        sqlalchemy.event.listen(self.database.engine, "before_cursor_execute", count)
        first._leases.renew()
        sent = [each.split()[0] for each in statements]
        self.assertEqual(["BEGIN", "UPDATE"], sent)
