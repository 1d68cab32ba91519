# SPDX-License-Identifier: Apache-2.0
"""The microversion of a request."""

import unittest

from vmmonitor.api import errors, microversion


class TestParseVersion(unittest.TestCase):
    def test_supported_version_is_selected(self):
        for header in (
            "",
            "vmmonitor 1.0",
            "vmmonitor latest",
            "compute 2.90",
            "a 2.1, vmmonitor 1.0",
        ):
            with self.subTest(header):
                self.assertEqual("1.0", microversion.parse_version(header))

    def assert_rejected(self, status: int, header: str) -> None:
        with self.subTest(header), self.assertRaises(errors.ApiError) as caught:
            microversion.parse_version(header)
        self.assertEqual(status, caught.exception.status)

    def test_unsupported_version_is_rejected(self):
        for header in ("vmmonitor 1.1", "vmmonitor 0.9", "VMMONITOR 2.0"):
            self.assert_rejected(406, header)

    def test_invalid_version_is_rejected(self):
        for header in ("vmmonitor", "vmmonitor one", "vmmonitor 1", "vmmonitor 1.0.0"):
            self.assert_rejected(400, header)
