# SPDX-License-Identifier: Apache-2.0
"""Formatters that print each row when it arrives."""

import io
import json
import unittest

import yaml

from vmmonitor.client import columns, stream

NAMES = ("event_id", "occurred_at", "reason")
TIME = "2026-11-22T13:15:39.000123Z"
CELLS = [("a" * 36, columns.Time(TIME), "two\nlines"), ("b", columns.Time(None), 'a "word"')]
VALUES = [("a", TIME, {"path": "/x"}), ("b", None, "")]


def printed(name: str, rows) -> str:
    """Return what a format prints."""
    out = io.StringIO()
    stream.STREAM_FORMATS[name](NAMES, iter(rows), out)
    return out.getvalue()


class TestFormats(unittest.TestCase):
    def test_table_has_one_line_per_row(self):
        self.assertEqual(
            f"{'event_id':36}  {'occurred_at':24}  reason\n"
            f"{'a' * 36}  2026-11-22 13:15:39.000Z  two lines\n"
            f'{"b":36}  {"":24}  a "word"\n',
            printed("table", CELLS),
        )

    def test_json_has_one_object_per_line(self):
        lines = [json.loads(line) for line in printed("json", VALUES).splitlines()]
        self.assertEqual([dict(zip(NAMES, row, strict=True)) for row in VALUES], lines)

    def test_yaml_is_one_list(self):
        expected = [dict(zip(NAMES, row, strict=True)) for row in VALUES]
        self.assertEqual(expected, yaml.safe_load(printed("yaml", VALUES)))

    def test_csv_quotes_text(self):
        lines = printed("csv", CELLS[1:]).splitlines()
        self.assertEqual(['"event_id","occurred_at","reason"', '"b","","a ""word"""'], lines)

    def test_value_is_separated_by_spaces(self):
        self.assertEqual(f"a {TIME} x\n", printed("value", [("a", columns.Time(TIME), "x")]))
