# SPDX-License-Identifier: Apache-2.0
"""Times on the command line and in the output of vmmonitor-manage."""

import unittest

from vmmonitor.cmd import offline_db

NOON = 1_795_353_339_000_000
SECOND = 1_000_000


class TestParseTime(unittest.TestCase):
    def test_duration_is_subtracted_from_now(self):
        for text, seconds in (("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604_800)):
            self.assertEqual(NOON - seconds * SECOND, offline_db.parse_time(text, NOON))

    def test_duration_ends_at_the_epoch(self):
        self.assertEqual(0, offline_db.parse_time("999999999w", NOON))

    def test_iso_time_defaults_to_utc(self):
        for text in ("2026-11-22T13:15:39", "2026-11-22T13:15:39Z", "2026-11-22T14:15:39+01:00"):
            self.assertEqual(NOON, offline_db.parse_time(text, 0))

    def test_other_text_is_rejected(self):
        for text in ("", "7", "d", "-7d", "7 d", "tomorrow", "1e3s"):
            with self.assertRaisesRegex(ValueError, "is neither a duration"):
                offline_db.parse_time(text, NOON)


class TestFormatTime(unittest.TestCase):
    def test_time_has_milliseconds(self):
        self.assertEqual("2026-11-22T13:15:39.000Z", offline_db.format_time(NOON))

    def test_time_beyond_the_calendar_is_shown_in_microseconds(self):
        self.assertEqual(f"{1 << 62} us", offline_db.format_time(1 << 62))
