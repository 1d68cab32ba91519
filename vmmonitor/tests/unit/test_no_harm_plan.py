# SPDX-License-Identifier: Apache-2.0
"""The actions of the rounds of the no-harm test are reproducible."""

import unittest

from vmmonitor.tests.no_harm import plan

SEED = 9
GUESTS = 6
LONGEST = 3.0


class TestDrawRound(unittest.TestCase):
    def test_same_seed_and_number_give_the_same_actions(self):
        first, second = (plan.draw_round(SEED, 7, GUESTS, LONGEST) for _ in range(2))
        self.assertEqual(first, second)

    def test_rounds_of_a_seed_differ(self):
        rounds = {plan.draw_round(SEED, number, GUESTS, LONGEST)[0] for number in range(20)}
        self.assertEqual(20, len(rounds))

    def test_each_round_stalls_or_kills_a_part_and_fails_a_guest(self):
        for number in range(100):
            kinds = {action.kind for action in plan.draw_round(SEED, number, GUESTS, LONGEST)}
            with self.subTest(number=number):
                self.assertIn("fail", kinds)
                self.assertTrue(kinds & {"stall", "kill"})

    def test_all_parts_and_operations_occur_in_two_hundred_rounds(self):
        actions = [
            action
            for number in range(200)
            for action in plan.draw_round(SEED, number, GUESTS, LONGEST)
        ]
        for kind in ("stall", "kill"):
            targets = {action.target for action in actions if action.kind == kind}
            self.assertEqual(set(plan.PARTS), targets)
        self.assertLessEqual(set(plan.OPERATIONS), {action.kind for action in actions})

    def test_stalls_are_not_longer_than_the_longest(self):
        durations = [
            action.duration
            for number in range(200)
            for action in plan.draw_round(SEED, number, GUESTS, 60.0)
            if action.kind == "stall"
        ]
        self.assertLessEqual(max(durations), 60.0)
        self.assertGreater(max(durations), 30.0)
        self.assertGreaterEqual(min(durations), plan.SHORTEST_S)


if __name__ == "__main__":
    unittest.main()
