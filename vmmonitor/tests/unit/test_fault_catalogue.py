# SPDX-License-Identifier: Apache-2.0
"""Test the fault catalogue, and compare the administrator's page with its rows."""

import dataclasses
import pathlib
import unittest

import vmmonitor
from vmmonitor.model.states import IncidentState
from vmmonitor.tests.catalogue import score
from vmmonitor.tests.catalogue.planned import PLANNED, ROWS
from vmmonitor.tests.catalogue.rows import FAULTS, Row
from vmmonitor.tests.catalogue.score import Result

PAGE = pathlib.Path(vmmonitor.__file__).parent.parent / "doc/source/admin/fault-catalogue.rst"
HEAD = """.. list-table::
   :header-rows: 1
   :widths: 35 40 25

   * - Fault or operation
     - Events
     - Default reaction
"""
BREAK = ",\n       "


def table_row(row: Row) -> str:
    """Return the row as the page shows it, with the cause of the incident in bold."""
    causes = list(dict.fromkeys([*row.events, *row.target_events, *row.other_events]))
    names = [f"**{cause}**" if cause == row.cause else cause for cause in causes]
    return f"   * - {row.description}\n     - {BREAK.join(names) or '-'}\n     - {row.reaction}\n"


class PageTest(unittest.TestCase):
    def test_page_tables_equal_rows(self):
        text = PAGE.read_text()
        for rows in (FAULTS, PLANNED):
            self.assertIn(HEAD + "".join(table_row(row) for row in rows), text)


class RowsTest(unittest.TestCase):
    def test_rows_are_complete_and_unique(self):
        self.assertGreaterEqual(len(ROWS), 35)
        self.assertEqual(len(ROWS), len({row.name for row in ROWS}))
        self.assertEqual(len(ROWS), len({row.description for row in ROWS}))

    def test_row_cause_is_one_of_its_events(self):
        for row in ROWS:
            causes = ("", *row.events, *row.target_events, *row.other_events)
            self.assertIn(row.cause, causes, row.name)
        self.assertFalse([row.name for row in PLANNED if row.cause])


FAULT = next(row for row in FAULTS if row.name == "sigkill")
OPENED = (FAULT.cause, FAULT.host, IncidentState.RESOLVED)
RIGHT = Result(
    events=FAULT.events,
    target_events=(),
    other_events=FAULT.other_events,
    incidents=((OPENED,), (OPENED,)),
)
DESTROY = next(row for row in PLANNED if row.name == "destroy")
QUIET = Result(
    events=DESTROY.events,
    target_events=(),
    other_events=DESTROY.other_events,
    incidents=((),),
)


class ScoreTest(unittest.TestCase):
    def figures(self, row, result):
        counted = score.figures([row], {row.name: result})
        return [name for name, count in counted.items() if count and name != "scenarios"]

    def test_score_of_expected_result_has_no_difference(self):
        for row, result in ((FAULT, RIGHT), (DESTROY, QUIET)):
            self.assertEqual([], score.find_differences(row, result))
            self.assertEqual([], self.figures(row, result))

    def test_score_of_wrong_incidents_counts_each_kind(self):
        other = ("lifecycle.crashed/panicked", FAULT.host, IncidentState.RESOLVED)
        for row, incidents, name in (
            (FAULT, ((OPENED,), ()), "missed"),
            (FAULT, ((), (OPENED,)), "missed"),
            (FAULT, ((other,), (other,)), "missed"),
            (FAULT, ((OPENED,), (OPENED, OPENED)), "duplicates"),
            (DESTROY, ((OPENED,),), "false_positives"),
        ):
            result = dataclasses.replace(RIGHT, incidents=incidents)
            self.assertEqual([name], self.figures(row, result))
            self.assertTrue(score.find_differences(row, result))

    def test_score_of_planned_stop_skips_one_ignored_incident(self):
        ignored = ("lifecycle.stopped/destroyed", FAULT.host, IncidentState.IGNORED)
        for incidents, count in (((ignored,), 0), ((ignored, ignored), 1)):
            result = dataclasses.replace(QUIET, incidents=(incidents,))
            self.assertEqual(count, len(self.figures(DESTROY, result)))
        result = dataclasses.replace(RIGHT, incidents=((OPENED, ignored), (OPENED,)))
        self.assertEqual(["duplicates"], self.figures(FAULT, result))

    def test_score_of_scenario_with_error_reports_error(self):
        failed = dataclasses.replace(QUIET, error="no such disk")
        self.assertEqual(["no such disk"], score.find_differences(DESTROY, failed))
        self.assertIn("not run", score.table([DESTROY], {DESTROY.name: failed}))

    def test_score_of_other_events_or_state_has_one_difference(self):
        held = ((OPENED[0], OPENED[1], IncidentState.HELD),)
        for change in (
            {"events": ()},
            {"other_events": ()},
            {"incidents": (*RIGHT.incidents, held)},
        ):
            result = dataclasses.replace(RIGHT, **change)
            self.assertEqual(1, len(score.find_differences(FAULT, result)))

    def test_table_marks_wrong_rows(self):
        table = score.table([FAULT, DESTROY], {FAULT.name: RIGHT, DESTROY.name: RIGHT})
        _, right, wrong = table.splitlines()
        self.assertNotIn("wrong", right)
        self.assertIn("<- wrong", wrong)
