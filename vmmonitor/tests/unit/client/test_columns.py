# SPDX-License-Identifier: Apache-2.0
"""Cells, and times that people type."""

import datetime
import unittest

from vmmonitor.client import columns

NOW = datetime.datetime(2026, 11, 22, 13, 15, 39, tzinfo=datetime.UTC)
THING = {
    "event_id": "e",
    "instance": {"uuid": "u", "name": "web\x1b[2J", "flavor": "f"},
    "attributes": {"path": "/a"},
    "incident_id": None,
    "occurred_at": "2026-11-22T13:15:39.000123Z",
    "sent_at": None,
}
NAMES = tuple(columns.flat(THING))


class TestCells(unittest.TestCase):
    def test_the_instance_is_named_as_in_filters(self):
        self.assertEqual(("event_id", "instance_uuid", "instance_name", "flavor"), NAMES[:4])

    def test_a_name_cannot_command_the_terminal(self):
        self.assertEqual(("web?[2J",), columns.cells(("instance_name",), THING))

    def test_nothing_is_an_empty_cell(self):
        self.assertEqual(("",), columns.cells(("incident_id",), THING))

    def test_a_mapping_is_json(self):
        self.assertEqual(('{"path": "/a"}',), columns.cells(("attributes",), THING))

    def test_times(self):
        (cell,) = columns.cells(("occurred_at",), THING)
        self.assertEqual("2026-11-22 13:15:39.000Z", cell.human_readable())
        self.assertEqual("2026-11-22T13:15:39.000123Z", cell.machine_readable())
        (cell,) = columns.cells(("sent_at",), THING)
        self.assertEqual(("", ""), (cell.human_readable(), cell.machine_readable()))

    def test_values_are_untouched(self):
        self.assertEqual(tuple(columns.flat(THING).values()), columns.values(NAMES, THING))


class TestMoment(unittest.TestCase):
    def test_ago(self):
        for text, expected in (
            ("90s", "2026-11-22T13:14:09+00:00"),
            ("30m", "2026-11-22T12:45:39+00:00"),
            ("1h", "2026-11-22T12:15:39+00:00"),
            ("7d", "2026-11-15T13:15:39+00:00"),
            ("2w", "2026-11-08T13:15:39+00:00"),
        ):
            with self.subTest(text):
                self.assertEqual(expected, columns.moment(text, NOW))

    def test_iso(self):
        self.assertEqual("2026-11-22T13:15:39+00:00", columns.moment("2026-11-22T13:15:39Z"))

    def test_neither(self):
        for text in ("", "1y", "h", "tomorrow", "999999999w"):
            with self.subTest(text), self.assertRaises(ValueError):
                columns.moment(text, NOW)
