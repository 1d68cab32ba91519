# SPDX-License-Identifier: Apache-2.0
"""A local user runs programs that look like the QEMU process of a guest."""

import os
import shutil
import subprocess
import time

import fixtures

from vmmonitor.model.event import RawEvent
from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt.actions import DomainActions
from vmmonitor.sources.libvirt.qemu_owner import read_owner
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.fixtures.fake_qemu import FAKE_BINARY
from vmmonitor.tests.functional.sources import base
from vmmonitor.tests.live.test_process_source import EXITED, QUIET_S, ProcessTest

#: A local user that is not libvirt's.
LOCAL_USER = 65533


class LookalikeTest(ProcessTest):
    def lookalike(self, guest, executable):
        """Start a program of a local user with the command line of the guest's QEMU."""
        words = ["qemu-system-x86_64", "-c", "read _", "-name", f"guest={guest.name}", "-S"]
        words += ["-uuid", guest.uuid, "-no-user-config"]
        user = {"user": LOCAL_USER, "group": LOCAL_USER} if os.geteuid() == 0 else {}
        child = subprocess.Popen(words, executable=executable, stdin=subprocess.PIPE, **user)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)

        def is_dressed():
            with open(f"/proc/{child.pid}/cmdline", "rb") as file:
                return guest.uuid.encode() in file.read()

        wait_until(is_dressed, base.TIMEOUT_S, "no command line")
        return child

    def lookalikes(self, guest):
        """Start a shell, and a binary that is named after QEMU."""
        directory = self.useFixture(fixtures.TempDir()).path
        named = os.path.join(directory, FAKE_BINARY)
        shutil.copy("/bin/sh", named)
        os.chmod(directory, 0o755)
        return [self.lookalike(guest, executable) for executable in ("/bin/sh", named)]

    def test_end_of_lookalike_is_not_the_end_of_the_guest(self):
        guest = self.guest(defined=True)
        before = self.lookalikes(guest)
        processes, observed = self.watch_processes(self.hypervisor())
        self.watched(processes, guest)
        self.domain(guest, lambda found: found.destroy())
        self.wait(lambda: "lifecycle.stopped/destroyed" in observed.causes(guest.uuid), "gone")
        guest.start()
        pid = self.watched(processes, guest)
        # They are younger than the process of the guest.
        after = self.lookalikes(guest)
        processes.follow(observed.of(RawEvent)[-1])
        ended_before = self.exits(observed, guest)
        for child in (*before, *after):
            child.kill()
            child.wait()
        time.sleep(QUIET_S)
        self.assertEqual(ended_before, self.exits(observed, guest))
        self.assertEqual(1, len(ended_before))
        guest.kill()
        self.wait(lambda: self.exits(observed, guest)[1:] == [pid], "exited")
        self.assertEqual(2, observed.causes(guest.uuid).count(EXITED))

    def test_lookalike_does_not_prevent_recovery(self):
        guest = self.guest(defined=True)
        self.lookalikes(guest)
        with self.hypervisor().connection() as opened:
            owner = read_owner(opened)
        self.assertEqual(guest.pid(), procfs.find({guest.uuid}, owner)[guest.uuid].pid)
        guest.kill()
        self.wait(lambda: guest.state() == "shutoff", "down")
        actions = DomainActions(base.new_conf(uri=self.hypervisor().uri))
        self.addCleanup(actions.stop)
        result = actions.recover(guest.uuid, None, base.TIMEOUT_S)
        self.assertEqual((True, "started"), (result.ok, result.action), result.message)
