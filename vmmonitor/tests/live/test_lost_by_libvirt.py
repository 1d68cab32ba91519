# SPDX-License-Identifier: Apache-2.0
"""libvirt starts without the state of its running guests, whose QEMU processes run on."""

import glob
import os
import signal

import fixtures

from vmmonitor.sources.libvirt.actions import DomainActions
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.network_disks import NetworkDisks
from vmmonitor.tests.functional.sources import base
from vmmonitor.tests.live.base import WholeTest
from vmmonitor.tests.promises import shows

LOST = "libvirt.lost"
DOUBT = "libvirt does not run 2 of 2 instances that ran, and their QEMU processes live"


@shows("P11")
class LostByLibvirtTest(WholeTest):
    def setUp(self):
        super().setUp()
        self.host = self.useFixture(Hypervisor())
        self.hypervisor = lambda: self.host
        directory = self.useFixture(fixtures.TempDir()).path
        self.deploy("fake://", f"sqlite:///{directory}/vmmonitor.db")
        disks = self.useFixture(NetworkDisks())
        self.defined = self.guest(defined=True, boot=disks.create())
        self.transient = self.guest(boot=disks.create())
        self.watched(self.deployment.standalone(self.host))

    def forget_guests(self):
        """Restart libvirtd as in a new container: without the state of its running guests."""
        self.host.kill(signal.SIGKILL)
        run = os.path.dirname(self.host.pid_file("x"))
        for path in (*glob.glob(f"{run}/*.xml"), *glob.glob(f"{run}/*.pid")):
            os.unlink(path)
        self.host.start()

    def recover(self, guest, last):
        """Recover as an operator would request it; return the result."""
        actions = DomainActions(base.new_conf(uri=self.host.uri))
        self.addCleanup(actions.stop)
        return actions.recover(guest.uuid, last, base.TIMEOUT_S)

    def test_lost_guests_are_reported_and_never_started(self):
        guests = (self.defined, self.transient)
        pids = {guest.uuid: guest.pid() for guest in guests}
        with self.host.connection() as opened:
            last = base.examine_running(opened.lookupByUUIDString(self.transient.uuid))
        self.forget_guests()
        for guest in guests:
            self.wait(lambda guest=guest: LOST in self.deployment.causes(guest.uuid), "lost")
            (event,) = self.deployment.events(guest.uuid, LOST)
            self.assertEqual(pids[guest.uuid], event.event.attributes["pid"])
            self.assertEqual(
                ("record", "critical", "lost-by-libvirt"),
                (event.decision.action, event.decision.severity, event.decision.rule),
            )
            result = self.recover(guest, last)
            self.assertEqual((False, "none"), (result.ok, result.action))
            self.assertIn(f"(pid {pids[guest.uuid]})", result.message)
        self.wait(lambda: DOUBT in self.deployment.agent_state()[1], "not believed")
        self.assertEqual("blind", self.deployment.agent_state()[0])
        self.assertEqual([], self.stops(self.defined) + self.stops(self.transient))
        os.kill(pids[self.transient.uuid], signal.SIGKILL)
        self.wait(lambda: self.stops(self.transient), "the end of the process")
        self.assertEqual(["lifecycle.stopped/vanished"], self.stops(self.transient))
        self.assertEqual([], self.deployment.incidents(self.defined.uuid))
        self.wait(lambda: self.deployment.agent_state()[0] == "up", "up")
        self.assertTrue(self.defined.ping(5), "the guest does not run")
        os.kill(pids[self.defined.uuid], signal.SIGKILL)
