# SPDX-License-Identifier: Apache-2.0
"""What several engines on one database must never do, on every database."""

import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fixtures

from vmmonitor.db import agents, incidents, limits, recoveries, silences, timeline_entries
from vmmonitor.db.page import Page
from vmmonitor.engine.admission import Admission
from vmmonitor.engine.admission.concurrency import RecoverySlots
from vmmonitor.engine.admission.silences import SilenceCheck
from vmmonitor.engine.recovery.attempts import Attempts
from vmmonitor.engine.recovery.claims import Claim
from vmmonitor.engine.recovery.decisions import Decisions
from vmmonitor.engine.recovery.next_attempts import NextAttempts
from vmmonitor.engine.upkeep.agent_health import AgentHealth
from vmmonitor.model.errors import Conflict
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import FAIL, RUNS, WAIT, batch, delivery, policy, step

CONCURRENCY = "vmmonitor.engine.admission.concurrency"
_read_occupancy = limits.read_occupancy


def read_slowly(tx: Any) -> limits.Occupancy:
    """Read the slots, and leave time for another engine to take the same one."""
    found = _read_occupancy(tx)
    time.sleep(0.02)
    return found


class EngineRaces:
    """To be mixed into an EngineCase that has ``another``, a second engine's database."""

    def test_one_batch_sent_to_two_engines_at_once(self: Any) -> None:
        both = [self.ingest(), self.ingest(self.another())]
        for _ in range(30):
            sent = [
                delivery(cause, uuid=uuid)
                for uuid in (samples.new_id(), samples.new_id())
                for cause in ("io_error/pause", base.FAILURE)
            ]
            sent = batch(*random.sample(sent, 4))
            answers = race(2, lambda number, sent=sent: both[number].store(sent, 20))
            words = [[receipt.status for receipt in answer] for answer in answers]
            self.assertCountEqual([["stored"] * 4, ["duplicate"] * 4], words)
        counts = [(one.event_count, one.state) for one in self.incidents()]
        self.assertEqual([(2, "pending")] * 60, counts)
        self.assertEqual(120, len(self.events()))

    def test_batches_that_overlap(self: Any) -> None:
        both = [self.ingest(), self.ingest(self.another())]
        sent = [delivery(uuid=samples.new_id()) for _ in range(200)]
        starts = list(itertools.chain(range(0, 200, 10), range(0, 200, 7)))
        random.shuffle(starts)

        def store(start):
            part = sent[start : start + 15]
            random.shuffle(part)
            return both[start % 2].store(batch(*part), 30)

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(store, starts))
        words = [receipt.status for answer in answers for receipt in answer]
        self.assertEqual((200, 0), (words.count("stored"), words.count("refused")))
        self.assertEqual((200, 200), (len(self.events()), len(self.incidents())))
        self.assertEqual({1}, {one.event_count for one in self.incidents()})

    def test_an_orphan_is_taken_over_by_one_of_eight(self: Any) -> None:
        self.store(delivery())
        self.decide()
        with self.database.reader() as tx:
            moment = recoveries.next_due(tx, 0)
            (due,) = recoveries.due(tx, moment, 9)
        both = [self.database, self.another()]

        def take_up(number):
            database = both[number % 2]
            attempts = Attempts(self.conf, self.policies, lambda: moment)
            admission = Admission(checks=(), slots=None)
            decide = NextAttempts(self.conf, attempts, admission, lambda: moment).decide
            return database.run(decide, due, self.incident(), base.IT_FAILED)

        answers = race(8, take_up)
        self.assertEqual(7, sum(isinstance(answer, Conflict) for answer in answers), answers)

    def test_one_slot_is_taken_by_one_of_eight(self: Any) -> None:
        for limit, value in (("max_recoveries_per_host", 1), ("max_recoveries", -1)):
            self.conf.set_override(limit, value, "limits")
        databases = [self.database, *(self.another() for _ in range(3))]
        slots = RecoverySlots(self.conf)
        # Each thread takes the lock, as in an engine that has seen free slots.
        self.useFixture(fixtures.MonkeyPatch(f"{CONCURRENCY}.limits.read_occupancy", read_slowly))
        for number in range(5):
            host = f"compute-{number}"
            failed = [delivery(uuid=samples.new_id(), host=host) for _ in range(8)]
            self.ingest().store(batch(*failed), 20)
            mine = [each for each in self.incidents() if each.host == host]

            def decide(which, mine=mine):
                database = databases[which % 4]
                attempts = Attempts(self.conf, self.policies, database.now)
                decisions = Decisions(self.conf, attempts, [slots], database.now)
                return database.run(decisions.decide, mine[which], base.IT_FAILED)

            answers = race(8, decide)
            claims = [each for each in answers if isinstance(each, Claim)]
            self.assertEqual(1, len(claims), answers)

    def test_evidence_and_outcome_at_once_miss_each_other_never(self: Any) -> None:
        ingest = self.ingest()
        for _ in range(30):
            self.store(delivery())
            claim = self.decide()
            race(
                2,
                lambda number, claim=claim: (
                    self.finish(claim) if number else ingest.store(batch(delivery(RUNS)), 20)
                ),
            )
            with self.database.reader() as tx:
                found = incidents.get(tx, claim.incident.incident_id)
                (recovery,) = recoveries.of_incident(tx, claim.incident.incident_id)
            self.assertEqual(("resolved", "succeeded"), (found.state, recovery.state))

    def test_a_silence_that_ends_just_when_it_mutes_keeps_nobody(self: Any) -> None:
        databases = [self.database, self.another(), self.another()]
        decisions = Decisions(self.conf, self.attempts(), [SilenceCheck()], self.database.now)
        for number in range(60):
            uuid = samples.new_id()
            self.store(delivery(uuid=uuid))
            if number % 2:
                # One that another silence has muted, and is looked at again.
                first = self.muted()
                self.database.run(decisions.decide, self.of_instance(uuid), base.IT_FAILED)
                self.database.run(silences.expire, first, self.database.now(), "bob")
            silence_id, judged = self.muted(), self.of_instance(uuid)

            def act(which, silence_id=silence_id, judged=judged):
                run = databases[which].run
                if not which:
                    return run(silences.expire, silence_id, self.database.now(), "bob")
                return run(decisions.decide, judged, base.IT_FAILED)

            race(3, act)
            left = self.of_instance(uuid)
            if left.state == "silenced":
                self.assertLessEqual(left.hold_until, self.database.now())
            else:
                self.assertEqual("recovering", left.state)

    def muted(self: Any) -> str:
        """Have everything on compute-1 muted; returns the silence's id."""
        now = self.database.now()
        silence = samples.silence(created_at=now, starts_at=now - 1, ends_at=now + 10**10)
        self.database.run(silences.insert, silence, 1000)
        return silence.silence_id

    def of_instance(self: Any, uuid: str) -> Any:
        with self.database.reader() as tx:
            (found,) = incidents.page(tx, Page(limit=9, filters={"instance_uuid": uuid}))
        return found

    def test_hosts_that_fall_silent_are_one_incident_each(self: Any) -> None:
        hosts = [f"node-{number}" for number in range(20)]
        engines = [
            AgentHealth(self.conf, database)
            for database in (self.database, *(self.another() for _ in range(3)))
        ]
        self.report_all(hosts, self.database.now() - 100 * samples.SECOND)
        for engine in engines:
            engine.check()
            # As if it had worked for long.
            engine._running_since = 0
        self.assertEqual([None] * 4, race(4, lambda number: engines[number].check()))
        self.assertEqual([(host, "unhandled", 2) for host in sorted(hosts)], self.of_hosts())
        self.assertEqual([None] * 4, race(4, lambda number: engines[number].check()))
        self.report_all(hosts, self.database.now())
        self.assertEqual([None] * 4, race(4, lambda number: engines[number].check()))
        self.assertEqual([(host, "resolved", 3) for host in sorted(hosts)], self.of_hosts())

    def report_all(self: Any, hosts: list[str], now: int) -> None:
        for host in hosts:
            self.database.run(agents.store_report, samples.report(host=host, sent_at=now), now)

    def of_hosts(self: Any) -> list[tuple[str, str, int]]:
        """(host, state, length of the time line) of the hosts' incidents."""
        with self.database.reader() as tx:
            found = incidents.page(tx, Page(limit=99, filters={"kind": "host"}))
            return sorted(
                (one.host, one.state, len(timeline_entries.of_incident(tx, one.incident_id)))
                for one in found
            )

    def test_two_engines_call_one_driver_at_a_time_for_each_of_many(self: Any) -> None:
        """Each instance fails once for the driver, then is seen running; all come back."""
        self.conf.set_override("poll_interval", 0.05, "recovery")
        # Whose turn it is does not matter here (test_crowd): all that can be at once is to be.
        for limit in ("max_recoveries_per_host", "max_recoveries"):
            self.conf.set_override(limit, -1, "limits")
        backoff = {"initial": 0, "factor": 1, "max": 0, "jitter": 0}
        self.policies = self.load(policy(steps=[step(backoff=backoff)]))
        sent = [delivery(uuid=samples.new_id()) for _ in range(self.crowd)]
        evidence: list[str] = []
        guard = threading.Lock()

        def answer(request):
            time.sleep(random.random() / 200)
            if request.recovery.attempt == 1:
                return FAIL
            with guard:
                evidence.append(request.incident.instance.uuid)
            return WAIT

        self.driver.answer = answer
        engines = [self.recoveries(), self.recoveries(self.another())]
        queue = base.FakeRecoveryQueue()
        queue.enqueue = lambda held: [engine.enqueue(held) for engine in engines]
        ingest = self.ingest(recovery_queue=queue)
        for start in range(0, self.crowd, 50):
            ingest.store(batch(*sent[start : start + 50]), 30)

        def all_run() -> bool:
            with guard:
                seen, evidence[:] = list(evidence), []
            if seen:
                ingest.store(batch(*(delivery(RUNS, uuid=uuid) for uuid in seen)), 30)
            return self.count("resolved") == self.crowd

        eventually(all_run, timeout=180, what="all run again")
        self.assertEqual(1, self.driver.most_at_once)
        self.assertEqual(2 * self.crowd, len(self.driver.requests))
        self.assertFalse([one for one in self.driver.requests if one.taken_over])
        for engine in engines:
            eventually(lambda engine=engine: not len(engine._workers), what="nothing is in hand")

    def count(self: Any, state: str) -> int:
        with self.database.reader() as tx:
            page = incidents.page(tx, Page(limit=10000, filters={"state": state}))
        return len(page)
