# SPDX-License-Identifier: Apache-2.0
"""Descriptions of events, and durations."""

import unittest

from vmmonitor.client import descriptions


class TestFormat(unittest.TestCase):
    def test_duration_has_at_most_two_units(self):
        for seconds, expected in (
            (0, "0 ms"),
            (0.0098, "9.8 ms"),
            (0.9994, "999 ms"),
            (5.912, "5.91 s"),
            (59.4, "59 s"),
            (125, "2 min 5 s"),
            (7322, "2 h 2 min"),
            (200_000, "2 d 7 h"),
            (-5, "-5 s"),
        ):
            self.assertEqual(expected, descriptions.format_seconds(seconds))

    def test_offset_has_sign_and_milliseconds(self):
        for ms, expected in (
            (0, "+0.000 s"),
            (-12.3, "-0.012 s"),
            (5912.4, "+5.912 s"),
            (3_600_000, "+60 min 0 s"),
        ):
            self.assertEqual(expected, descriptions.format_offset(ms))


class TestEvent(unittest.TestCase):
    def test_event_is_described_with_important_attributes(self):
        for type_, detail, attributes, expected in (
            ("reboot", "", {}, "its guest rebooted (reboot)"),
            (
                "io_error",
                "pause",
                {"device": "vda", "reason": {}, "path": ""},
                "one of its disks failed (io_error/pause, device vda)",
            ),
            ("unknown-77", "5", {}, "unknown-77/5"),
        ):
            self.assertEqual(expected, descriptions.describe_event(type_, detail, attributes))
