# SPDX-License-Identifier: Apache-2.0
"""Storms hold the next attempts of recoveries that began before them."""

from vmmonitor.db import incidents, recoveries
from vmmonitor.engine.admission.storms import StormCheck
from vmmonitor.engine.recovery.claims import Claim
from vmmonitor.model.incident import Incident
from vmmonitor.tests.functional.engine.base import FAIL, IT_FAILED, policy, step
from vmmonitor.tests.functional.engine.storms_base import DISK_ERROR, RBD, StormCase

STORAGE_CAUSE = "storage:rbd:vms@mon-1"


class AttemptsCase(StormCase):
    def setUp(self) -> None:
        super().setUp()
        self.policies = self.load(policy(steps=[step(attempts=-1)]))

    def open_incident(self, uuid: str) -> Incident:
        with self.database.writer() as tx:
            return incidents.lock_open(tx, [(uuid, "node-0")])[uuid, "node-0"]

    def fail_attempt(self, uuid: str) -> None:
        """Let the first attempt for an instance begin and fail; the next one is due after 4 s."""
        claim = self.database.run(self.gated().decide, self.open_incident(uuid), IT_FAILED)
        self.finish(claim, FAIL)

    def next_attempt(self, uuid: str) -> Claim | None:
        incident = self.open_incident(uuid)
        with self.database.reader() as tx:
            (due,) = [
                each
                for each in recoveries.due(tx, self.clock, 99)
                if each.incident_id == incident.incident_id
            ]
        decide = self.next_attempts([StormCheck(self.conf, self.breaker)]).decide
        return self.database.run(decide, due, incident, IT_FAILED)

    def is_held(self, uuid: str) -> bool:
        incident = self.open_incident(uuid)
        return (incident.state, incident.held_by) == ("recovering", "storm")


class HostStormTest(AttemptsCase):
    def setUp(self) -> None:
        super().setUp()
        (self.first,) = self.fail(1)
        self.fail_attempt(self.first)
        self.fail(25)
        self.decide_due()
        self.assertEqual([("host:node-0", "storm.host", "unhandled")], self.storms())
        self.later(4)

    def test_attempt_during_a_storm_is_held_and_a_member(self) -> None:
        self.assertIsNone(self.next_attempt(self.first))
        self.assertTrue(self.is_held(self.first))
        self.assertIn(self.first, {one.instance.uuid for one in self.members()})

    def test_attempt_starts_when_the_storm_ends(self) -> None:
        self.next_attempt(self.first)
        self.pass_time(self.conf.storm.cooldown + 1)
        self.assertEqual([], self.open_ones())
        claim = self.next_attempt(self.first)
        self.assertEqual(2, claim.recovery.attempt)
        self.assertEqual("", self.open_incident(self.first).held_by)

    def test_held_attempt_is_not_counted_as_a_failure(self) -> None:
        count = self.breaker.count
        with self.database.reader() as tx:
            before = count(tx, 0, self.clock, self.storm().incident_id)["node-0"]
        self.next_attempt(self.first)
        with self.database.reader() as tx:
            after = count(tx, 0, self.clock, self.storm().incident_id).get("node-0", 0)
        self.assertEqual(before - 1, after)


class StorageStormTest(AttemptsCase):
    def disk_errors(self, number: int) -> list[str]:
        return self.fail(number, cause=DISK_ERROR, attributes=RBD)

    def test_further_attempts_of_a_probe_are_not_held(self) -> None:
        uuids = self.disk_errors(3)
        self.decide_due()
        self.later(1)
        self.watch.evaluate_storms()
        for uuid in uuids:
            if self.open_incident(uuid).hold_until <= self.clock:
                probe = uuid
        self.fail_attempt(probe)
        self.later(4)
        self.assertEqual(2, self.next_attempt(probe).recovery.attempt)

    def test_held_attempt_becomes_the_next_probe(self) -> None:
        (first,) = self.disk_errors(1)
        self.fail_attempt(first)
        self.disk_errors(2)
        self.decide_due()
        self.assertEqual([(STORAGE_CAUSE, "storm.storage", "unhandled")], self.storms())
        self.later(4)
        self.assertIsNone(self.next_attempt(first))
        self.assertTrue(self.is_held(first))
        self.later(self.conf.storm.probe_interval)
        self.watch.evaluate_storms()
        self.assertEqual(2, self.next_attempt(first).recovery.attempt)
