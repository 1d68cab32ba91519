# SPDX-License-Identifier: Apache-2.0
"""Test that the liveness source reports nothing about guests that run."""

import os
import subprocess
import sys
import time

from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.live.libvirt_base import migrate
from vmmonitor.tests.live.liveness_base import WINDOW, LivenessTest
from vmmonitor.tests.promises import shows

SNAPSHOT = "<domainsnapshot><name>before</name></domainsnapshot>"


@shows("P4")
class RunningGuestTest(LivenessTest):
    def assert_silent(self, source, observed, guest):
        """Measure for more than a window; check that no event was reported."""
        self.measured(source, guest, WINDOW)
        self.rounds(source, 2)
        self.assertEqual([], observed.causes(guest.uuid))

    def test_idle_and_busy_guests_are_not_reported(self):
        source, observed = self.liveness(self.hypervisor())
        idle, busy = self.guest(), self.guest()
        self.assert_silent(source, observed, idle)
        busy.order("C")
        self.assert_silent(source, observed, busy)
        self.assert_silent(source, observed, idle)

    def test_guests_on_a_busy_host_are_not_reported(self):
        source, observed = self.liveness(self.hypervisor())
        idle, busy = self.guest(), self.guest()
        busy.order("C")
        for _ in range(2 * (os.cpu_count() or 1)):
            hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            self.addCleanup(hog.wait)
            self.addCleanup(hog.kill)
        self.assert_silent(source, observed, idle)
        self.assert_silent(source, observed, busy)

    def test_boot_and_reset_are_not_reported(self):
        source, observed = self.liveness(self.hypervisor())
        guest = self.guest()
        until = time.monotonic() + 1.5 * WINDOW
        while time.monotonic() < until:
            guest.order("B")
            self.assertTrue(guest.ping(20), "it does not answer after its reset")
            self.domain(guest, lambda found: found.reset())
            self.assertTrue(guest.ping(20), "it does not answer after the reset")
        self.assert_silent(source, observed, guest)

    def test_paused_guest_is_not_reported(self):
        source, observed = self.liveness(self.hypervisor())
        guest = self.guest()
        self.domain(guest, lambda found: found.suspend())
        self.rounds(source, int(2 * WINDOW))
        self.domain(guest, lambda found: found.resume())
        self.assert_silent(source, observed, guest)

    def test_save_and_restore_are_not_reported(self):
        source, observed = self.liveness(self.hypervisor())
        guest = self.guest()
        file = os.path.join(self.hypervisor().path, f"{guest.name}.save")
        self.measured(source, guest, WINDOW / 2)
        self.domain(guest, lambda found: found.save(file))
        self.rounds(source, 2)
        with self.hypervisor().connection() as connection:
            connection.restore(file)
        self.assert_silent(source, observed, guest)

    def test_snapshot_and_revert_are_not_reported(self):
        source, observed = self.liveness(self.hypervisor())
        guest = self.guest(defined=True, boot_format="qcow2")
        self.measured(source, guest, WINDOW / 2)
        self.domain(guest, lambda found: found.snapshotCreateXML(SNAPSHOT))
        self.assert_silent(source, observed, guest)
        self.domain(
            guest, lambda found: found.revertToSnapshot(found.snapshotLookupByName("before"))
        )
        self.assert_silent(source, observed, guest)
        self.domain(guest, lambda found: found.snapshotLookupByName("before").delete())

    def test_migration_is_not_reported(self):
        target = self.useFixture(Hypervisor())
        here, observed_here = self.liveness(self.hypervisor())
        there, observed_there = self.liveness(target)
        guest, stays = self.guest(), self.guest()
        self.measured(here, guest, WINDOW / 2)
        self.domain(guest, lambda found: migrate(found, target))
        self.assert_silent(there, observed_there, guest)
        self.assertEqual([], observed_here.causes(guest.uuid))
        self.assert_silent(here, observed_here, stays)
