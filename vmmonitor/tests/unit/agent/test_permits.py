# SPDX-License-Identifier: Apache-2.0
"""The permits of orders: token, expiry, and the confirmation of an engine."""

import threading

import fixtures
import testtools

from vmmonitor.agent.engine_clock import EngineClock
from vmmonitor.agent.fences import Fences
from vmmonitor.agent.permits import MAX_CONFIRMATION_AGE, Permits
from vmmonitor.agent.spool import SpoolUnavailable
from vmmonitor.model.errors import Retriable
from vmmonitor.model.order import RecoveryOrder
from vmmonitor.tests.promises import shows

SECOND = 1_000_000
UUID = "7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a11"


class FenceFile:
    """The part of the spool that stores tokens.

    :ivar stored: UUID -> token.
    :ivar is_full: nothing can be written.
    """

    def __init__(self):
        self.stored = {}
        self.is_full = False
        self.writes = 0

    def fences(self):
        return dict(self.stored)

    def store_fence(self, instance_uuid, token, now):
        if self.is_full:
            raise SpoolUnavailable("disk full")
        self.writes += 1
        self.stored[instance_uuid] = token


class Engine:
    """Answers whether a recovery is current.

    :ivar answers: the answers, in order; the last one stays.
    """

    def __init__(self):
        self.answers = [True]
        self.asked = []
        self.when_asked = lambda: None

    def check_recovery(self, *question):
        self.asked.append(question)
        self.when_asked()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class PermitFixture:
    """The permits of one host, with a clock that a test sets.

    :ivar engine_time: the engines' time now.
    """

    def __init__(self, engine_time=1_795_353_600 * SECOND):
        self.ticks = 0
        self.engine_time = engine_time
        self.clock = EngineClock(lambda: self.ticks)
        self.clock.add_sample(engine_time, 0, 0)
        self.file = FenceFile()
        self.engine = Engine()
        self.late = []
        self.restart()

    def restart(self):
        fences = Fences(self.file, lambda: 1)
        self.permits = Permits(
            host="compute-1", fences=fences, clock=self.clock, engine=self.engine
        )

    def pass_time(self, seconds):
        self.ticks += round(seconds * SECOND)
        self.engine_time += round(seconds * SECOND)
        self.clock.add_sample(self.engine_time, self.ticks, self.ticks)

    def issue(self, token=7, lasts=30.0, **changes):
        order = RecoveryOrder(
            instance_uuid=UUID,
            recovery_id="r1",
            token=token,
            expires_at=self.engine_time + round(lasts * SECOND),
            timeout=lasts,
        )
        return self.permits.issue(order, self.late.append)


class PermitTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.host = PermitFixture()

    def test_current_order_is_permitted_after_one_question(self):
        permit = self.host.issue()
        self.assertEqual(["", ""], [permit.find_obstacle(), permit.find_obstacle()])
        self.assertEqual([("compute-1", UUID, "r1", 7, 2.0)], self.host.engine.asked)

    def test_confirmation_that_is_too_old_is_repeated(self):
        self.host.engine.answers = [True, False]
        permit = self.host.issue()
        self.assertEqual("", permit.find_obstacle())
        self.host.pass_time(MAX_CONFIRMATION_AGE / SECOND + 0.1)
        self.assertEqual("the recovery is no longer current", permit.find_obstacle())
        self.assertEqual(2, len(self.host.engine.asked))

    def test_order_that_no_engine_confirms_is_not_permitted(self):
        self.host.engine.answers = [Retriable("timeout: no answer")]
        self.assertIn("timeout: no answer", self.host.issue().find_obstacle())

    @shows("P11")
    def test_order_that_expires_during_a_hung_call_is_not_permitted(self):
        permit = self.host.issue(lasts=30)
        self.host.pass_time(29)
        self.assertEqual("", permit.find_obstacle())
        self.host.pass_time(2)
        self.assertIn("expired 1.0 s ago", permit.find_obstacle())

    def test_order_that_expires_during_the_question_is_not_permitted(self):
        self.host.engine.when_asked = lambda: self.host.pass_time(31)
        self.assertIn("expired 1.0 s ago", self.host.issue(lasts=30).find_obstacle())

    def test_expiry_is_checked_with_the_time_that_the_confirmation_brings(self):
        host = self.host
        host.clock = EngineClock(lambda: host.ticks)
        host.restart()
        host.engine.when_asked = lambda: host.clock.add_sample(
            host.engine_time + 40 * SECOND, 0, 0
        )
        self.assertIn("expired 10.0 s ago", host.issue(lasts=30).find_obstacle())

    @shows("P11")
    def test_newer_order_ends_an_older_one_that_hangs(self):
        older = self.host.issue(token=7)
        self.assertEqual("", older.find_obstacle())
        self.assertEqual("", self.host.issue(token=8).find_obstacle())
        self.assertIn("token 7 of the order is older", older.find_obstacle())

    def test_order_that_no_engine_confirms_ends_no_other_order(self):
        honest = self.host.issue(token=7)
        self.assertEqual("", honest.find_obstacle())
        self.host.engine.answers = [False]
        forged = self.host.issue(token=10**6)
        self.assertEqual("the recovery is no longer current", forged.find_obstacle())
        self.assertEqual("", honest.find_obstacle())
        self.assertEqual({UUID: 7}, self.host.file.stored)

    def test_repeated_order_with_an_equal_token_is_permitted(self):
        self.assertEqual("", self.host.issue(token=7).find_obstacle())
        self.assertEqual("", self.host.issue(token=7).find_obstacle())
        self.assertEqual(1, self.host.file.writes)

    def test_older_order_is_refused_after_a_restart_of_the_agent(self):
        self.assertEqual("", self.host.issue(token=8).find_obstacle())
        self.host.restart()
        asked = len(self.host.engine.asked)
        self.assertIn("token 7 of the order is older", self.host.issue(token=7).find_obstacle())
        self.assertEqual(asked, len(self.host.engine.asked))

    def test_full_disk_does_not_prevent_recoveries(self):
        self.host.file.is_full = True
        self.assertEqual("", self.host.issue(token=8).find_obstacle())
        self.assertIn("token 7 of the order is older", self.host.issue(token=7).find_obstacle())
        self.host.file.is_full = False
        self.assertEqual("", self.host.issue(token=8).find_obstacle())
        self.assertEqual({UUID: 8}, self.host.file.stored)

    def test_effect_in_time_is_not_reported(self):
        permit = self.host.issue()
        permit.effect_done("started")
        self.assertEqual([], self.host.late)

    def test_effect_after_the_expiry_or_a_newer_order_is_reported(self):
        expired = self.host.issue(token=7, lasts=5)
        self.host.pass_time(6)
        expired.effect_done("started")
        replaced = self.host.issue(token=8)
        self.assertEqual("", self.host.issue(token=9).find_obstacle())
        replaced.effect_done("reset")
        self.assertEqual(["started", "reset"], self.host.late)

    def test_engine_that_hangs_does_not_hang_the_recovery(self):
        over = threading.Event()
        self.addCleanup(over.set)
        self.host.engine.when_asked = over.wait
        self.useFixture(fixtures.MonkeyPatch("vmmonitor.agent.permits.CONFIRMATION_TIMEOUT", 0.05))
        self.assertIn("no engine confirmed", self.host.issue().find_obstacle())
