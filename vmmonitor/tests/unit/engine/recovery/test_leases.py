# SPDX-License-Identifier: Apache-2.0
"""Test when the lease of a call is held: both clocks must agree."""

import unittest
from unittest import mock

from vmmonitor.engine.recovery import leases
from vmmonitor.engine.recovery.claims import Claim
from vmmonitor.model.clock import SECOND
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON


class CallLeaseTest(unittest.TestCase):
    def setUp(self) -> None:
        self.now, self.booted = NOON, 100.0
        patch = mock.patch.object(leases, "boot_time", lambda: self.booted)
        patch.start()
        self.addCleanup(patch.stop)
        recovery = samples.recovery(lease_until=NOON + 30 * SECOND, token=7)
        claim = Claim(recovery=recovery, incident=samples.incident(), step=mock.Mock())
        self.lease = leases.CallLease(claim, lambda: self.now, 130.0, 999.0)

    def test_lease_is_held_until_it_expires_by_the_engines_clock(self) -> None:
        self.assertEqual(NOON + 30 * SECOND, self.lease.expires_at())
        self.now += 30 * SECOND - 1
        self.assertTrue(self.lease.is_held())
        self.now += 1
        self.assertFalse(self.lease.is_held())

    def test_lease_is_held_until_it_expires_by_the_clock_of_the_host(self) -> None:
        self.booted = 129.9
        self.assertTrue(self.lease.is_held())
        self.booted = 130.0
        self.assertFalse(self.lease.is_held())

    def test_lease_that_expires_while_the_engines_clock_is_read_is_not_held(self) -> None:
        def slow_clock() -> int:
            self.booted = 131.0
            return NOON

        self.lease._now = slow_clock
        self.assertFalse(self.lease.is_held())

    def test_renewed_lease_is_held_again(self) -> None:
        self.now, self.booted = NOON + 31 * SECOND, 131.0
        self.assertFalse(self.lease.is_held())
        self.lease.extend(NOON + 61 * SECOND, 161.0)
        self.assertTrue(self.lease.is_held())

    def test_lost_lease_is_not_held_although_it_has_not_expired(self) -> None:
        self.lease.lose()
        self.assertFalse(self.lease.is_held())
        self.lease.extend(NOON + 61 * SECOND, 161.0)
        self.assertFalse(self.lease.is_held())
