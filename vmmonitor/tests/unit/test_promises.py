# SPDX-License-Identifier: Apache-2.0
"""Each documented promise names the tests that show it."""

import unittest

from vmmonitor.tests import promises

#: Kinds of tests that use real parts.
REAL = ("vmmonitor.tests.live.", "vmmonitor.tests.openstack.")


class TestPromises(unittest.TestCase):
    def test_each_documented_promise_has_a_test_with_real_parts(self):
        tests = promises.find_tests()
        documented = promises.list_promises()
        self.assertLessEqual({f"P{number}" for number in range(1, 11)}, set(documented))
        for promise in documented:
            with self.subTest(promise=promise):
                self.assertTrue([one for one in tests.get(promise, []) if one.startswith(REAL)])

    def test_each_marked_promise_is_documented(self):
        self.assertLessEqual(set(promises.find_tests()), set(promises.list_promises()))
