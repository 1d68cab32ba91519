# SPDX-License-Identifier: Apache-2.0
"""Names in the log cannot forge lines."""

import logging
import sys
import unittest

from vmmonitor.log_setup import EscapingFormatter

HOSTILE = "c1\n2026-11-27 CRITICAL wiped\x1b[31m\x07\x85\u2028\ttab"
ESCAPED = r"c1\n2026-11-27 CRITICAL wiped\x1b[31m\x07\x85\u2028\ttab"


class EscapingFormatterTest(unittest.TestCase):
    def format(self, message, *arguments, exc_info=None):
        record = logging.LogRecord("x", logging.INFO, "", 1, message, arguments, exc_info)
        formatted = EscapingFormatter(logging.Formatter("%(levelname)s %(message)s")).format(
            record
        )
        self.assertEqual((message, arguments), (record.msg, record.args or ()))
        return formatted

    def test_format_hostile_argument_escapes_it(self):
        self.assertEqual(f"INFO host {ESCAPED}", self.format("host %s", HOSTILE))

    def test_format_ordinary_text_keeps_it(self):
        self.assertEqual("INFO web-é 100%", self.format("%s 100%%", "web-é"))

    def test_format_traceback_keeps_its_lines(self):
        try:
            raise ValueError("bad \x1b[2J name")
        except ValueError:
            lines = self.format("failed", exc_info=sys.exc_info()).splitlines()
        self.assertEqual("INFO failed", lines[0])
        self.assertEqual(r"ValueError: bad \x1b[2J name", lines[-1])
