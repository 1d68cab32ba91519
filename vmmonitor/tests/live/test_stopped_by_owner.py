# SPDX-License-Identifier: Apache-2.0
"""An instance that its owner stops during a recovery stays stopped."""

import time

from vmmonitor.testing.copies import counter
from vmmonitor.tests.live.base import PATIENCE_S, RESTART, WholeTest
from vmmonitor.tests.promises import shows

#: Longer than the delay of the next attempts, in seconds.
NEXT_ATTEMPTS_S = 4.0


@shows("P4")
class TestStoppedByOwner(WholeTest):
    def setUp(self):
        super().setUp()
        self.deploy()
        self.start(self.deployment.engine(options=self.policies(RESTART)))
        self.watched()

    def check_stays_stopped(self, guest):
        """Stop a guest as soon as its recovery has started a process, and wait."""
        self.wait(lambda: self.deployment.events(guest.uuid), "its start is not stored")
        guest.kill()
        deadline = time.monotonic() + PATIENCE_S
        while len(counter().report(guest.uuid).processes) < 2:
            self.assertLess(time.monotonic(), deadline, "not recovered")
        with guest.hypervisor.connection() as connection:
            connection.lookupByUUIDString(guest.uuid).destroy()
        self.wait(lambda: guest.state() in ("shutoff", "absent"), "not stopped")
        time.sleep(NEXT_ATTEMPTS_S)
        self.assertIn(guest.state(), ("shutoff", "absent"))
        self.assertEqual(2, len(counter().report(guest.uuid).processes))

    def test_persistent_guest_stopped_while_it_is_started_stays_stopped(self):
        self.check_stays_stopped(self.guest(defined=True))

    def test_transient_guest_stopped_while_it_is_created_stays_stopped(self):
        self.check_stays_stopped(self.guest())
