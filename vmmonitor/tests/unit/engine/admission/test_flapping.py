# SPDX-License-Identifier: Apache-2.0
import unittest

from vmmonitor.engine.admission.flapping import check_flapping
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import HoldReason
from vmmonitor.tests.unit.engine.admission.history import HOUR, NOW, recovered


class FlappingTest(unittest.TestCase):
    def check(self, *minutes_ago, window=HOUR, backoff=30.0):
        return check_flapping(
            earlier=recovered(*minutes_ago),
            failed_at=NOW,
            window=window,
            backoff=backoff,
            backoff_max=600.0,
            now=NOW,
        )

    def test_flapping_first_two_failures_admits(self):
        self.assertIsNone(self.check())
        self.assertIsNone(self.check(0))

    def test_flapping_third_failure_denies_for_backoff_after_last_recovery(self):
        denied = self.check(0.5, 12)
        self.assertEqual(("hold", HoldReason.FLAPPING), (denied.transition, denied.held_by))
        self.assertEqual(NOW + 10 * SECOND, denied.until)
        self.assertEqual("it failed 3 times in 12 minutes: waits 30 s", denied.reason)

    def test_flapping_backoff_over_admits(self):
        self.assertIsNone(self.check(40 / 60, 12))

    def test_flapping_each_failure_doubles_backoff_up_to_maximum(self):
        for earlier, wait in ((2, 30), (3, 60), (4, 120), (6, 480), (7, 600), (500, 600)):
            with self.subTest(earlier=earlier):
                denied = self.check(*[0] * earlier)
                self.assertEqual(NOW + (10 + wait) * SECOND, denied.until)

    def test_flapping_failure_before_window_is_not_counted(self):
        self.assertIsNone(self.check(0, 61, 62))

    def test_flapping_without_window_or_backoff_admits(self):
        self.assertIsNone(self.check(0, 0, 0, window=0))
        self.assertIsNone(self.check(1, 1, 1, backoff=0))
