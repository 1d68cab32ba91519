# SPDX-License-Identifier: Apache-2.0
"""Times going out and coming in."""

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from vmmonitor.api import times


class TestTimes(unittest.TestCase):
    def test_out(self):
        self.assertEqual("2026-11-22T13:15:39.000123Z", times.iso(1_795_353_339_000_123))

    def test_what_did_not_happen_is_null(self):
        self.assertEqual([None, None], [times.iso(None), times.iso(0)])

    def test_a_broken_clock_breaks_nothing(self):
        self.assertEqual("9999-12-31T23:59:59.999999Z", times.iso(2**63 - 1))
        self.assertEqual("0001-01-01T00:00:00.000000Z", times.iso(-(2**63)))

    def test_in(self):
        for text in (
            "2026-11-22T13:15:39.000123Z",
            "2026-11-22T14:15:39.000123+01:00",
            "2026-11-22 13:15:39.000123",
            "20261122T131539.000123Z",
        ):
            with self.subTest(text):
                self.assertEqual(1_795_353_339_000_123, times.microseconds(text))

    def test_no_time(self):
        for text in ("", "yesterday", "2026-13-01", "1795353339000123"):
            with self.subTest(text), self.assertRaises(ValueError):
                times.microseconds(text)

    @settings(deadline=None)
    @given(st.integers(1, 253_402_300_799_999_999))
    def test_there_and_back(self, at):
        self.assertEqual(at, times.microseconds(times.iso(at)))
