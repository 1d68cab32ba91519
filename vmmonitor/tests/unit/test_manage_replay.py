# SPDX-License-Identifier: Apache-2.0
import unittest

from vmmonitor.cmd import manage_incident, stored

NOON = 1_795_353_339_000_000
SECOND = 1_000_000


class TestMoment(unittest.TestCase):
    def test_how_long_ago(self):
        for text, seconds in (("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604_800)):
            self.assertEqual(NOON - seconds * SECOND, stored.moment(text, NOON))
        self.assertEqual(0, stored.moment("999999999w", NOON), "not before the epoch")

    def test_when(self):
        for text in ("2026-11-22T13:15:39", "2026-11-22T13:15:39Z", "2026-11-22T14:15:39+01:00"):
            self.assertEqual(NOON, stored.moment(text, 0))

    def test_neither(self):
        for text in ("", "7", "d", "-7d", "7 d", "tomorrow", "1e3s"):
            with self.assertRaisesRegex(ValueError, "is neither a time span"):
                stored.moment(text, NOON)

    def test_a_time_that_no_calendar_holds_is_told_all_the_same(self):
        self.assertEqual("2026-11-22T13:15:39.000Z", stored.time(NOON))
        self.assertEqual(f"{1 << 62} us", stored.time(1 << 62))


class TestIncident(unittest.TestCase):
    def test_what_an_id_looks_like(self):
        self.assertTrue(manage_incident.is_id("2b6c8f0e-77b4-4c1c-8f53-1f8d7d0a0001"))
        for text in ("-", "event.json", "2b6c8f0e", "2b6c8f0e-77b4-4c1c-8f53-1f8d7d0a0001.json"):
            self.assertFalse(manage_incident.is_id(text))
