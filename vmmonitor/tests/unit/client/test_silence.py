# SPDX-License-Identifier: Apache-2.0
"""Conditions and times of ``silence create``."""

import argparse
import unittest

from osc_lib import exceptions

from vmmonitor.client import silence


def match(*texts: str):
    """Return the match of some conditions."""
    return silence.match(silence._parse_condition(text) for text in texts)


class TestMatch(unittest.TestCase):
    def test_conditions_become_a_match(self):
        for texts, expected in (
            (["host=compute-7"], {"host": "compute-7"}),
            (["host = compute-7 "], {"host": "compute-7"}),
            (["host=a", "host=b"], {"host": {"in": ["a", "b"]}}),
            (["host!=a", "host!=b"], {"host": {"not_in": ["a", "b"]}}),
            (["host=a", "severity=info"], {"host": "a", "severity": "info"}),
            (["instance.name=~test-.*"], {"instance.name": {"=~": "test-.*"}}),
            (
                ["instance.name=~a=.*", "instance.name!=a=b"],
                {"instance.name": {"=~": "a=.*", "!=": "a=b"}},
            ),
            (["detail="], {"detail": ""}),
        ):
            with self.subTest(texts):
                self.assertEqual(expected, match(*texts))

    def test_other_text_is_rejected(self):
        for text in ("host", "=a", "host>5", "", "two words=a"):
            with self.subTest(text), self.assertRaises(argparse.ArgumentTypeError):
                silence._parse_condition(text)

    def test_two_expressions_for_one_field_are_rejected(self):
        with self.assertRaisesRegex(exceptions.CommandError, "=~ is used twice"):
            match("host=~a.*", "host=~b.*")


class TestTimes(unittest.TestCase):
    def test_duration_becomes_seconds(self):
        for text, seconds in (("90s", 90), ("30m", 1800), ("2h", 7200), ("1w", 604800)):
            with self.subTest(text):
                self.assertEqual(seconds, silence._parse_duration(text))
        for text in ("2", "0s", "h", "-2h", "tomorrow"):
            with self.subTest(text), self.assertRaises(argparse.ArgumentTypeError):
                silence._parse_duration(text)

    def test_time_must_be_iso(self):
        self.assertEqual("2026-11-22T13:15:00", silence._parse_time("2026-11-22 13:15"))
        with self.assertRaises(argparse.ArgumentTypeError):
            silence._parse_time("2h")
