# SPDX-License-Identifier: Apache-2.0
"""Too much fails at once: it is held as one storm, and goes on when that is over."""

import logging
import time

import fixtures

from vmmonitor.db import agents, incidents, inventories
from vmmonitor.db.page import Page
from vmmonitor.engine.admission import storms
from vmmonitor.engine.incidents import storm_ending
from vmmonitor.model.errors import Retriable
from vmmonitor.model.incident import HoldReason, Verdict
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.engine.base import WAIT, policy
from vmmonitor.tests.functional.engine.storms_base import StormCase


class BlowTest(StormCase):
    def test_eight_of_eight_are_recovered_at_once(self):
        self.know({"node-0": 8})
        self.fail(8)
        self.assertEqual(8, self.decide_due())
        self.assertEqual([], self.storms())

    def test_more_than_half_of_a_host_is_held(self):
        self.fail(11)
        self.assertEqual(0, self.decide_due())
        self.assertEqual([("host:node-0", "storm.host", "unhandled")], self.storms())
        storm = self.storm()
        self.assertEqual((11, "node-0", "critical"), (*counted(storm), storm.severity))
        self.assertIn("11 of 20 instances of host node-0 failed within 60 s", storm.reason)
        held = {(one.state, one.held_by, one.part_of) for one in self.members()}
        self.assertEqual({("held", HoldReason.STORM, storm.incident_id)}, held)
        self.assertLess(max(one.hold_until for one in self.members()), self.clock * 2)

    def test_it_says_so_once(self):
        logged = self.useFixture(fixtures.FakeLogger(level=logging.WARNING))
        self.fail(30)
        self.decide_due()
        self.assertEqual(1, len(logged.output.splitlines()), logged.output)
        self.assertIn(self.storm().incident_id, logged.output)

    def test_one_after_another_too(self):
        began = 0
        for _ in range(15):
            self.fail(1)
            began += self.decide_due()
            self.later(3)
        self.assertEqual((10, 5), (began, self.storm().event_count))

    def test_not_if_it_takes_longer_than_the_window(self):
        for _ in range(15):
            self.fail(1)
            self.assertEqual(1, self.decide_due())
            self.later(6)

    def test_what_ran_again_thanks_to_its_recovery_counts(self):
        for _ in range(10):
            (uuid,) = self.fail(1)
            self.assertEqual(1, self.decide_due())
            self.run_again([uuid])
        self.fail(1)
        self.assertEqual(0, self.decide_due())

    def test_one_instance_that_fails_often_is_one(self):
        (uuid,) = self.fail(1)
        for _ in range(15):
            self.assertEqual(1, self.decide_due())
            self.run_again([uuid])
            self.fail_again([uuid])

    def test_a_number_without_any_percentage(self):
        self.know({})
        self.fail(26)
        self.decide_due()
        self.assertIn("26 instances of host node-0 failed", self.storm().reason)

    def test_switched_off(self):
        for name in ("host", "aggregate", "cloud"):
            self.conf.set_override(f"{name}_limit", 0, "storm")
            self.conf.set_override(f"{name}_percent", 0, "storm")
        self.fail(50)
        self.assertEqual(50, self.decide_due())

    def test_what_no_policy_acts_on_is_not_held(self):
        self.policies = self.load(policy(steps=[]))
        self.fail(30)
        self.decide_due()
        self.assertEqual((30, []), (self.count("unhandled"), self.storms()))


class CountTest(StormCase):
    """What does not count."""

    def test_what_was_planned(self):
        self.fail(15)
        self.decide_due(Verdict(kind="planned", reason="stopped by nova"))
        self.fail(8)
        self.assertEqual(8, self.decide_due())

    def test_what_may_yet_turn_out_planned(self):
        self.policies = self.load(
            policy("wait", {"type": "process.exited"}, hold=30), policy("at once")
        )
        self.fail(15, cause="process.exited")
        self.fail(8)
        self.assertEqual(8, self.decide_due())
        self.later(30)
        self.assertEqual(0, self.decide_due())
        self.assertEqual(15, self.storm().event_count)

    def test_what_nobody_knows(self):
        self.fail(15)
        self.decide_due(Verdict(kind="unknown", reason="nova is away"))
        self.fail(8)
        self.assertEqual(8, self.decide_due_newest(8))

    def decide_due_newest(self, number):
        with self.database.reader() as tx:
            due = incidents.due(tx, self.clock, 100)[-number:]
        decide = self.gated().decide
        verdict = Verdict(kind="failed", reason="it failed")
        return sum(self.database.run(decide, one, verdict) is not None for one in due)

    def test_what_healed_by_itself(self):
        self.run_again(self.fail(15))
        self.fail(8)
        self.assertEqual(8, self.decide_due())

    def test_what_an_operator_wants_is_not_held(self):
        self.fail(11)
        self.decide_due()
        one = self.members()[0]
        self.database.run(
            lambda tx: incidents.reschedule(
                *(tx, self.lock(tx, one), self.clock, "jane wants it", self.clock), override="jane"
            )
        )
        self.assertEqual(1, self.decide_due())
        self.assertEqual((1, 10), (self.count("recovering"), self.count("held")))


class ScopeTest(StormCase):
    def test_many_hosts_are_one_storm_of_the_cloud(self):
        for number in range(10):
            self.fail(6, f"node-{number}")
        self.assertEqual(0, self.decide_due())
        self.assertEqual([("cloud", "storm.cloud", "unhandled")], self.storms())
        self.assertEqual((60, ""), counted(self.storm()))

    def test_one_host_is_no_storm_of_the_cloud(self):
        self.know({"node-0": 20, "node-1": 20})
        self.fail(20)
        self.fail(1, "node-1")
        self.assertEqual(1, self.decide_due())
        self.assertEqual([("host:node-0", "storm.host", "unhandled")], self.storms())

    def test_an_aggregate(self):
        census = {f"node-{number}": 20 for number in range(40)}
        self.know(census, ssd=["node-1", "node-2"], hdd=["node-3"])
        self.fail(8, "node-1")
        self.fail(8, "node-2")
        self.fail(8, "node-3")
        self.assertEqual(8, self.decide_due())
        self.assertEqual([("aggregate:ssd", "storm.aggregate", "unhandled")], self.storms())

    def test_what_a_host_holds_counts_in_the_cloud(self):
        for number in range(4):
            self.fail(11, f"node-{number}")
            self.assertEqual(0, self.decide_due())
        self.assertEqual("cloud", self.storms()[-1][0])
        self.assertEqual([11, 11, 11, 11], [one.event_count for one in self.of_kind("storm")])

    def test_who_is_let_go_by_a_host_is_held_by_the_cloud(self):
        self.test_what_a_host_holds_counts_in_the_cloud()
        first = self.of_kind("storm")[0]
        self.database.run(
            lambda tx: storm_ending.end_storm(tx, self.lock(tx, first), "jane says so", self.clock)
        )
        self.assertEqual(0, self.decide_due())
        cloud = self.of_kind("storm")[-1]
        self.assertEqual((22, 22), (cloud.event_count, len(self.members(cloud))))


class EndTest(StormCase):
    def setUp(self):
        super().setUp()
        self.uuids = self.fail(15)
        self.decide_due()

    def test_it_calms_down(self):
        self.pass_time(59)
        self.assertEqual(1, len(self.open_ones()))
        self.pass_time(1)
        self.assertEqual("resolved", self.of_kind("storm")[0].state)
        self.assertEqual(15, self.decide_due())
        (ended,) = [
            text
            for text in self.steps(self.members(self.of_kind("storm")[0])[0])
            if "is over" in text
        ]
        self.assertIn("no failure for 60 s", ended)

    def test_a_new_member_keeps_it_up(self):
        self.pass_time(40)
        self.fail(1)
        self.decide_due()
        self.pass_time(40)
        self.assertEqual(16, self.storm().event_count)

    def test_who_was_held_is_not_held_again(self):
        self.pass_time(60)
        self.fail(3)
        self.assertEqual(18, self.decide_due())

    def test_the_important_ones_first(self):
        self.database.run(self.promote, self.uuids[7])
        self.pass_time(60)
        with self.database.reader() as tx:
            self.assertEqual(self.uuids[7], incidents.due(tx, self.clock, 1)[0].instance.uuid)

    def promote(self, tx, uuid):
        (one,) = incidents.page(tx, Page(limit=9, filters={"instance_uuid": uuid}))
        incidents.reschedule(tx, one, one.hold_until, one.reason, self.clock, priority=9)

    def test_by_hand(self):
        storm = self.storm()
        due = self.database.run(
            lambda tx: storm_ending.end_storm(tx, self.lock(tx, storm), "jane: go on", self.clock)
        )
        self.assertEqual(15, due)
        self.assertEqual(15, self.decide_due())
        self.assertEqual("jane: go on", self.of_kind("storm")[0].reason)

    def test_a_false_alarm_is_over_at_once(self):
        self.run_again(self.uuids[:5])
        self.watch.evaluate_storms()
        self.assertIn("10 failures are not a storm", self.of_kind("storm")[0].reason)
        self.assertEqual(10, self.decide_due())

    def test_not_before_it_is_known_how_many_instances_there_are(self):
        self.know({})
        self.pass_time(1)
        self.assertEqual(15, self.storm().event_count)

    def test_members_are_examined_now_and_then(self):
        self.later(storms.EXAMINE_MEMBER_INTERVAL)
        self.decide_due(Verdict(kind="gone", reason="nova has deleted it"))
        self.assertEqual(15, self.count("ignored"))

    def test_who_is_examined_again_is_no_new_member(self):
        self.later(storms.EXAMINE_MEMBER_INTERVAL)
        self.assertEqual(0, self.decide_due())
        self.assertEqual(15, self.storm().event_count)
        self.watch.evaluate_storms()
        self.assertEqual([], self.open_ones())

    def test_a_clock_that_is_put_back(self):
        self.later(-3600)
        self.watch.evaluate_storms()
        self.pass_time(59)
        self.assertEqual(1, len(self.open_ones()))
        self.pass_time(1)
        self.assertEqual([], self.open_ones())


class CensusTest(StormCase):
    def test_what_agents_told(self):
        seen = [Seen(instance=Instance(uuid=samples.new_id()), state="running") for _ in range(3)]
        self.database.run(agents.store_report, samples.report(host="a"), self.clock)
        self.database.run(inventories.replace, "a", "cd", seen, self.clock)
        self.watch._expectation.known = {"ssd": ["a"]}
        self.watch.take_census()
        self.assertEqual({"a": 3}, self.breaker.census.instances)
        self.assertEqual({"ssd": {"a"}}, self.breaker.census.aggregates)
        self.watch._expectation.known = Retriable("nova is away")
        self.watch.take_census()
        self.assertEqual({"ssd": {"a"}}, self.breaker.census.aggregates)


class ManyTest(StormCase):
    """A thousand at once."""

    def test_a_thousand(self):
        self.know({f"node-{number}": 30 for number in range(40)})
        for number in range(40):
            self.fail(25, f"node-{number}")
        started = time.process_time()
        self.assertEqual(0, self.decide_due())
        spent_s = time.process_time() - started
        # 5 ms each is promised; the machine may be slow.
        self.assertLess(spent_s, 20)
        self.assertEqual([("cloud", "storm.cloud", "unhandled")], self.storms())
        self.assertEqual((1000, 1000), (self.storm().event_count, len(self.members())))
        self.pass_time(60)
        self.assertEqual(1000, self.decide_due())

    def test_what_is_recovered_after_it_starts_no_other(self):
        self.driver.answer = lambda request: WAIT
        self.fail(20)
        self.decide_due()
        self.pass_time(60)
        self.decide_due()
        for _ in range(5):
            self.pass_time(10)
            self.decide_due()
        self.assertEqual(1, len(self.of_kind("storm")))


def counted(storm):
    return storm.event_count, storm.host
