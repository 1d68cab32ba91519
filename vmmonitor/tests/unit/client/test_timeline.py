# SPDX-License-Identifier: Apache-2.0
"""The time line as a person reads it."""

import unittest

from vmmonitor.client import incident

LINES = [
    {"ms": 0.0, "kind": "event", "message": "lifecycle.stopped/failed on compute-1"},
    {"ms": 1234567.8, "kind": "recovery", "message": "a word " * 40},
    {"ms": -1.5, "kind": "state", "message": ""},
]


class TestDrawn(unittest.TestCase):
    def test_in_columns(self):
        lines = list(incident.drawn(LINES, 100))
        self.assertEqual("         ms            since the callback on the host", lines[0])
        self.assertEqual("        0.0  event     lifecycle.stopped/failed on compute-1", lines[1])
        self.assertTrue(lines[2].startswith("1,234,567.8  recovery  a word a word"))
        self.assertTrue(lines[3].startswith(" " * 23 + "a"))
        self.assertEqual("       -1.5  state", lines[-1])

    def test_width(self):
        for width in (60, 80, 100, 200):
            with self.subTest(width):
                self.assertLessEqual(max(map(len, incident.drawn(LINES, width))), width)

    def test_nothing_happened(self):
        self.assertEqual(1, len(list(incident.drawn([], 100))))
