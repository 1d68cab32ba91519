# SPDX-License-Identifier: Apache-2.0
"""The agent of the target host starts in the middle of a migration, which then fails."""

import fixtures

from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.migration import StalledMigration
from vmmonitor.tests.fixtures.network_disks import NetworkDisks
from vmmonitor.tests.live.base import WholeTest
from vmmonitor.tests.promises import shows

FAILED = "lifecycle.stopped/failed"


@shows("P4", "P11")
class ArrivalTest(WholeTest):
    def test_migration_that_fails_after_agent_start_is_not_recovered(self):
        target = self.useFixture(Hypervisor())
        directory = self.useFixture(fixtures.TempDir()).path
        self.deploy("fake://", f"sqlite:///{directory}/vmmonitor.db")
        guest = self.guest(boot=self.useFixture(NetworkDisks()).create())
        migration = self.useFixture(StalledMigration(guest, target))
        self.watched(self.deployment.standalone(target))
        migration.abort()
        self.wait(lambda: FAILED in self.deployment.causes(guest.uuid), "failed")
        (stop,) = self.deployment.events(guest.uuid, "lifecycle.stopped")
        self.assertIs(True, stop.event.attributes.get("was_arriving"))
        self.assertEqual(("record", "arrival-failed"), (stop.decision.action, stop.decision.rule))
        self.quiet()
        self.assertEqual([], self.deployment.incidents(guest.uuid))
        self.assertEqual("running", guest.state())
        self.assertIsNone(target.qemu_pid(guest.name))
