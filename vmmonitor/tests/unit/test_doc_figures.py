# SPDX-License-Identifier: Apache-2.0
"""The figures and the code map of the documentation are drawn from the code."""

import pathlib
import sys
import unittest
import xml.etree.ElementTree as ET

import vmmonitor
from vmmonitor.openstack import server_states

CHECKOUT = pathlib.Path(vmmonitor.__file__).parents[1]
EXTENSION = CHECKOUT / "doc" / "source" / "_ext"
sys.path.insert(0, str(EXTENSION))
import figures  # noqa: E402
import from_code  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
TABLES = ("INCIDENT", "RECOVERY", "REQUEST")


def texts(svg: str) -> list[str]:
    """Return the texts of a figure."""
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


class TestStateCharts(unittest.TestCase):
    def test_chart_contains_each_state_and_transition(self):
        for name in TABLES:
            table = from_code.state_table(name)
            shown = texts(figures.state_chart(name, table))
            labels = {label for text in shown for label in text.split(", ")}
            self.assertLessEqual({str(state) for state in table}, set(shown), name)
            moves = {str(move).replace("_", " ") for row in table.values() for move in row}
            self.assertLessEqual(moves, labels, name)

    def test_each_state_has_a_position(self):
        for name in TABLES:
            table = {str(state) for state in from_code.state_table(name)}
            self.assertEqual(table, set(figures.STATES[name]), name)

    def test_state_without_position_is_drawn(self):
        table = {"new": {"start": "over"}, "over": {}}
        self.assertIn("over", texts(figures.state_chart("OTHER", table)))


class TestVerdictTable(unittest.TestCase):
    def test_table_contains_each_situation(self):
        rows = from_code.verdicts()
        self.assertEqual([*server_states.SituationName], [row[0] for row in rows])
        self.assertTrue(all(row[4] for row in rows))
        page = (CHECKOUT / "doc" / "source" / "admin" / "expectations.rst").read_text()
        self.assertIn(".. verdict-table::", page)

    def test_only_a_finished_operation_excuses_a_failure(self):
        excused = {row[0] for row in from_code.verdicts() if row[2] == "planned"}
        at_rest = server_states.SituationName.AT_REST
        self.assertEqual({server_states.SituationName.STOPPED_BY_USER, at_rest}, excused)


class TestDataPath(unittest.TestCase):
    def test_figure_contains_each_stage(self):
        self.assertLessEqual(
            {stage[4] for stage in figures.STAGES}, set(texts(figures.data_path()))
        )

    def test_each_stage_has_a_module_with_a_description(self):
        for stage in figures.STAGES:
            if stage[-1]:
                self.assertNotEqual("", figures.first_sentence(stage[-1]), stage)


class TestCodeMap(unittest.TestCase):
    def test_each_module_has_a_description(self):
        modules = [module for found in from_code.mapped_modules().values() for module in found]
        self.assertGreater(len(modules), 100)
        # An empty __init__.py needs none.
        named = [(name, text) for name, text in modules if not name.endswith("/__init__.py")]
        self.assertEqual([], [name for name, text in named if not text])

    def test_modules_of_reading_path_are_few_and_exist(self):
        page = (EXTENSION.parent / "contributor" / "code-map.rst").read_text()
        names = [line.strip() for line in page.splitlines() if line.startswith("   vmmonitor/")]
        self.assertEqual([], [name for name in names if not (CHECKOUT / name).exists()])
        self.assertLessEqual(len(names), 12)
