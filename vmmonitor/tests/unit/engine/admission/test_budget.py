# SPDX-License-Identifier: Apache-2.0
import unittest

from vmmonitor.engine.admission.budget import check_budget
from vmmonitor.model.incident import HoldReason
from vmmonitor.tests.unit.engine.admission.history import HOUR, MINUTE, NOW, recovered


class BudgetTest(unittest.TestCase):
    def test_budget_not_used_up_admits(self):
        self.assertIsNone(check_budget(recovered(1, 2), 3, HOUR, NOW))
        self.assertIsNone(check_budget(recovered(), 1, HOUR, NOW))

    def test_budget_used_up_denies_until_oldest_leaves_window(self):
        denied = check_budget(recovered(1, 2, 50), 3, HOUR, NOW)
        self.assertEqual(("hold", HoldReason.BUDGET), (denied.transition, denied.held_by))
        self.assertEqual(NOW + 10 * MINUTE, denied.until)
        self.assertEqual(
            "recovered 3 times within 60 minutes, the maximum of its budget", denied.reason
        )
        self.assertIsNone(check_budget(recovered(1 + 10, 2 + 10, 50 + 10), 3, HOUR, NOW))

    def test_budget_reduced_denies_until_enough_recoveries_leave_window(self):
        denied = check_budget(recovered(10, 20, 30, 40), 2, HOUR, NOW)
        self.assertEqual(NOW + 40 * MINUTE, denied.until)

    def test_budget_recovery_before_window_is_not_counted(self):
        self.assertIsNone(check_budget(recovered(1, 61, 62), 2, HOUR, NOW))

    def test_budget_zero_denies_every_recovery(self):
        denied = check_budget([], 0, HOUR, NOW)
        self.assertEqual(NOW + 60 * MINUTE, denied.until)
        self.assertEqual("its limits allow no recovery", denied.reason)

    def test_budget_unlimited_admits(self):
        self.assertIsNone(check_budget(recovered(*range(1, 50)), -1, HOUR, NOW))

    def test_budget_of_one_reason_says_once(self):
        denied = check_budget(recovered(0.5), 1, 60, NOW)
        self.assertIn("recovered once within 60 s", denied.reason)
