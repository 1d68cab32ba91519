# SPDX-License-Identifier: Apache-2.0
"""Conversion of times between the service and the API."""

import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from vmmonitor.api import times


class TestTimes(unittest.TestCase):
    def test_time_becomes_iso(self):
        self.assertEqual("2026-11-22T13:15:39.000123Z", times.iso(1_795_353_339_000_123))

    def test_missing_time_is_null(self):
        self.assertEqual([None, None], [times.iso(None), times.iso(0)])

    def test_time_outside_calendar_is_limited(self):
        self.assertEqual("9999-12-31T23:59:59.999999Z", times.iso(2**63 - 1))
        self.assertEqual("0001-01-01T00:00:00.000000Z", times.iso(-(2**63)))

    def test_iso_becomes_microseconds(self):
        for text in (
            "2026-11-22T13:15:39.000123Z",
            "2026-11-22T14:15:39.000123+01:00",
            "2026-11-22 13:15:39.000123",
            "20261122T131539.000123Z",
        ):
            with self.subTest(text):
                self.assertEqual(1_795_353_339_000_123, times.microseconds(text))

    def test_other_text_is_rejected(self):
        for text in ("", "yesterday", "2026-13-01", "1795353339000123"):
            with self.subTest(text), self.assertRaises(ValueError):
                times.microseconds(text)

    @settings(deadline=None)
    @given(st.integers(1, 253_402_300_799_999_999))
    def test_conversion_is_reversible(self, at):
        self.assertEqual(at, times.microseconds(times.iso(at)))
