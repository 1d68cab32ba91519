# SPDX-License-Identifier: Apache-2.0
"""What an operator types as tests, and what becomes of it."""

import argparse
import unittest

from osc_lib import exceptions

from vmmonitor.client import silence


def match(*texts: str):
    """Return the match of some tests."""
    return silence.match(silence._test(text) for text in texts)


class TestMatch(unittest.TestCase):
    def test_tests(self):
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

    def test_no_test(self):
        for text in ("host", "=a", "host>5", "", "two words=a"):
            with self.subTest(text), self.assertRaises(argparse.ArgumentTypeError):
                silence._test(text)

    def test_two_expressions_for_one_field(self):
        with self.assertRaisesRegex(exceptions.CommandError, "=~ is there twice"):
            match("host=~a.*", "host=~b.*")


class TestTimes(unittest.TestCase):
    def test_spans(self):
        for text, seconds in (("90s", 90), ("30m", 1800), ("2h", 7200), ("1w", 604800)):
            with self.subTest(text):
                self.assertEqual(seconds, silence._seconds(text))
        for text in ("2", "0s", "h", "-2h", "tomorrow"):
            with self.subTest(text), self.assertRaises(argparse.ArgumentTypeError):
                silence._seconds(text)

    def test_moments(self):
        self.assertEqual("2026-11-22T13:15:00", silence._moment("2026-11-22 13:15"))
        with self.assertRaises(argparse.ArgumentTypeError):
            silence._moment("2h")
