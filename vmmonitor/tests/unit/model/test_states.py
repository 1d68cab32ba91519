# SPDX-License-Identifier: Apache-2.0
"""Test the content and the consistency of the state tables."""

import enum
import unittest
from collections.abc import Mapping
from typing import Any

from vmmonitor.model import errors, states
from vmmonitor.model.states import (
    CLOSED_INCIDENT_STATES,
    INCIDENT_TRANSITIONS,
    OPEN_INCIDENT_STATES,
    RECOVERY_TRANSITIONS,
    REQUEST_TRANSITIONS,
    AgentState,
    IncidentState,
    IncidentTransition,
    RecoveryState,
    RecoveryTransition,
    RequestState,
    RequestTransition,
)

#: Every transition of an incident, as the API and the documentation promise it.
INCIDENTS = """
    pending      confirm  recovering
    pending      leave    unhandled
    pending      run      resolved
    pending      plan     ignored
    pending      hold     held
    pending      silence  silenced
    unhandled    confirm  recovering
    unhandled    release  pending
    unhandled    run      resolved
    unhandled    plan     ignored
    unhandled    hold     held
    held         confirm  recovering
    held         leave    unhandled
    held         release  pending
    held         silence  silenced
    held         run      resolved
    held         plan     ignored
    silenced     confirm  recovering
    silenced     leave    unhandled
    silenced     hold     held
    silenced     release  pending
    silenced     run      resolved
    silenced     plan     ignored
    recovering   run      resolved
    recovering   give_up  unrecovered
    recovering   leave    unhandled
    recovering   plan     ignored
    recovering   hold     held
    unrecovered  retry    pending
"""
RECOVERIES = """
    requested  claim      running
    requested  cancel     cancelled
    running    take_over  running
    running    wait       waiting
    running    succeed    succeeded
    running    fail       failed
    running    skip       skipped
    running    cancel     cancelled
    waiting    succeed    succeeded
    waiting    fail       failed
    waiting    cancel     cancelled
"""
REQUESTS = """
    requested  do      done
    requested  refuse  refused
"""
AGENTS = {"up", "late", "blind", "behind", "stopped"}

Table = Mapping[Any, Mapping[Any, Any]]
TABLES: Mapping[str, tuple[Table, type[enum.StrEnum], type[enum.StrEnum], str]] = {
    "incident": (INCIDENT_TRANSITIONS, IncidentState, IncidentTransition, INCIDENTS),
    "recovery": (RECOVERY_TRANSITIONS, RecoveryState, RecoveryTransition, RECOVERIES),
    "request": (REQUEST_TRANSITIONS, RequestState, RequestTransition, REQUESTS),
}


class StateTablesTest(unittest.TestCase):
    def test_state_table_has_exactly_the_documented_transitions(self) -> None:
        for name, (table, _, _, documented) in TABLES.items():
            with self.subTest(name):
                found = {
                    (str(state), str(transition), str(target))
                    for state, transitions in table.items()
                    for transition, target in transitions.items()
                }
                expected = {tuple(line.split()) for line in documented.split("\n") if line.strip()}
                self.assertEqual(expected, found)

    def test_state_table_has_every_state_and_uses_every_transition(self) -> None:
        for name, (table, all_states, all_transitions, _) in TABLES.items():
            with self.subTest(name):
                self.assertEqual(set(all_states), set(table))
                used = {transition for transitions in table.values() for transition in transitions}
                self.assertEqual(set(all_transitions), used)

    def test_agent_states_are_the_documented_ones(self) -> None:
        self.assertEqual(AGENTS, set(AgentState))

    def test_every_state_is_reachable_and_leads_to_an_end(self) -> None:
        for name, (table, all_states, _, _) in TABLES.items():
            first = next(iter(all_states))
            with self.subTest(name):
                self.assertEqual(set(table), _reachable(table, first))
                for state in table:
                    ends = {other for other in _reachable(table, state) if not table[other]}
                    self.assertTrue(ends, f"{state} never ends")

    def test_incident_states_are_either_open_or_closed(self) -> None:
        self.assertEqual({"resolved", "unrecovered", "ignored"}, set(CLOSED_INCIDENT_STATES))
        self.assertEqual(set(IncidentState), OPEN_INCIDENT_STATES | CLOSED_INCIDENT_STATES)
        self.assertFalse(OPEN_INCIDENT_STATES & CLOSED_INCIDENT_STATES)

    def test_active_recovery_states_are_those_with_transitions(self) -> None:
        active = {state for state, transitions in RECOVERY_TRANSITIONS.items() if transitions}
        self.assertEqual(active, states.ACTIVE_RECOVERY_STATES)

    def test_open_incident_of_a_running_instance_is_resolved(self) -> None:
        for state in OPEN_INCIDENT_STATES:
            after = states.next_state(INCIDENT_TRANSITIONS, state, IncidentTransition.RUN)
            self.assertEqual(IncidentState.RESOLVED, after)

    def test_closed_incident_of_a_running_instance_is_refused(self) -> None:
        for state in CLOSED_INCIDENT_STATES:
            message = f"state '{state}', transition 'run'"
            with self.assertRaisesRegex(errors.IllegalTransition, message):
                states.next_state(INCIDENT_TRANSITIONS, state, IncidentTransition.RUN)


def _reachable(table: Table, state: enum.StrEnum) -> set[enum.StrEnum]:
    """Return the states that can be reached from a state, including itself."""
    found = {state}
    while more := {after for each in found for after in table[each].values()} - found:
        found |= more
    return found
