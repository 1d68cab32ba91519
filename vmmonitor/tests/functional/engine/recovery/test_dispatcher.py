# SPDX-License-Identifier: Apache-2.0
"""The recovery workers: who calls whom, when, and what becomes of whatever goes wrong."""

import threading
import time
from unittest import mock

from vmmonitor.db import events, incidents, recoveries, session
from vmmonitor.engine.recovery import dispatcher, leases
from vmmonitor.engine.recovery.attempts import Attempts
from vmmonitor.model.errors import Retriable
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import (
    FAIL,
    FAIL_FOR_GOOD,
    RUNS,
    UUID,
    WAIT,
    delivery,
    policy,
    step,
)

OTHER = "0d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a22"


class RecoveryCase(base.EngineCase):
    def setUp(self):
        super().setUp()
        self.conf.set_override("poll_interval", 0.05, "recovery")
        self.conf.set_override("lease", 1.0, "recovery")
        self.go_on = threading.Event()

    def recoveries(self, *args, **drivers):
        made = super().recoveries(*args, **drivers)
        self.addCleanup(self.go_on.set)
        return made

    def hang(self, *_):
        self.go_on.wait(20)
        return WAIT

    def called(self, count: int = 1) -> list[base.RecoveryRequest]:
        return eventually(
            lambda: len(self.driver.requests) >= count and self.driver.requests,
            what=f"the driver is called {count} times",
        )

    def is_idle(self, workers: dispatcher.Dispatcher) -> None:
        eventually(lambda: not len(workers._workers), what="nothing is in hand")

    def replace(self, target, name: str, value) -> None:
        patch = mock.patch.object(target, name, value)
        patch.start()
        self.addCleanup(patch.stop)


class PathTest(RecoveryCase):
    def test_from_failure_to_running(self):
        workers = self.recoveries()
        self.store(delivery("lifecycle.crashed/panicked"), delivery("reboot/info"))
        (request,) = self.called()
        self.assertEqual("recovering", request.incident.state)
        self.assertEqual(
            ["lifecycle.crashed/panicked", "reboot/info"], [one.cause for one in request.events]
        )
        self.assertEqual((30.0, False), (request.timeout, request.taken_over))
        eventually(lambda: self.attempted()[-1][-1] == "waiting")
        self.store(delivery(RUNS))
        self.assertEqual("resolved", self.incident().state)
        self.is_idle(workers)

    def test_own_work_starts_at_once(self):
        self.conf.set_override("poll_interval", 60, "recovery")
        workers = self.recoveries()
        time.sleep(0.1)
        self.ingest(recovery_queue=workers).store(base.batch(delivery()), 10)
        eventually(lambda: self.driver.requests, timeout=2)

    def test_a_hold_ends_in_time_although_something_older_is_in_hand(self):
        self.database.now = session.local_now
        self.conf.set_override("poll_interval", 60, "recovery")
        self.policies = self.load(
            policy("slow", {"type": "io_error"}), policy("held", {"source": "libvirt"}, hold=0.3)
        )
        self.expectation.answer = lambda incident, _: (
            self.hang() and base.IT_FAILED if incident.policy == "slow" else base.IT_FAILED
        )
        workers = self.recoveries()
        ingest = self.ingest(recovery_queue=workers)
        ingest.store(base.batch(delivery("io_error/pause")), 10)
        eventually(lambda: self.expectation.asked)
        ingest.store(base.batch(delivery(uuid=OTHER)), 10)
        eventually(lambda: self.driver.requests, timeout=3)

    def test_running_between_the_drivers_answer_and_its_note(self):
        def answer(_):
            self.store(delivery(RUNS))
            return WAIT

        self.driver.answer = answer
        self.store(delivery())
        self.recoveries()
        self.eventually_in("resolved")
        self.assertEqual([("fake", 0, 1, "succeeded")], self.attempted())

    def test_planned_while_the_expectation_was_asked(self):
        def answer(_, told):
            if len(told) == 1:
                self.store(delivery("lifecycle.stopped/destroyed"))
                return base.IT_FAILED
            return Verdict(kind=VerdictKind.PLANNED, reason="destroyed")

        self.expectation.answer = answer
        self.store(delivery())
        self.recoveries()
        self.eventually_in("ignored")
        self.assertEqual([], self.driver.requests)

    def test_backoff_and_next_steps(self):
        other = base.FakeDriver()
        self.driver.answer = lambda _: FAIL
        self.policies = self.load(policy(steps=[step(attempts=2), step("other")]))
        self.store(delivery())
        workers = self.recoveries(other=other)
        eventually(lambda: self.attempted()[-1:] == [("fake", 0, 2, "requested")])
        self.later(3.9)
        time.sleep(0.2)
        self.assertEqual(1, len(self.driver.requests))
        self.later(0.1)
        eventually(lambda: other.requests)
        self.assertEqual(2, len(self.driver.requests))
        self.is_idle(workers)

    def test_new_policies_count_at_once(self):
        self.policies = self.load(policy(match={"type": "other"}))
        workers = self.recoveries()
        workers.use_policies(self.load(policy()))
        self.policies = self.load(policy())
        self.store(delivery())
        self.called()


class TroubleTest(RecoveryCase):
    def test_a_driver_that_raises(self):
        self.driver.answer = lambda _: 1 / 0
        self.store(delivery())
        self.recoveries()
        eventually(lambda: len(self.attempted()) == 2)
        self.assertEqual(["failed", "requested"], [one[-1] for one in self.attempted()])
        self.assertIn(
            ("recovery", "fake, attempt 1: ZeroDivisionError: division by zero"), self.line()
        )

    def test_a_driver_that_returns_something_else(self):
        self.driver.answer = lambda _: None
        self.store(delivery())
        self.recoveries()
        eventually(lambda: len(self.attempted()) == 2)
        self.assertIn("not an Outcome", "".join(message for _, message in self.line()))

    def test_a_driver_that_is_not_there(self):
        self.policies = self.load(policy(steps=[step("absent", attempts=1)]))
        self.store(delivery())
        self.recoveries()
        self.assertIn("absent", self.eventually_in("unrecovered").reason)

    def test_an_expectation_that_raises_and_then_knows(self):
        self.conf.set_override("unknown_limit", 0, "recovery")
        self.expectation.answer = lambda *_: 1 / 0
        self.store(delivery())
        self.recoveries()
        self.assertIn("ZeroDivisionError", self.eventually_in("held").reason)
        self.assertEqual([], self.driver.requests)
        self.expectation.answer = lambda *_: Verdict(kind=VerdictKind.UNKNOWN, reason="still")
        self.later(10)
        eventually(lambda: self.incident().reason == "still")
        self.expectation.answer = lambda *_: base.IT_FAILED
        self.later(10)
        self.called()

    def test_work_that_goes_wrong_each_time_is_neither_hot_nor_in_the_way(self):
        self.conf.set_override("workers", 1, "recovery")
        self.conf.set_override("poll_interval", 0.2, "recovery")
        asked = []
        real = events.of_incident

        def of_incident(tx, incident_id):
            if incident_id == bad.incident_id:
                asked.append(incident_id)
                raise ValueError("a row that cannot be read")
            return real(tx, incident_id)

        self.store(delivery())
        bad = self.incident()
        self.later(1)
        self.store(delivery(uuid=OTHER))
        self.replace(events, "of_incident", of_incident)
        workers = self.recoveries()
        (request,) = self.called()
        self.assertEqual(OTHER, request.incident.instance.uuid)
        self.store(delivery(RUNS, uuid=OTHER))
        time.sleep(0.6)
        self.assertTrue(1 <= len(asked) <= 6, asked)
        self.replace(events, "of_incident", real)
        self.called(2)
        self.is_idle(workers)

    def test_nothing_goes_wrong_between_claim_and_call(self):
        self.driver.answer = lambda _: FAIL
        self.store(delivery())
        self.recoveries()
        eventually(lambda: len(self.attempted()) == 2)
        real, told = events.of_incident, mock.Mock(side_effect=Retriable("away"))
        self.replace(events, "of_incident", told)
        self.later(4)
        eventually(lambda: told.call_count >= 2)
        self.assertEqual("requested", self.attempted()[-1][-1])
        self.replace(events, "of_incident", real)
        self.called(2)

    def test_a_database_that_is_away_for_a_while(self):
        real = incidents.due
        due = mock.Mock(side_effect=[Retriable("away"), ValueError("odd")])
        self.replace(incidents, "due", due)
        workers = self.recoveries()
        self.store(delivery())
        eventually(lambda: due.call_count >= 2)
        self.replace(incidents, "due", real)
        self.called()
        self.is_idle(workers)

    def test_an_outcome_waits_for_the_database(self):
        real, tries = Attempts.finish, []

        def finish(*args):
            if len(tries) < 3:
                tries.append(args)
                raise Retriable("away")
            return real(*args)

        self.replace(Attempts, "finish", finish)
        self.store(delivery())
        self.recoveries()
        eventually(lambda: self.attempted()[-1:] == [("fake", 0, 1, "waiting")])
        self.assertEqual((3, 1), (len(tries), len(self.driver.requests)))


class ManyTest(RecoveryCase):
    def test_no_more_than_so_many_at_once_and_then_the_rest(self):
        self.conf.set_override("workers", 2, "recovery")
        self.driver.answer = self.hang
        self.store(*(delivery(uuid=samples.new_id()) for _ in range(5)))
        workers = self.recoveries()
        self.called(2)
        time.sleep(0.2)
        self.assertEqual(2, len(self.driver.requests))
        self.go_on.set()
        self.called(5)
        self.is_idle(workers)
        self.assertEqual(5, len({one.incident.incident_id for one in self.driver.requests}))

    def test_retries_without_end_do_not_starve_a_new_failure(self):
        self.conf.set_override("workers", 1, "recovery")
        backoff = {"initial": 0, "factor": 1, "max": 0, "jitter": 0}
        self.policies = self.load(policy(steps=[step(attempts=-1, backoff=backoff)]))

        def answer(request):
            self.later(0.001)
            return WAIT if request.incident.instance.uuid == OTHER else FAIL

        self.driver.answer = answer
        self.store(*(delivery(uuid=samples.new_id()) for _ in range(4)))
        self.recoveries()
        self.called(8)
        self.store(delivery(uuid=OTHER))
        so_far = len(self.driver.requests)
        eventually(
            lambda: [one for one in self.driver.requests if one.incident.instance.uuid == OTHER]
        )
        asked = [one.incident.instance.uuid for one in self.driver.requests]
        self.assertLess(asked.index(OTHER) - so_far, 10)


class LeaseTest(RecoveryCase):
    def lease_until(self) -> int:
        return self.last_attempt().lease_until

    def test_it_is_renewed_while_the_driver_works(self):
        self.driver.answer = self.hang
        self.store(delivery())
        self.recoveries()
        self.called()
        for _ in range(3):
            self.later(0.9)
            eventually(lambda: self.lease_until() == self.clock + SECOND)
        self.assertEqual(1, len(self.driver.requests))

    def test_nothing_ends_the_renewals(self):
        real = recoveries.renew_leases
        renew = mock.Mock(side_effect=[Retriable("away"), ValueError("odd")])
        self.driver.answer = self.hang
        self.replace(recoveries, "renew_leases", renew)
        self.store(delivery())
        self.recoveries()
        self.called()
        eventually(lambda: renew.call_count >= 2)
        self.replace(recoveries, "renew_leases", real)
        self.later(0.5)
        eventually(lambda: self.lease_until() == self.clock + SECOND)

    def hang_once(self, request):
        if request.taken_over:
            return WAIT
        self.hang()
        return FAIL_FOR_GOOD

    def test_a_driver_that_hangs_is_given_up_and_its_late_word_does_no_harm(self):
        self.replace(leases, "GRACE", 0.0)
        self.driver.answer = self.hang_once
        self.policies = self.load(policy(steps=[step(timeout=0.4)]))
        self.store(delivery())
        workers = self.recoveries()
        self.called()
        self.is_idle(workers)
        self.later(2)
        _, second = self.called(2)
        self.assertTrue(second.taken_over)
        eventually(lambda: self.attempted() == [("fake", 0, 1, "waiting")])
        self.go_on.set()
        self.is_idle(workers)
        time.sleep(0.1)
        self.assertEqual([("fake", 0, 1, "waiting")], self.attempted())
        self.store(delivery(RUNS))
        self.assertEqual("resolved", self.incident().state)

    def test_another_engine_takes_over_from_one_that_died(self):
        self.driver.answer = self.hang
        self.store(delivery())
        first = self.recoveries()
        self.called()
        self.replace(first._leases, "renew", lambda: None)
        self.driver.answer = lambda _: WAIT
        second = self.recoveries(session_of(self))
        self.later(2)
        eventually(lambda: len(self.driver.requests) == 2)
        self.assertTrue(self.driver.requests[1].taken_over)
        self.is_idle(second)
        self.go_on.set()
        self.is_idle(first)
        self.assertEqual([("fake", 0, 1, "waiting")], self.attempted())


def session_of(case) -> session.Database:
    """Another engine's database."""
    made = session.Database(case.conf)
    made.now = case.database.now
    case.addCleanup(made.dispose)
    return made


class StopTest(RecoveryCase):
    def stop(self, workers, timeout: float) -> float:
        started = time.monotonic()
        workers.stop(timeout)
        return time.monotonic() - started

    def test_idle(self):
        self.assertLess(self.stop(self.recoveries(), 10), 2)

    def test_idle_with_rare_looks(self):
        self.conf.set_override("poll_interval", 60, "recovery")
        self.conf.set_override("lease", 600, "recovery")
        self.assertLess(self.stop(self.recoveries(), 10), 2)

    def test_work_under_way_is_waited_for(self):
        self.driver.answer = self.hang
        self.store(delivery())
        workers = self.recoveries()
        self.called()
        threading.Timer(0.3, self.go_on.set).start()
        self.assertLess(self.stop(workers, 10), 5)
        self.assertEqual([("fake", 0, 1, "waiting")], self.attempted())

    def test_but_not_for_ever_nor_hotly(self):
        renew = mock.Mock()
        self.replace(recoveries, "renew_leases", renew)
        self.driver.answer = self.hang
        self.store(delivery())
        workers = self.recoveries()
        self.called()
        self.assertLess(self.stop(workers, 1), 2)
        self.assertLess(renew.call_count, 6)
        self.store(delivery(uuid=OTHER))
        time.sleep(0.2)
        self.assertEqual([UUID], [one.incident.instance.uuid for one in self.driver.requests])
