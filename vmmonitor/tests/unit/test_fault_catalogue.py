# SPDX-License-Identifier: Apache-2.0
"""The fault catalogue holds together, and the guide's page says what its rows say."""

import dataclasses
import pathlib
import unittest

import vmmonitor
from vmmonitor.model import states
from vmmonitor.tests.catalogue import score
from vmmonitor.tests.catalogue.planned import PLANNED, ROWS
from vmmonitor.tests.catalogue.rows import FAULTS, Row
from vmmonitor.tests.catalogue.score import Result

PAGE = pathlib.Path(vmmonitor.__file__).parent.parent / "doc/source/admin/fault-catalogue.rst"
HEAD = """.. list-table::
   :header-rows: 1
   :widths: 35 40 25

   * - What happens
     - What vmmonitor sees
     - What it does by default
"""
BREAK = ",\n       "


def in_table(row: Row) -> str:
    """Return the row as the page has it."""
    causes = list(dict.fromkeys([*row.sees, *row.target_sees, *row.besides]))
    # What opens the incident is in bold.
    words = [f"**{cause}**" if cause == row.cause else cause for cause in causes]
    return f"   * - {row.happens}\n     - {BREAK.join(words) or '-'}\n     - {row.does}\n"


class PageTest(unittest.TestCase):
    def test_its_tables_are_the_rows(self):
        text = PAGE.read_text()
        for rows in (FAULTS, PLANNED):
            self.assertIn(HEAD + "".join(in_table(row) for row in rows), text)


class RowsTest(unittest.TestCase):
    def test_there_are_enough(self):
        self.assertGreaterEqual(len(ROWS), 35)
        self.assertEqual(len(ROWS), len({row.name for row in ROWS}))
        self.assertEqual(len(ROWS), len({row.happens for row in ROWS}))

    def test_what_opens_an_incident_is_told(self):
        for row in ROWS:
            self.assertIn(row.cause, ("", *row.sees, *row.target_sees, *row.besides), row.name)
        self.assertFalse([row.name for row in PLANNED if row.cause])


FAULT = next(row for row in FAULTS if row.name == "sigkill")
OPENED = (FAULT.cause, FAULT.host, states.RESOLVED)
RIGHT = Result(
    sees=FAULT.sees, target_sees=(), besides=FAULT.besides, incidents=((OPENED,), (OPENED,))
)
DESTROY = next(row for row in PLANNED if row.name == "destroy")
QUIET = Result(sees=DESTROY.sees, target_sees=(), besides=DESTROY.besides, incidents=((),))


class ScoreTest(unittest.TestCase):
    def figures(self, row, result):
        counted = score.figures([row], {row.name: result})
        return [name for name, count in counted.items() if count and name != "scenarios"]

    def test_as_it_should_be(self):
        for row, result in ((FAULT, RIGHT), (DESTROY, QUIET)):
            self.assertEqual([], score.wrong(row, result))
            self.assertEqual([], self.figures(row, result))

    def test_each_way_to_go_wrong_is_counted(self):
        other = ("lifecycle.crashed/panicked", FAULT.host, states.RESOLVED)
        for row, incidents, name in (
            (FAULT, ((OPENED,), ()), "missed"),
            (FAULT, ((), (OPENED,)), "missed"),
            (FAULT, ((other,), (other,)), "missed"),
            (FAULT, ((OPENED,), (OPENED, OPENED)), "duplicates"),
            (DESTROY, ((OPENED,),), "false_positives"),
        ):
            result = dataclasses.replace(RIGHT, incidents=incidents)
            self.assertEqual([name], self.figures(row, result))
            self.assertTrue(score.wrong(row, result))

    def test_one_that_was_pending_and_is_ignored_does_not_count_where_an_end_was_planned(self):
        ignored = ("lifecycle.stopped/destroyed", FAULT.host, states.IGNORED)
        for incidents, count in (((ignored,), 0), ((ignored, ignored), 1)):
            result = dataclasses.replace(QUIET, incidents=(incidents,))
            self.assertEqual(count, len(self.figures(DESTROY, result)))
        result = dataclasses.replace(RIGHT, incidents=((OPENED, ignored), (OPENED,)))
        self.assertEqual(["duplicates"], self.figures(FAULT, result))

    def test_a_scenario_that_could_not_be_played_is_no_success(self):
        failed = dataclasses.replace(QUIET, error="no such disk")
        self.assertEqual(["no such disk"], score.wrong(DESTROY, failed))
        self.assertIn("not played", score.table([DESTROY], {DESTROY.name: failed}))

    def test_other_events_or_another_end_are_wrong(self):
        failed = ((OPENED[0], OPENED[1], states.FAILED),)
        for change in ({"sees": ()}, {"besides": ()}, {"incidents": (*RIGHT.incidents, failed)}):
            self.assertEqual(1, len(score.wrong(FAULT, dataclasses.replace(RIGHT, **change))))

    def test_the_table_names_what_is_wrong(self):
        table = score.table([FAULT, DESTROY], {FAULT.name: RIGHT, DESTROY.name: RIGHT})
        _, right, wrong = table.splitlines()
        self.assertNotIn("wrong", right)
        self.assertIn("<- wrong", wrong)
