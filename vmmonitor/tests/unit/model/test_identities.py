# SPDX-License-Identifier: Apache-2.0
"""Two machines with one host name, and everything that only looks like them."""

import unittest

from vmmonitor.model.agent import Identities
from vmmonitor.model.clock import SECOND
from vmmonitor.tests.functional.db import samples

A, B, C = ("m1", "b1"), ("m2", "b2"), ("m3", "b3")


class IdentitiesTest(unittest.TestCase):
    def after(self, *reports: tuple[tuple[str, str], float], interval: float = 10.0) -> bool:
        """Return whether the name is contended after reports of (identity, seconds)."""
        known, seen_at = Identities(), 0
        for (machine, boot), seconds in reports:
            at = round(seconds * SECOND)
            report = samples.report(machine_id=machine, boot_id=boot, interval=interval)
            known = known.after(report, seen_at, at)
            seen_at = at
        return known.is_contended(report, seen_at)

    def test_machines_that_take_turns_are_contended(self):
        self.assertTrue(self.after((A, 0), (B, 5), (A, 10)))
        self.assertTrue(self.after((A, 0), (A, 10), (B, 11), (B, 21), (A, 22)))

    def test_copies_with_one_machine_id_are_told_apart_by_the_boot_id(self):
        copy = ("m1", "b9")
        self.assertTrue(self.after((A, 0), (copy, 5), (A, 10)))

    def test_restart_of_the_host_is_not_contended(self):
        self.assertFalse(self.after((A, 0), (("m1", "b2"), 30), (("m1", "b2"), 40)))

    def test_new_machine_with_an_old_name_is_not_contended(self):
        self.assertFalse(self.after((A, 0), (B, 5), (B, 15), (C, 500)))

    def test_machine_that_returns_after_long_is_not_contended(self):
        self.assertFalse(self.after((A, 0), (B, 3600), (A, 7200)))

    def test_contention_ends_when_one_machine_is_gone(self):
        turns = [(A, 0), (B, 5), (A, 10)]
        self.assertTrue(self.after(*turns, (A, 60)))
        self.assertFalse(self.after(*turns, (A, 71)))

    def test_long_report_interval_extends_the_time(self):
        self.assertTrue(self.after((A, 0), (B, 100), (A, 300), interval=300))

    def test_reports_without_identity_are_not_contended(self):
        self.assertFalse(self.after((A, 0), (("", ""), 5), (A, 10)))
