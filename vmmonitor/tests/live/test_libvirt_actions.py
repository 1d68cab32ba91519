# SPDX-License-Identifier: Apache-2.0
"""Test the recovery of real guests by the agent."""

import os
import signal
import time

from vmmonitor.sources.libvirt import actions
from vmmonitor.testing.guest import Guest, NovaMetadata
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.faulty_disk import FullDisk
from vmmonitor.tests.functional.sources import base
from vmmonitor.tests.live.libvirt_base import LiveTest, fill
from vmmonitor.tests.promises import shows


class ActionsTest(LiveTest):
    """Test each way to recover an instance; the guest must answer afterwards."""

    def setUp(self):
        super().setUp()
        self.actions = self.new_actions(self.hypervisor())

    def new_actions(self, hypervisor):
        made = actions.DomainActions(base.new_conf(uri=hypervisor.uri, resume_probe=0.5))
        self.addCleanup(made.stop)
        return made

    def down(self, guest, state):
        self.wait(lambda: guest.state() == state, state)

    def brings_back(self, action, guest, last=None):
        """Recover twice; check that the guest answers and that the repetition does nothing."""
        for expected in (action, "none"):
            result = self.actions.recover(guest.uuid, last, base.TIMEOUT_S)
            self.assertEqual(
                (True, expected, "running", False),
                (result.ok, result.action, result.state, result.retry),
                result.message,
            )
        self.assertTrue(guest.ping(10))

    def test_killed_defined_instance_is_started(self):
        guest = self.guest(defined=True)
        guest.kill()
        self.down(guest, "shutoff")
        self.brings_back("started", guest)

    def test_killed_transient_instance_is_created(self):
        guest = self.guest(nova=NovaMetadata())
        last = self.domain(guest, base.examine_running)
        guest.kill()
        self.down(guest, "absent")
        self.brings_back("created", guest, last)
        again = self.domain(guest, base.examine_running)
        self.assertEqual((last.instance, False), (again.instance, again.persistent))
        self.assertNotEqual(last.run_id, again.run_id)

    def test_panicked_instance_is_reset(self):
        guest = self.guest(on_crash="preserve")
        guest.order("P")
        self.down(guest, "crashed")
        self.brings_back("reset", guest)

    def test_instance_paused_by_watchdog_is_reset(self):
        guest = self.guest(watchdog="pause")
        guest.order("W")
        self.down(guest, "paused")
        self.brings_back("reset", guest)

    def test_instance_on_full_disk_is_resumed_after_repair(self):
        full = self.useFixture(FullDisk(self.hypervisor()))
        guest = self.guest(disks=[full.disk()])
        fill(guest)
        self.down(guest, "paused")
        result = self.actions.recover(guest.uuid, None, base.TIMEOUT_S)
        self.assertEqual(
            (False, "resumed", "paused", "ioerror", True),
            (result.ok, result.action, result.state, result.reason, result.retry),
        )
        self.assertEqual("the storage error persists", result.message)
        full.grow()
        self.brings_back("resumed", guest)
        self.assertEqual("o", guest.order("D"))

    def test_instance_paused_on_purpose_is_refused(self):
        guest = self.guest()
        self.domain(guest, lambda d: d.suspend())
        result = self.actions.recover(guest.uuid, None, base.TIMEOUT_S)
        self.assertEqual((False, "refused", False), (result.ok, result.action, result.retry))
        self.assertEqual("paused", guest.state())

    def test_instance_deleted_on_purpose_is_refused(self):
        guest = self.guest(defined=True)
        last = self.domain(guest, base.examine_running)
        self.domain(guest, lambda d: (d.destroy(), d.undefine()))
        result = self.actions.recover(guest.uuid, last, base.TIMEOUT_S)
        self.assertEqual((False, "refused", "absent"), (result.ok, result.action, result.state))
        self.assertEqual("absent", guest.state())

    @shows("P11")
    def test_recovery_whose_libvirtd_hangs_past_its_end_starts_nothing(self):
        own = self.useFixture(Hypervisor())
        made = self.new_actions(own)
        guest = self.useFixture(Guest(own, defined=True))
        guest.kill()
        self.down(guest, "shutoff")
        os.kill(own.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, own.pid, signal.SIGCONT)
        result = made.recover(guest.uuid, None, 0.5)
        self.assertEqual((False, "none", True), (result.ok, result.action, result.retry))
        os.kill(own.pid, signal.SIGCONT)
        self.wait(lambda: not base.threads("libvirt-action"), "ended")
        self.assertEqual(("shutoff", None), (guest.state(), own.qemu_pid(guest.name)))
        self.assertTrue(made.recover(guest.uuid, None, base.TIMEOUT_S).ok)

    def test_recovery_without_libvirtd_fails_in_time(self):
        own = self.useFixture(Hypervisor())
        made = self.new_actions(own)
        guest = self.useFixture(Guest(own))
        os.kill(own.pid, signal.SIGSTOP)
        started = time.monotonic()
        result = made.recover(guest.uuid, None, 0.5)
        self.assertLess(time.monotonic() - started, 2)
        self.assertEqual((False, "none", True), (result.ok, result.action, result.retry))
        os.kill(own.pid, signal.SIGCONT)
        self.wait(lambda: not base.threads("libvirt-action"), "ended")
        own.kill()
        result = made.recover(guest.uuid, None, base.TIMEOUT_S)
        self.assertEqual((False, "none", True), (result.ok, result.action, result.retry))
