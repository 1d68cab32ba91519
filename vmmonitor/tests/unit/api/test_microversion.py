# SPDX-License-Identifier: Apache-2.0
"""Which version a request asks for."""

import unittest

from vmmonitor.api import errors, microversion


class TestChosen(unittest.TestCase):
    def test_served(self):
        for header in (
            "",
            "vmmonitor 1.0",
            "vmmonitor latest",
            "compute 2.90",
            "a 2.1, vmmonitor 1.0",
        ):
            with self.subTest(header):
                self.assertEqual("1.0", microversion.chosen(header))

    def assert_refused(self, status: int, header: str) -> None:
        with self.subTest(header), self.assertRaises(errors.ApiError) as caught:
            microversion.chosen(header)
        self.assertEqual(status, caught.exception.status)

    def test_not_served(self):
        for header in ("vmmonitor 1.1", "vmmonitor 0.9", "VMMONITOR 2.0"):
            self.assert_refused(406, header)

    def test_no_version(self):
        for header in ("vmmonitor", "vmmonitor one", "vmmonitor 1", "vmmonitor 1.0.0"):
            self.assert_refused(400, header)
