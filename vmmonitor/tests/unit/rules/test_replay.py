# SPDX-License-Identifier: Apache-2.0
"""Test the comparison of decisions, and the counts of differences."""

import dataclasses
import json
import unittest

from vmmonitor.model.event import INCIDENT, RECORD
from vmmonitor.model.timeline import TimelineEntry
from vmmonitor.rules import policies, replay
from vmmonitor.rules.policies import Backoff, Policy, PolicyStep
from vmmonitor.rules.replay import Comparison, RuleOutcome

DIED = RuleOutcome(name="died", action=INCIDENT, detail="critical")
KEPT = RuleOutcome(name="kept", action=RECORD, detail="info")
RESTART = Policy(name="restart", hold=1.0, steps=(PolicyStep(driver="libvirt"),))


def stored(policy):
    """A plan as it comes back from the database."""
    told = json.loads(json.dumps(policies.describe(policy)))
    return {"policy": policy.name, "event_id": "e", **told}


class TestDifferences(unittest.TestCase):
    def test_differences_are_sorted_by_count_with_few_examples(self):
        found = Comparison()
        found.add(DIED, DIED, {"n": 0})
        found.add(KEPT, DIED, {"n": 1})
        for number in range(5):
            found.add(DIED, KEPT, {"n": number})
        found.add(DIED, dataclasses.replace(DIED, name="dead"), {})
        self.assertEqual((8, 7, 6), (found.compared, found.different, found.other_action))
        self.assertEqual([5, 1, 1], [pair.count for pair in found.differences])
        self.assertEqual([0, 1, 2], [one["n"] for one in found.differences[0].examples])

    def test_number_of_differences_is_bounded(self):
        found = Comparison()
        for number in range(replay.MAX_DIFFERENCES + 5):
            found.add(DIED, dataclasses.replace(KEPT, name=str(number)), {})
        found.add(DIED, dataclasses.replace(KEPT, name="0"), {})
        self.assertEqual(replay.MAX_DIFFERENCES, len(found.differences))
        self.assertEqual((replay.MAX_DIFFERENCES + 6, 5), (found.different, found.omitted))
        self.assertEqual(2, found.differences[0].count)


class TestPolicies(unittest.TestCase):
    def pair(self, old, new):
        return replay.compare_policies(old.name, stored(old), new)

    def assert_same(self, old, new):
        before, after = self.pair(old, new)
        self.assertEqual(before, after)

    def assert_details(self, before, after, new, old=RESTART):
        was, now = self.pair(old, new)
        self.assertEqual((before, after), (was.detail, now.detail))

    def test_same_policy_has_no_difference(self):
        self.assert_same(RESTART, RESTART)
        self.assert_same(Policy(name=""), None)

    def test_changed_hold_and_backoff_are_listed(self):
        new = dataclasses.replace(RESTART, hold=3.0)
        self.assert_details("hold 1.0", "hold 3.0", new)
        step = PolicyStep(driver="libvirt", backoff=Backoff(initial=9.0), wait=5.0)
        new = dataclasses.replace(RESTART, steps=(step,))
        self.assert_details(
            "step 1 wait 60.0, step 1 backoff initial 2.0",
            "step 1 wait 5.0, step 1 backoff initial 9.0",
            new,
        )

    def test_added_and_removed_step_are_listed(self):
        two = dataclasses.replace(RESTART, steps=(*RESTART.steps, PolicyStep(driver="nova")))
        self.assert_details("step 2 none", "step 2 nova", two)
        self.assert_details("step 2 nova", "step 2 none", RESTART, old=two)

    def test_field_unknown_to_an_older_version_is_no_difference(self):
        told = stored(RESTART)
        del told["dry_run"], told["steps"][0]["dry_run"]
        before, after = replay.compare_policies("restart", told, RESTART)
        self.assertEqual(before, after)

    def test_changed_options_are_listed_by_checksum(self):
        step = PolicyStep(driver="libvirt", options={"how": "hard"})
        new = dataclasses.replace(RESTART, steps=(step,))
        before, after = self.pair(RESTART, new)
        self.assertEqual("step 1 options ", before.detail)
        self.assertRegex(after.detail, r"^step 1 options [0-9a-f]{12}$")
        self.assertNotIn("hard", json.dumps(stored(new)), "it may be a secret")
        self.assert_same(new, new)

    def test_changed_dry_run_is_listed(self):
        new = dataclasses.replace(RESTART, dry_run=True)
        self.assert_details("dry_run False", "dry_run True", new)

    def test_other_policy_is_listed_with_its_plan(self):
        often = PolicyStep(driver="nova", attempts=-1)
        skipped = PolicyStep(driver="log", enabled=False)
        new = Policy(name="other", steps=(often, skipped))
        before, after = self.pair(RESTART, new)
        self.assertEqual("recover, by restart (hold 1 s; libvirt 3 x)", str(before))
        self.assertEqual("recover, by other (hold 0 s; nova without limit)", str(after))
        _, after = self.pair(RESTART, None)
        self.assertEqual("leave, by no policy (hold 0 s)", str(after))

    def test_incident_without_a_plan_is_compared_by_name(self):
        for name, same in (("restart", True), ("other", False), ("", False)):
            before, after = replay.compare_policies(name, None, RESTART)
            self.assertEqual(same, before == after)
            self.assertEqual(before.action, after.action)


class TestDeciding(unittest.TestCase):
    def lines(self, *told):
        return [
            TimelineEntry(incident_id="i", at=number, kind=kind, message="", data=data)
            for number, (kind, data) in enumerate(told)
        ]

    def test_last_hold_entry_contains_the_choice(self):
        opened = ("decision", {"event_id": "a", "rule": "died"})
        first, second = (("hold", {"event_id": one, "policy": one}) for one in "ab")
        storm = ("hold", {"held_by": "storm"})
        moved = ("decision", {"event_id": "c"})
        for told, expected in (
            ((opened, first), ("a", "a")),
            ((opened, first, second, moved, storm), ("b", "b")),
            ((opened, ("hold", {"hold": 5.0})), ("a", None)),
            ((("decision", {"cause": "agent.late"}),), ("", None)),
            ((), ("", None)),
        ):
            event_id, plan = replay.policy_choice(self.lines(*told))
            self.assertEqual(expected, (event_id, plan and plan["policy"]))
