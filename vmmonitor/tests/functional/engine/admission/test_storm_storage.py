# SPDX-License-Identifier: Apache-2.0
"""Disk errors of one storage are one cause: one instance is tried, and the others follow."""

from vmmonitor.db import incidents
from vmmonitor.db.page import Page
from vmmonitor.engine.incidents import storm_ending
from vmmonitor.model import states
from vmmonitor.model.incident import Verdict
from vmmonitor.tests.functional.engine.base import RUNS, delivery, policy, step
from vmmonitor.tests.functional.engine.storms_base import DISK_ERROR, RBD, StormCase

CAUSE = "storage:rbd:vms@mon-1"


class StorageCase(StormCase):
    def setUp(self):
        super().setUp()
        self.policies = self.load(policy(steps=[step(attempts=-1)]))

    def disk_errors(self, number, host="node-0", **attributes):
        return self.fail(number, host, cause=DISK_ERROR, attributes={**RBD, **attributes})

    def again(self, uuids, **fields):
        self.fail_again(uuids, cause=DISK_ERROR, attributes=RBD, **fields)

    def tried(self):
        """The instances that are tried now."""
        return [one.instance.uuid for one in self.of_kind("instance", state="recovering")]

    def try_next(self):
        """Let the watch, and then the workers, look; returns how many are tried from then on."""
        self.watch.evaluate_storms()
        return self.decide_due()


class BeginTest(StorageCase):
    def test_three_of_one_storage_on_any_host(self):
        self.disk_errors(1, "node-0")
        self.disk_errors(2, "node-1")
        self.assertEqual(0, self.decide_due())
        self.assertEqual([(CAUSE, "storm.storage", "unhandled")], self.storms())
        self.assertEqual("3 instances have disk errors of rbd:vms@mon-1", self.storm().reason)
        self.assertEqual(3, len(self.members()))

    def test_two_are_each_for_itself(self):
        self.disk_errors(2)
        self.assertEqual(2, self.decide_due())

    def test_three_of_three_storages(self):
        for number in range(3):
            self.disk_errors(1, storage=f"rbd:pool-{number}@mon-1")
        self.assertEqual(3, self.decide_due())

    def test_what_only_each_host_has(self):
        for number in range(3):
            self.disk_errors(2, f"node-{number}", storage="dir:/srv")
        self.assertEqual(6, self.decide_due())

    def test_not_if_it_takes_longer_than_the_window(self):
        for _ in range(5):
            self.disk_errors(1)
            self.assertEqual(1, self.decide_due())
            self.later(151)

    def test_the_storage_is_learnt_from_a_later_event(self):
        uuids = self.fail(3, cause="lifecycle.suspended/ioerror")
        self.assertEqual({""}, {one.shared_cause for one in self.of_kind("instance")})
        self.again(uuids)
        self.assertEqual({CAUSE}, {one.shared_cause for one in self.of_kind("instance")})
        self.decide_due()
        self.assertEqual(3, self.storm().event_count)

    def test_learnt_in_the_batch_that_opens_it(self):
        uuid = self.fail(1, cause="lifecycle.suspended/ioerror")[0]
        more = [
            delivery(cause, uuid="7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a12", attributes=attributes)
            for cause, attributes in (("lifecycle.suspended/ioerror", {}), (DISK_ERROR, RBD))
        ]
        self.store(*more)
        found = {one.instance.uuid: one.shared_cause for one in self.of_kind("instance")}
        self.assertEqual({uuid: "", more[0].event.instance.uuid: CAUSE}, found)

    def test_an_error_that_is_only_recorded_teaches_nothing(self):
        uuids = self.fail(1)
        self.fail_again(uuids, cause="io_error/report", action="record", attributes=RBD)
        self.assertEqual([""], [one.shared_cause for one in self.of_kind("instance")])

    def test_they_do_not_blow_the_fuse(self):
        self.disk_errors(30)
        self.fail(1)
        self.assertEqual(1, self.decide_due())
        self.assertEqual([(CAUSE, "storm.storage", "unhandled")], self.storms())

    def test_switched_off_they_do(self):
        self.conf.set_override("storage_limit", 0, "storm")
        self.disk_errors(30)
        self.assertEqual(0, self.decide_due())
        self.assertEqual([("host:node-0", "storm.host", "unhandled")], self.storms())


class EarlyTest(StorageCase):
    """Two were tried before a third one failed."""

    def setUp(self):
        super().setUp()
        self.first = self.disk_errors(2)
        self.decide_due()
        self.later(10)
        self.disk_errors(3)

    def test_they_are_who_tries(self):
        self.assertEqual(0, self.decide_due())
        self.assertEqual(3, self.storm().event_count)
        self.assertEqual(0, self.try_next())
        self.later(30)
        self.assertEqual(1, self.try_next())

    def test_they_are_evidence(self):
        self.decide_due()
        self.later(1)
        self.run_again(self.first[:1])
        self.later(5)
        self.assertEqual(3, self.try_next())


class ProbeTest(StorageCase):
    def setUp(self):
        super().setUp()
        self.uuids = self.disk_errors(5)
        self.decide_due()

    def test_the_most_important_one_is_tried_alone(self):
        self.database.run(self.promote, self.uuids[3])
        self.later(1)
        self.assertEqual(1, self.try_next())
        self.assertEqual([self.uuids[3]], self.tried())
        self.assertEqual(0, self.try_next())
        self.assertIn("instance web is recovered as a probe", self.steps(self.storm())[-1])

    def promote(self, tx, uuid):
        (one,) = incidents.page(tx, Page(limit=9, filters={"instance_uuid": uuid}))
        incidents.reschedule(tx, one, one.hold_until, one.reason, self.clock, priority=9)

    def test_when_it_runs_the_others_follow(self):
        self.try_next()
        (first,) = self.tried()
        self.later(2)
        self.run_again([first])
        self.assertEqual(0, self.try_next())
        self.later(5)
        self.assertEqual(4, self.try_next())
        self.assertEqual("an instance on this storage runs again", self.of_kind("storm")[0].reason)

    def test_not_when_it_fails_again_at_once(self):
        self.try_next()
        (first,) = self.tried()
        self.later(2)
        self.run_again([first])
        # The host's clock is a little behind.
        self.again([first], occurred_at=self.clock - 50_000)
        self.later(6)
        self.assertEqual(0, self.try_next())
        self.assertEqual(6, self.storm().event_count)
        self.later(30)
        self.assertEqual(1, self.try_next())

    def test_another_one_is_tried_later_and_less_and_less_often(self):
        moments = []
        for second in range(400):
            if self.try_next():
                moments.append(second)
            self.later(1)
        self.assertEqual([0, 30, 60, 90, 135], moments)
        self.assertEqual(5, len(self.tried()))

    def test_one_that_heals_by_itself_is_evidence_too(self):
        self.later(1)
        self.run_again(self.uuids[:1])
        self.later(6)
        self.watch.evaluate_storms()
        self.assertEqual([], self.open_ones())
        self.assertEqual(4, self.decide_due())

    def test_one_that_is_planned_is_not_tried(self):
        self.watch.evaluate_storms()
        self.decide_due(Verdict(kind="gone", reason="deleted"))
        self.assertEqual((1, []), (self.count("ignored"), self.tried()))
        self.assertEqual(1, self.try_next())

    def test_nobody_is_left(self):
        for uuid in self.uuids:
            one = {each.instance.uuid: each for each in self.of_kind("instance")}[uuid]
            self.database.run(self.ignore, one)
        self.watch.evaluate_storms()
        self.assertIn("no instance waits", self.of_kind("storm")[0].reason)

    def ignore(self, tx, one):
        incidents.transition(tx, self.lock(tx, one), "plan", reason="deleted", now=self.clock)

    def test_who_was_tried_in_vain_is_tried_again_when_it_is_over(self):
        self.policies = self.load(policy(steps=[step(attempts=1)]))
        self.try_next()
        (first,) = self.tried()
        failed = self.of_kind("instance", state="recovering")[0]
        self.finish_waiting()
        self.assertEqual(["unrecovered"], [self.state_of(failed)])
        storm = self.storm()
        self.later(1)
        due = self.database.run(
            lambda tx: storm_ending.end_storm(tx, self.lock(tx, storm), "jane: mended", self.clock)
        )
        self.assertEqual(5, due)
        self.assertEqual(5, self.decide_due())
        self.assertIn(first, self.tried())

    def finish_waiting(self):
        """Let the attempt that waits for its instance wait in vain."""
        self.later(61)
        self.claim_or_finish()

    def state_of(self, incident):
        with self.database.reader() as tx:
            return incidents.get(tx, incident.incident_id).state

    def test_released_ones_begin_no_other_storm(self):
        storm = self.storm()
        self.database.run(
            lambda tx: storm_ending.end_storm(tx, self.lock(tx, storm), "jane says so", self.clock)
        )
        self.assertEqual(5, self.decide_due())

    def test_a_release_of_what_is_over_is_refused(self):
        storm = self.storm()
        end = lambda tx: storm_ending.end_storm(tx, self.lock(tx, storm), "jane", self.clock)  # noqa: E731
        self.database.run(end)
        self.assertRaises(states.errors.IllegalTransition, self.database.run, end)


class WordsTest(StorageCase):
    def test_an_instance_that_runs_is_in_no_storm(self):
        uuids = self.disk_errors(2)
        self.store(delivery(RUNS, uuid=uuids[0], host="node-0", occurred_at=self.clock))
        self.disk_errors(1)
        self.assertEqual(2, self.decide_due())
