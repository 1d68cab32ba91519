# SPDX-License-Identifier: Apache-2.0
"""The state tables themselves."""

import unittest

from vmmonitor.model import errors, states


class StateTablesTest(unittest.TestCase):
    tables = (states.INCIDENT, states.RECOVERY, states.REQUEST)

    def test_every_move_leads_to_a_state_of_its_table(self) -> None:
        for table in self.tables:
            for moves in table.values():
                self.assertLessEqual(set(moves.values()), set(table))

    def test_every_state_can_be_reached_and_left_for_an_end(self) -> None:
        firsts = (states.PENDING, states.REQUESTED, states.REQUESTED)
        for table, first in zip(self.tables, firsts, strict=True):
            self.assertEqual(set(table), reached(table, first))
            for state in table:
                ends = {one for one in reached(table, state) if not table[one]}
                self.assertTrue(ends, f"nothing ends {state}")

    def test_an_instance_that_runs_ends_every_open_incident(self) -> None:
        for state in states.INCIDENT_OPEN:
            self.assertEqual(states.RESOLVED, states.after(states.INCIDENT, state, "run"))

    def test_what_is_over_stays_so(self) -> None:
        over = set(states.INCIDENT) - states.INCIDENT_OPEN
        self.assertEqual({states.RESOLVED, states.FAILED, states.IGNORED}, over)
        for state in over:
            with self.assertRaisesRegex(errors.IllegalMove, f"state '{state}', move 'run'"):
                states.after(states.INCIDENT, state, "run")


def reached(table, state):
    """Return the states that can be reached from a state, itself too."""
    found = {state}
    while more := {after for one in found for after in table[one].values()} - found:
        found |= more
    return found
