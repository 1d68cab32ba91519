# SPDX-License-Identifier: Apache-2.0
"""An instance that fails again and again, and several that want a turn."""

from vmmonitor.db import incidents, limits, recoveries, timeline_entries
from vmmonitor.engine.admission.concurrency import EXAMINE_QUEUED_INTERVAL, RecoverySlots
from vmmonitor.engine.admission.restarts import RestartCheck
from vmmonitor.engine.recovery.decisions import Decisions
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.model.recovery import Outcome
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import (
    FAIL,
    IT_FAILED,
    NOON,
    RUNS,
    SECOND,
    WAIT,
    delivery,
    policy,
)

SKIP = Outcome(move="skip", message="nothing to do")


def words(incident):
    return incident.state, incident.held_by


class LimitedCase(base.EngineCase):
    """What decides has the gates that this part of the engine makes."""

    def setUp(self):
        super().setUp()
        self.slots = RecoverySlots(self.conf)

    def limit(self, **options):
        for name, value in options.items():
            self.conf.set_override(name, value, "limits")

    def next_attempts(self, checks=(), slots=None):
        checks = [*checks, RestartCheck(self.conf), self.slots]
        return super().next_attempts(checks, self.slots)

    def decisions(self, checks=()):
        checks = [*checks, RestartCheck(self.conf), self.slots]
        return Decisions(self.conf, self.attempts(), checks, self.database.now)


class RestartsTest(LimitedCase):
    def fail(self):
        self.store(delivery(occurred_at=self.clock))
        return self.decide()

    def runs(self):
        self.store(delivery(RUNS, occurred_at=self.clock))

    def recover(self, outcome=WAIT):
        """It fails, and is brought back within 2 s."""
        claim = self.fail()
        self.later(1)
        self.finish(claim, outcome)
        self.later(1)
        self.runs()

    def test_two_are_recovered_at_once_the_third_a_little_later(self):
        self.recover()
        self.later(60)
        self.recover()
        self.later(10)
        self.assertIsNone(self.fail())
        incident = self.incident()
        self.assertEqual(("held", "flapping"), words(incident))
        self.assertEqual("it failed 3 times in 74 s: waits 30 s", incident.reason)
        # The second ended 10 s ago.
        self.assertEqual(self.clock + 20 * SECOND, incident.hold_until)
        self.assertIn(("hold", "it failed 3 times in 74 s: waits 30 s"), [*self.reasons()])
        self.later(20)
        self.assertIsNotNone(self.decide())

    def reasons(self):
        for kind, message in self.line():
            yield ("hold" if kind == "state" else kind), message.split(": ", 1)[-1]

    def test_the_backoff_grows(self):
        self.limit(max_restarts=-1, flap_backoff_max=100)
        waited = []
        for _ in range(6):
            began = self.clock
            claim = self.fail()
            while claim is None:
                self.clock = self.incident().hold_until
                claim = self.decide()
            waited.append((self.clock - began) / SECOND)
            self.finish(claim)
            self.runs()
        self.assertEqual([0, 0, 30, 60, 100, 100], waited)

    def test_a_budget_is_used_up_and_comes_back(self):
        self.limit(flap_window=0)
        for _ in range(3):
            self.recover()
            self.later(600)
        self.assertIsNone(self.fail())
        incident = self.incident()
        self.assertEqual(("held", "budget"), words(incident))
        self.assertEqual(NOON + 3600 * SECOND, incident.hold_until)
        self.clock = incident.hold_until - 1
        self.assertIsNone(self.decide())
        self.clock += 1
        self.assertIsNotNone(self.decide())

    def test_it_runs_again_while_it_is_held(self):
        self.limit(flap_window=0, max_restarts=1)
        self.recover()
        self.fail()
        self.assertEqual(("held", "budget"), words(self.incident()))
        self.later(1)
        self.runs()
        self.assertEqual(("resolved", ""), words(self.incident()))

    def test_only_what_was_acted_upon_counts(self):
        self.limit(max_restarts=1)
        claim = self.fail()
        self.finish(claim, SKIP)
        self.later(1)
        self.runs()
        self.policies = self.load(policy(dry_run=True))
        self.later(1)
        self.finish(self.fail(), SKIP)
        self.later(1)
        self.runs()
        self.policies = self.load(policy())
        self.later(1)
        self.assertIsNotNone(self.fail())

    def test_all_attempts_for_one_failure_count_as_one(self):
        self.limit(max_restarts=2, flap_window=0)
        for _ in range(2):
            self.finish(self.fail(), FAIL)
            self.later(4)
            self.finish(self.claim_or_finish())
            self.later(1)
            self.runs()
        self.fail()
        self.assertEqual(("held", "budget"), words(self.incident()))

    def test_of_another_instance_it_is_not(self):
        self.limit(max_restarts=1)
        self.recover()
        self.store(delivery(uuid=samples.new_id()))
        self.assertIsNotNone(self.decide())

    def test_no_recovery_at_all(self):
        self.limit(max_restarts=0)
        self.assertIsNone(self.fail())
        self.assertEqual(("held", "budget"), words(self.incident()))

    def test_a_policy_has_limits_of_its_own(self):
        self.policies = self.load(policy(limits={"max_restarts": 1, "restart_window": 60}))
        self.recover()
        self.fail()
        incident = self.incident()
        self.assertEqual(("held", "budget"), words(incident))
        self.assertEqual(NOON + 60 * SECOND, incident.hold_until)

    def test_who_wants_it_all_the_same_gets_it_and_it_counts(self):
        self.limit(max_restarts=1, flap_window=0, max_recoveries_per_host=0)
        self.store(delivery())
        self.override()
        claim = self.decide()
        self.assertIsNotNone(claim)
        self.later(1)
        self.finish(claim)
        self.runs()
        self.limit(max_recoveries_per_host=-1)
        self.fail()
        self.assertEqual(("held", "budget"), words(self.incident()))

    def override(self):
        with self.database.writer() as tx:
            tx.exec_driver_sql("UPDATE incidents SET override = 'jane'")

    def test_what_no_policy_acts_on_is_left_as_ever(self):
        self.policies = self.load(policy(steps=[]))
        self.limit(max_restarts=0, max_recoveries_per_host=0)
        self.assertIsNone(self.fail())
        self.assertEqual(("unhandled", ""), words(self.incident()))


class TurnsTest(LimitedCase):
    def crowd(self, *uuids, host="compute-1", priority=0):
        """Instances that fail, one after another, and are decided on; returns the claims."""
        claims = []
        for uuid in uuids:
            self.store(delivery(uuid=uuid, host=host, occurred_at=self.clock))
            verdict = Verdict(kind=VerdictKind.FAILED, reason="it failed", priority=priority)
            claims.append(self.decide_on(uuid, verdict))
            self.later(1)
        return claims

    def decide_on(self, uuid, verdict=IT_FAILED):
        return self.database.run(self.decisions().decide, self.one(uuid), verdict)

    def one(self, uuid):
        (found,) = [one for one in self.incidents() if one.instance.uuid == uuid]
        return found

    def call_up(self):
        """As the dispatcher does; returns the instances whose turn has come."""
        with self.database.reader() as tx:
            ids = self.slots.next(tx, self.clock)
        for incident_id in ids:
            self.database.run(limits.make_due, incident_id, self.clock)
        with self.database.reader() as tx:
            return [incidents.get(tx, one).instance.uuid for one in ids]

    def test_so_many_of_a_host_and_then_one_for_one(self):
        self.limit(max_recoveries_per_host=2)
        claims = self.crowd(*"abcd")
        self.assertEqual([True, True, False, False], [bool(one) for one in claims])
        waits = self.one("c")
        self.assertEqual(("held", "concurrency"), words(waits))
        self.assertEqual(
            "queued: the limit of 2 concurrent recoveries on host compute-1 is reached",
            waits.reason,
        )
        self.assertEqual([], self.call_up())
        self.finish(claims[0])
        self.assertEqual([], self.call_up(), "its instance is waited for: it loads the host")
        self.store(delivery(RUNS, uuid="a", occurred_at=self.clock))
        self.assertEqual(["c"], self.call_up())
        self.assertEqual([], self.call_up(), "it knows")
        self.assertIsNone(self.decide_on("d"))
        claim = self.decide_on("c")
        self.assertEqual(("recovering", ""), words(claim.incident))
        self.assertEqual([], self.call_up())

    def test_who_is_not_called_up_is_looked_at_once_in_a_while(self):
        self.limit(max_recoveries_per_host=1)
        self.crowd(*"ab")
        decided_at = self.clock - SECOND
        self.assertEqual(decided_at + EXAMINE_QUEUED_INTERVAL * SECOND, self.one("b").hold_until)
        lines = self.one("b")
        self.later(EXAMINE_QUEUED_INTERVAL)
        self.assertIsNone(self.decide_on("b"))
        self.assertGreater(self.one("b").hold_until, lines.hold_until)

    def test_in_all(self):
        self.limit(max_recoveries_per_host=2, max_recoveries=3)
        claims = self.crowd(*"abc", host="compute-1") + self.crowd(*"xyz", host="compute-2")
        self.assertEqual([True, True, False, True, False, False], [bool(one) for one in claims])
        self.assertIn("the limit of 3 concurrent recoveries is reached", self.one("z").reason)
        self.finish(claims[0], Outcome(move="fail", message="never"))
        self.assertEqual(["c"], self.call_up())

    def test_important_first_and_nobody_passes_those_called_up(self):
        self.limit(max_recoveries_per_host=1)
        (first,) = self.crowd("a")
        self.crowd("low", priority=-1)
        self.crowd("b", "c")
        self.crowd("high", priority=9)
        self.finish(first, Outcome(move="fail", message="never"))
        # Nobody has been called up yet, and all the same the turn is not for who comes now.
        self.assertEqual([None], self.crowd("new"))
        self.assertIn("recoveries of higher priority", self.one("new").reason)
        called = []
        while turn := self.call_up():
            called += turn
            claim = self.decide_on(
                *turn, Verdict(kind=VerdictKind.FAILED, reason="", priority=self.rank(turn))
            )
            self.finish(claim, Outcome(move="fail", message="never"))
        self.assertEqual(["high", "b", "c", "new", "low"], called)

    def rank(self, turn):
        return self.one(*turn).priority

    def test_who_is_still_more_important_when_it_comes_first_takes_the_turn(self):
        self.limit(max_recoveries_per_host=1)
        (first,) = self.crowd("a")
        self.crowd("b")
        self.finish(first, Outcome(move="fail", message="never"))
        self.assertEqual(["b"], self.call_up())
        self.assertIsNotNone(*self.crowd("high", priority=9))
        self.assertIsNone(self.decide_on("b"))
        self.assertEqual(("held", "concurrency"), words(self.one("b")))

    def test_who_is_unknown_when_its_turn_comes_gives_it_to_the_next(self):
        self.limit(max_recoveries_per_host=1)
        (first,) = self.crowd("a")
        self.crowd("b", "c")
        self.finish(first, Outcome(move="fail", message="never"))
        self.assertEqual(["b"], self.call_up())
        self.decide_on("b", Verdict(kind=VerdictKind.UNKNOWN, reason="nova is away"))
        self.assertEqual(("held", "unknown"), words(self.one("b")))
        self.assertEqual(["c"], self.call_up())

    def test_none_and_any_number(self):
        self.limit(max_recoveries_per_host=0)
        self.assertEqual([None], self.crowd("a"))
        self.limit(max_recoveries_per_host=-1, max_recoveries=-1)
        self.assertEqual(["a"], self.call_up())
        self.assertNotIn(None, self.crowd(*"bcdefghijklm"))

    # -- further attempts ----------------------------------------------------------------------
    def test_a_further_attempt_needs_a_turn_too(self):
        self.limit(max_recoveries_per_host=1)
        (first,) = self.crowd("a")
        self.crowd("b")
        self.finish(first, FAIL)
        self.assertEqual(["b"], self.call_up(), "a backoff keeps nobody waiting")
        second = self.decide_on("b")
        self.later(4)
        self.assertIsNone(self.claim_or_finish())
        waits = self.one("a")
        self.assertEqual(("recovering", "concurrency"), words(waits))
        self.assertIn("fake, attempt 2: queued: the limit of 1 ", waits.reason)
        with self.database.reader() as tx:
            self.assertEqual([], recoveries.due(tx, self.clock + SECOND, 9))
        self.crowd("c")
        self.finish(second, Outcome(move="fail", message="never"))
        self.assertEqual(["a"], self.call_up(), "it is down for longer than c")
        claim = self.claim_or_finish()
        self.assertEqual(2, claim.recovery.attempt)
        self.assertEqual("", self.one("a").held_by)
        self.assertEqual("fake, attempt 2: has a free slot", self.one("a").reason)

    def test_it_is_told_once_that_a_further_attempt_waits(self):
        self.limit(max_recoveries_per_host=1)
        self.conf.set_override("lease", 3600, "recovery")
        (first,) = self.crowd("a")
        self.finish(first, FAIL)
        self.crowd("b")
        for _ in range(3):
            self.later(EXAMINE_QUEUED_INTERVAL)
            self.assertIsNone(self.claim_or_finish())
        with self.database.reader() as tx:
            steps = timeline_entries.of_incident(tx, self.one("a").incident_id)
        self.assertEqual(1, sum("queued: " in one.message for one in steps))

    def test_it_runs_again_while_a_further_attempt_waits(self):
        self.limit(max_recoveries_per_host=1)
        (first,) = self.crowd("a")
        self.finish(first, FAIL)
        self.crowd("b")
        self.later(4)
        self.claim_or_finish()
        self.later(1)
        self.store(delivery(RUNS, uuid="a", occurred_at=self.clock))
        self.assertEqual(("resolved", ""), words(self.one("a")))

    def test_who_is_taken_over_has_its_turn(self):
        self.limit(max_recoveries_per_host=1)
        self.crowd("a")
        self.later(self.conf.recovery.lease)
        claim = self.claim_or_finish()
        self.assertTrue(claim.taken_over)
