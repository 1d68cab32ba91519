# SPDX-License-Identifier: Apache-2.0
"""Find the QEMU processes of libvirt among processes that look like them."""

import os
import subprocess
import uuid

import fixtures
import testtools

from vmmonitor.model.instance import QemuOwner
from vmmonitor.sources import procfs
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.fixtures.fake_qemu import FakeQemus

UUID = str(uuid.uuid4())
#: A user that runs nothing.
OTHER_UID = 64055
START_S = 10.0


class FindTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.qemus = self.useFixture(FakeQemus())
        self.own = frozenset({os.getuid()})

    def pid_found(self, **facts):
        """Return the pid of the process that is found for the instance."""
        found = procfs.find({UUID}, QemuOwner(**facts))
        return found[UUID].pid if found else None

    def pid_directory(self, pid):
        """Return a directory with a pid file of the domain ``fake``."""
        path = self.useFixture(fixtures.TempDir()).path
        with open(os.path.join(path, "fake.pid"), "w") as file:
            file.write(f"{pid}\n")
        return path

    def dressed_shell(self):
        """Start a shell with the command line of QEMU; return its pid."""
        words = ["qemu-system-x86_64", "-c", "read _", "-name", "guest=fake", "-uuid", UUID]
        child = subprocess.Popen(words, executable="/bin/sh", stdin=subprocess.PIPE)
        self.addCleanup(child.communicate, b"")

        def is_dressed():
            with open(f"/proc/{child.pid}/cmdline", "rb") as file:
                return UUID.encode() in file.read()

        wait_until(is_dressed, START_S, "no command line")
        return child.pid

    def test_process_of_libvirts_user_is_found(self):
        [pid] = self.qemus.start(UUID)
        self.assertEqual(pid, self.pid_found(uids=self.own))
        found = procfs.find(None, QemuOwner(uids=self.own))
        self.assertEqual(pid, found[UUID].pid)
        self.assertEqual({}, procfs.find({str(uuid.uuid4())}, QemuOwner(uids=self.own)))

    def test_process_of_another_user_is_not_found(self):
        self.qemus.start(UUID)
        self.assertIsNone(self.pid_found(uids=frozenset({OTHER_UID})))
        self.assertIsNone(self.pid_found())

    def test_other_program_with_command_line_of_qemu_is_not_found(self):
        pid = self.dressed_shell()
        self.assertIsNone(self.pid_found(uids=self.own))
        self.assertIsNone(self.pid_found(pid_directory=self.pid_directory(pid)))

    def test_process_in_pid_file_is_preferred_to_younger_one(self):
        first, second = self.qemus.start(UUID, UUID)
        for pid in (first, second):
            directory = self.pid_directory(pid)
            self.assertEqual(pid, self.pid_found(uids=self.own, pid_directory=directory))

    def test_process_in_pid_file_is_found_with_any_user(self):
        [pid] = self.qemus.start(UUID)
        self.assertEqual(pid, self.pid_found(pid_directory=self.pid_directory(pid)))

    def test_process_with_reused_pid_of_old_pid_file_is_not_found(self):
        [pid] = self.qemus.start(UUID)
        directory = self.pid_directory(pid)
        os.utime(os.path.join(directory, "fake.pid"), (1_000_000, 1_000_000))
        self.assertIsNone(self.pid_found(pid_directory=directory))

    def test_pid_file_with_other_content_is_ignored(self):
        [pid] = self.qemus.start(UUID)
        directory = self.pid_directory("no number")
        self.assertIsNone(self.pid_found(pid_directory=directory))
        self.assertEqual(pid, self.pid_found(uids=self.own, pid_directory=directory))

    def test_root_process_with_unreadable_binary_is_not_found(self):
        # Such as sudo, which runs as root with the command line that any user chose.
        self.qemus.start(UUID)
        self.useFixture(fixtures.MonkeyPatch("vmmonitor.sources.procfs._read_executable", _hidden))
        for users, is_found in ((frozenset({0}), False), (frozenset({OTHER_UID}), True)):
            with fixtures.MonkeyPatch(
                "vmmonitor.sources.procfs._read_users", lambda _, users=users: users
            ):
                found = self.pid_found(uids=frozenset({0, OTHER_UID}))
                self.assertEqual(is_found, found is not None, users)

    def test_process_in_libvirts_control_group_is_found(self):
        self.qemus.start(UUID)
        real = procfs._read
        scope = "machine-qemu\\x2d1\\x2dfake.scope/libvirt/emulator"
        for path, is_found in (
            (f"/machine.slice/{scope}", True),
            (f"/../../machine.slice/{scope}", True),
            ("/machine/qemu-1-fake.libvirt-qemu/emulator", True),
            (f"/user.slice/user-1000.slice/machine.slice/{scope}", False),
            ("/system.slice/cron.service", False),
        ):

            def read(pid, name, path=path):
                return f"0::{path}\n".encode() if name == "cgroup" else real(pid, name)

            with fixtures.MonkeyPatch("vmmonitor.sources.procfs._read", read):
                self.assertEqual(is_found, self.pid_found() is not None, path)


def _hidden(_pid):
    """Behave like a process of root for an agent that is not root."""
    return None
