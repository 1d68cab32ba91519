# SPDX-License-Identifier: Apache-2.0
"""The argument of ``policy explain``: an incident or a file."""

import unittest

from vmmonitor.cmd import manage_explain


class TestIsId(unittest.TestCase):
    def test_uuid_is_an_incident(self):
        self.assertTrue(manage_explain.is_id("2b6c8f0e-77b4-4c1c-8f53-1f8d7d0a0001"))

    def test_other_text_is_a_file(self):
        for text in ("-", "event.json", "2b6c8f0e", "2b6c8f0e-77b4-4c1c-8f53-1f8d7d0a0001.json"):
            self.assertFalse(manage_explain.is_id(text))
