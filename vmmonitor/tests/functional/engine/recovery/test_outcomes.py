# SPDX-License-Identifier: Apache-2.0
"""An outcome is cut, and one that the database does not take leads to no second call."""

from unittest import mock

from vmmonitor.engine.recovery.attempts import Attempts
from vmmonitor.engine.recovery.driver_calls import MAX_MESSAGE_BYTES
from vmmonitor.model.errors import Retriable
from vmmonitor.model.recovery import Outcome
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import FAIL, delivery, policy, step


class OutcomeCase(base.EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.conf.set_override("poll_interval", 0.05, "recovery")
        self.policies = self.load(policy(steps=[step(attempts=1, timeout=1)]))
        self.store(delivery())

    def refuse_outcomes(self, error: Exception, times: float = float("inf")) -> list[str]:
        """Let the database refuse outcomes; returns a list that grows with each refusal."""
        real, refused = Attempts.finish, list[str]()

        def finish(attempts: Attempts, *args: object) -> None:
            if len(refused) < times:
                refused.append(str(error))
                raise error
            real(attempts, *args)

        patch = mock.patch.object(Attempts, "finish", finish)
        patch.start()
        self.addCleanup(patch.stop)
        self.addCleanup(refused.clear)
        self.stop_refusing = patch.stop
        return refused


class MessageTest(OutcomeCase):
    def test_long_message_of_a_driver_is_cut(self) -> None:
        for text in ("x" * (20 << 20), "ä" * MAX_MESSAGE_BYTES):
            self.driver.answer = lambda _, text=text: Outcome(move="fail", message=text)
            self.recoveries()
            self.eventually_in("unrecovered")
            message = self.last_attempt().message
            self.assertEqual(MAX_MESSAGE_BYTES, len(message.encode()))
            self.store(delivery())

    def test_long_error_of_a_driver_is_cut(self) -> None:
        def fail(_: object) -> None:
            raise ValueError("y" * (1 << 20))

        self.driver.answer = fail
        self.recoveries()
        self.eventually_in("unrecovered")
        self.assertEqual(MAX_MESSAGE_BYTES, len(self.last_attempt().message))


class RefusedTest(OutcomeCase):
    def test_outcome_that_the_database_refuses_calls_the_driver_once(self) -> None:
        refused = self.refuse_outcomes(ValueError("cannot execute UPDATE: read-only"), 3)
        self.driver.answer = lambda _: FAIL
        self.recoveries()
        self.eventually_in("unrecovered")
        self.assertEqual((3, 1), (len(refused), len(self.driver.requests)))

    def test_outcome_refused_beyond_the_lease_frees_the_worker_and_calls_no_driver(self) -> None:
        refused = self.refuse_outcomes(ValueError("cannot execute UPDATE: read-only"))
        self.driver.answer = lambda _: FAIL
        made = self.recoveries()
        eventually(lambda: refused)
        made._leases.stop(5)
        lease = self.conf.recovery.lease
        for _ in range(4):
            count = len(refused)
            self.later(lease)
            eventually(lambda count=count: len(refused) > count, what="it is tried again")
        eventually(lambda: not made._workers._threads, what="no worker is kept")
        self.assertEqual(1, len(self.driver.requests))
        self.stop_refusing()
        self.later(lease)
        self.eventually_in("unrecovered")
        self.assertEqual(1, len(self.driver.requests))
        self.assertEqual([("fake", 0, 1, "failed")], self.attempted())

    def test_engine_whose_takeover_fails_lets_the_owner_store_its_outcome(self) -> None:
        self.decide()
        other = self.recoveries()
        with mock.patch.object(
            other.pipeline, "resume", side_effect=Retriable("the database is read-only")
        ) as resume:
            self.later(self.conf.recovery.lease)
            eventually(lambda: resume.called)
        calls = resume.call_count
        self.assertFalse(other._without_trusted_leases([self.last_attempt()], self.clock))
        self.assertEqual((calls, []), (resume.call_count, self.driver.requests))
