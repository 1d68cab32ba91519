# SPDX-License-Identifier: Apache-2.0
"""The timeline below ``incident show``."""

import unittest

from vmmonitor.client import incident

ENTRIES = [
    {"ms": 0.0, "kind": "event", "message": "lifecycle.stopped/failed on compute-1"},
    {"ms": 1234567.8, "kind": "recovery", "message": "a word " * 40},
    {"ms": -1.5, "kind": "state", "message": ""},
]


class TestFormatTimeline(unittest.TestCase):
    def test_entries_are_aligned_in_columns(self):
        lines = list(incident.format_timeline(ENTRIES, 100))
        self.assertEqual("         ms            since the report of libvirt", lines[0])
        self.assertEqual("        0.0  event     lifecycle.stopped/failed on compute-1", lines[1])
        self.assertTrue(lines[2].startswith("1,234,567.8  recovery  a word a word"))
        self.assertTrue(lines[3].startswith(" " * 23 + "a"))
        self.assertEqual("       -1.5  state", lines[-1])

    def test_lines_fit_into_width(self):
        for width in (60, 80, 100, 200):
            with self.subTest(width):
                lines = incident.format_timeline(ENTRIES, width)
                self.assertLessEqual(max(map(len, lines)), width)

    def test_empty_timeline_has_only_a_heading(self):
        self.assertEqual(1, len(list(incident.format_timeline([], 100))))
