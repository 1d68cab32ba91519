# SPDX-License-Identifier: Apache-2.0
"""What an operator mutes is recorded, left alone, and looked at again when that is over."""

from vmmonitor.db import silences
from vmmonitor.db.page import Page
from vmmonitor.engine.admission.silences import SilenceCheck
from vmmonitor.engine.upkeep.housekeeping import DAY, Housekeeping
from vmmonitor.model.incident import HoldReason, Verdict, VerdictKind
from vmmonitor.model.silence import Silence
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import (
    IT_FAILED,
    NOON,
    RUNS,
    SECOND,
    delivery,
    policy,
    step,
)

HOUR = 3600


class SilencesCase(base.EngineCase):
    def setUp(self):
        super().setUp()
        self.silences = SilenceCheck()

    def mute(self, seconds: float = HOUR, **fields) -> Silence:
        """Have everything of compute-1 muted from now on."""
        ends_at = self.clock + seconds * SECOND
        times = {"created_at": self.clock, "starts_at": self.clock, "ends_at": ends_at}
        made = samples.silence(**{**times, **fields})
        self.database.run(silences.insert, made, 100)
        return made

    def end(self, silence: Silence) -> None:
        self.database.run(silences.expire, silence.silence_id, self.clock, "bob")

    def ask(self, verdict=IT_FAILED):
        decide = self.decisions([self.silences]).decide
        return self.database.run(decide, self.incident(), verdict)

    def words(self) -> tuple[str, str]:
        incident = self.incident()
        return incident.state, incident.held_by


class GateTest(SilencesCase):
    def test_muted_until_it_is_over_and_then_recovered(self):
        silence = self.mute()
        self.store(delivery())
        self.assertIsNone(self.ask())
        incident = self.incident()
        self.assertEqual(("silenced", HoldReason.SILENCE), self.words())
        self.assertEqual("silenced by ada until 2023-11-14 23:13:20Z: kernel", incident.reason)
        self.assertEqual(silence.ends_at, incident.hold_until)
        self.assertIn(("state", f"pending -> silenced: {incident.reason}"), self.line())
        self.later(HOUR)
        self.assertIsNotNone(self.ask())
        self.assertEqual(("recovering", ""), self.words())

    def test_runs_again_meanwhile(self):
        self.mute()
        self.store(delivery())
        self.ask()
        self.store(delivery(RUNS))
        self.assertEqual(("resolved", ""), self.words())
        self.assertEqual([], self.attempted())

    def test_deleted_meanwhile(self):
        self.mute()
        self.store(delivery())
        self.ask()
        self.later(HOUR)
        self.ask(Verdict(kind=VerdictKind.GONE, reason="deleted"))
        self.assertEqual("ignored", self.incident().state)

    def test_of_another_host(self):
        self.mute(match={"host": "compute-7"})
        self.store(delivery())
        self.assertIsNotNone(self.ask())

    def test_later(self):
        self.mute(starts_at=self.clock + 60 * SECOND)
        self.store(delivery())
        self.assertIsNotNone(self.ask())

    def test_the_longest_of_several_holds_it(self):
        self.mute(60)
        longest = self.mute(7200, author="eve", match={"instance.name": {"=~": "we.*"}})
        self.mute(9999, match={"instance.name": "db"})
        self.store(delivery())
        self.ask()
        self.assertEqual(longest.ends_at, self.incident().hold_until)
        self.assertIn("silenced by eve", self.incident().reason)

    def test_ended_early(self):
        silence = self.mute()
        self.store(delivery())
        self.ask()
        self.later(5)
        self.assertIsNone(self.ask())
        self.end(silence)
        self.assertEqual(self.clock, self.incident().hold_until)
        self.assertIsNotNone(self.ask())

    def test_ended_early_and_still_muted_by_another(self):
        first, other = self.mute(7200), self.mute(3600, author="eve")
        self.store(delivery())
        self.ask()
        self.end(first)
        self.assertIsNone(self.ask())
        self.assertEqual(("silenced", HoldReason.SILENCE), self.words())
        self.assertEqual(other.ends_at, self.incident().hold_until)
        self.assertEqual("hold", self.line()[-1][0])
        self.assertIn("silenced by eve", self.line()[-1][1])

    def test_created_a_moment_ago_it_holds(self):
        self.store(delivery())
        self.assertIsNone(self.gate_now())
        silence = self.mute()
        self.assertIsNotNone(self.gate_now())
        self.end(silence)
        self.assertIsNone(self.gate_now())

    def gate_now(self):
        with self.database.writer() as tx:
            return self.silences.check(tx, self.incident(), None, self.clock)

    def test_what_no_policy_acts_on(self):
        self.policies = self.load(policy(steps=[]))
        self.mute()
        self.store(delivery())
        self.ask()
        self.assertEqual("silenced", self.incident().state)
        self.later(HOUR)
        self.ask()
        self.assertEqual("unhandled", self.incident().state)

    def test_one_that_is_not_understood_mutes_nothing_and_keeps_none_from_it(self):
        self.mute(match={"colour": "red"})
        self.store(delivery())
        self.assertIsNone(self.gate_now())
        self.mute()
        self.assertIsNotNone(self.gate_now())


class WorkersTest(SilencesCase):
    """Engines that run, on one database."""

    def setUp(self):
        super().setUp()
        self.conf.set_override("poll_interval", 0.05, "recovery")

    def engines(self, count: int = 2):
        return [self.recoveries(checks=[SilenceCheck()]) for _ in range(count)]

    def test_ended_early_it_is_recovered_by_one_of_them(self):
        silence = self.mute()
        self.store(delivery())
        self.engines()
        self.eventually_in("silenced")
        self.assertEqual([], self.driver.requests)
        self.end(silence)
        self.eventually_in("recovering")
        self.store(delivery(RUNS))
        self.eventually_in("resolved")
        self.assertEqual(1, len(self.driver.requests))

    def test_over_by_itself(self):
        self.mute()
        self.store(delivery())
        self.engines()
        self.eventually_in("silenced")
        self.later(HOUR)
        self.eventually_in("recovering")

    def test_silence_during_backoff_holds_the_next_attempt(self):
        self.policies = self.load(policy(steps=[step(attempts=2)]))
        self.driver.answer = lambda request: (
            base.FAIL if request.recovery.attempt == 1 else base.WAIT
        )
        self.store(delivery())
        self.engines(1)
        base.eventually(lambda: len(self.attempted()) == 2)
        self.mute()
        self.later(10)
        base.eventually(lambda: self.incident().held_by == "silence", what="it is held")
        self.assertEqual([("fake", 0, 1, "failed"), ("fake", 0, 2, "requested")], self.attempted())
        self.later(HOUR)
        base.eventually(lambda: len(self.driver.requests) == 2)
        self.assertEqual(("recovering", ""), (self.incident().state, self.incident().held_by))

    def test_silence_ended_early_starts_the_held_attempt(self):
        self.policies = self.load(policy(steps=[step(attempts=2)]))
        self.driver.answer = lambda request: (
            base.FAIL if request.recovery.attempt == 1 else base.WAIT
        )
        self.store(delivery())
        self.engines(2)
        base.eventually(lambda: len(self.attempted()) == 2)
        silence = self.mute()
        self.later(10)
        base.eventually(lambda: self.incident().held_by == "silence", what="it is held")
        self.end(silence)
        base.eventually(lambda: len(self.driver.requests) == 2)

    def test_what_was_left_for_a_person_stays_so(self):
        self.policies = self.load(policy(steps=[step(wait_for="nothing")]))
        self.store(delivery())
        self.engines(1)
        self.eventually_in("unhandled")
        self.end(self.mute())
        self.mute()
        # Another one is muted meanwhile: they did look.
        self.store(delivery(uuid=samples.new_id()))
        base.eventually(lambda: "silenced" in [one.state for one in self.incidents()])
        self.assertEqual({"unhandled", "silenced"}, {one.state for one in self.incidents()})
        self.assertEqual(1, len(self.driver.requests))


class PurgeTest(SilencesCase):
    def test_what_is_long_over_goes(self):
        self.conf.set_override("keep_days", 2, "housekeeping")
        self.mute()
        self.clock = NOON + HOUR * SECOND + 2 * DAY
        Housekeeping(self.conf, self.database).purge()
        self.assertEqual(1, self.count())
        self.clock += 1
        Housekeeping(self.conf, self.database).purge()
        self.assertEqual(0, self.count())

    def count(self) -> int:
        with self.database.reader() as tx:
            return len(silences.page(tx, Page(limit=9), (), self.clock))
