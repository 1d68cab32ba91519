# SPDX-License-Identifier: Apache-2.0
"""The shortened table of agents."""

import datetime
import unittest

from vmmonitor.client import agent

NOW = datetime.datetime(2026, 11, 22, 13, 15, 39, tzinfo=datetime.UTC)
UP = {
    "host": "compute-17",
    "state": "up",
    "reason": "",
    "version": "1.0.0",
    "instances": 42,
    "spool_depth": 0,
    "last_event_at": "2026-11-22T08:01:02.000003Z",
    "clock_offset_ms": 1.6,
    "seen_at": "2026-11-22T13:15:35.000003Z",
}
LATE = UP | {
    "host": "odd\x1b[2J",
    "state": "late",
    "reason": "does not report; was blind: source libvirt: Connection refused",
    "last_event_at": None,
    "clock_offset_ms": -3600000.0,
    "seen_at": "2026-11-20T13:15:35.000003Z",
}


def rows(*agents, width=100):
    """Return the rows by heading."""
    names, found = agent.shorten(agents, width, NOW)
    return [dict(zip(names, row, strict=True)) for row in found]


class TestShorten(unittest.TestCase):
    def test_time_of_today_is_shown_without_date(self):
        up, late = rows(UP, LATE)
        self.assertEqual(("08:01:02", "13:15:35"), (up["last event"], up["seen"]))
        self.assertEqual(("", "2026-11-20"), (late["last event"], late["seen"]))

    def test_clock_offset_is_shown_in_largest_unit(self):
        for offset, expected in (
            (1.6, "+2 ms"),
            (-999.4, "-999 ms"),
            (1000.0, "+1.0 s"),
            (-90_000.0, "-1.5 min"),
            (-3_600_000.0, "-1.0 h"),
        ):
            with self.subTest(offset):
                self.assertEqual(expected, rows(UP | {"clock_offset_ms": offset})[0]["clock"])

    def test_host_name_is_printable(self):
        self.assertEqual("odd?[2J", rows(LATE)[0]["host"])

    def test_reason_fills_the_remaining_width(self):
        for width in (120, 160):
            with self.subTest(width):
                reason = rows(UP, LATE, width=width)[1]["reason"]
                self.assertEqual(LATE["reason"], reason.replace("\n", " "))
                others = {name: [] for name in rows(UP)[0]}
                for row in rows(UP, LATE, width=width):
                    for name, cell in row.items():
                        others[name] += [len(line) for line in [name, *cell.split("\n")]]
                self.assertLessEqual(sum(max(each) + 3 for each in others.values()) + 1, width)

    def test_reason_has_minimum_width_on_narrow_terminal(self):
        lines = rows(UP, LATE, width=40)[1]["reason"].split("\n")
        self.assertLessEqual(max(map(len, lines)), agent.REASON)

    def test_empty_list_has_no_rows(self):
        self.assertEqual([], rows())
