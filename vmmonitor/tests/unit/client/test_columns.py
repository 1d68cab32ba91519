# SPDX-License-Identifier: Apache-2.0
"""Cells of tables, and times from the command line."""

import datetime
import unittest

from vmmonitor.client import columns

NOW = datetime.datetime(2026, 11, 22, 13, 15, 39, tzinfo=datetime.UTC)
ITEM = {
    "event_id": "e",
    "instance": {"uuid": "u", "name": "web\x1b[2J", "flavor": "f"},
    "attributes": {"path": "/a"},
    "incident_id": None,
    "occurred_at": "2026-11-22T13:15:39.000123Z",
    "sent_at": None,
}
NAMES = tuple(columns.flatten(ITEM))


class TestCells(unittest.TestCase):
    def test_fields_of_instance_have_names_of_filters(self):
        self.assertEqual(("event_id", "instance_uuid", "instance_name", "flavor"), NAMES[:4])

    def test_name_is_printable(self):
        self.assertEqual(("web?[2J",), columns.cells(("instance_name",), ITEM))

    def test_missing_value_is_empty_cell(self):
        self.assertEqual(("",), columns.cells(("incident_id",), ITEM))

    def test_mapping_is_json(self):
        self.assertEqual(('{"path": "/a"}',), columns.cells(("attributes",), ITEM))

    def test_time_is_shortened_for_tables_only(self):
        (cell,) = columns.cells(("occurred_at",), ITEM)
        self.assertEqual("2026-11-22 13:15:39.000Z", cell.human_readable())
        self.assertEqual("2026-11-22T13:15:39.000123Z", cell.machine_readable())
        (cell,) = columns.cells(("sent_at",), ITEM)
        self.assertEqual(("", ""), (cell.human_readable(), cell.machine_readable()))

    def test_values_are_unchanged(self):
        self.assertEqual(tuple(columns.flatten(ITEM).values()), columns.values(NAMES, ITEM))


class TestParseTime(unittest.TestCase):
    def test_duration_is_subtracted_from_now(self):
        for text, expected in (
            ("90s", "2026-11-22T13:14:09+00:00"),
            ("30m", "2026-11-22T12:45:39+00:00"),
            ("1h", "2026-11-22T12:15:39+00:00"),
            ("7d", "2026-11-15T13:15:39+00:00"),
            ("2w", "2026-11-08T13:15:39+00:00"),
        ):
            with self.subTest(text):
                self.assertEqual(expected, columns.parse_time(text, NOW))

    def test_iso_time_is_normalized(self):
        self.assertEqual("2026-11-22T13:15:39+00:00", columns.parse_time("2026-11-22T13:15:39Z"))

    def test_other_text_is_rejected(self):
        for text in ("", "1y", "h", "tomorrow", "999999999w"):
            with self.subTest(text), self.assertRaises(ValueError):
                columns.parse_time(text, NOW)
