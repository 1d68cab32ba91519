# SPDX-License-Identifier: Apache-2.0
"""The identity of a machine, and the lock of its spool."""

import os
import subprocess
import sys

import fixtures
import testtools

from vmmonitor.agent.machine import SpoolInUse, SpoolLock, read_identity
from vmmonitor.model.errors import VmmonitorError


class IdentityTest(testtools.TestCase):
    def test_identity_is_read_from_the_files(self):
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, "id")
        with open(path, "w") as file:
            file.write("0123456789abcdef0123456789abcdef\n")
        found = read_identity(path, "/proc/sys/kernel/random/boot_id")
        self.assertEqual("0123456789abcdef0123456789abcdef", found.machine_id)
        self.assertEqual(36, len(found.boot_id))

    def test_missing_file_leaves_the_id_empty(self):
        self.assertEqual(("", ""), tuple(read_identity("/nonexistent/id", "")))


class SpoolLockTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.spool = os.path.join(self.useFixture(fixtures.TempDir()).path, "spool.db")

    def test_second_agent_on_a_spool_is_refused_with_the_first_process(self):
        lock = SpoolLock(self.spool)
        error = self.assertRaises(SpoolInUse, SpoolLock, self.spool)
        text = f"another agent (process {os.getpid()}) uses the spool {self.spool}"
        self.assertIn(text, str(error))
        lock.release()
        SpoolLock(self.spool).release()

    def test_lock_ends_with_its_process(self):
        code = f"from vmmonitor.agent.machine import SpoolLock; SpoolLock({self.spool!r})"
        subprocess.run([sys.executable, "-c", code], check=True)
        SpoolLock(self.spool).release()

    def test_lock_in_a_missing_directory_creates_the_directory(self):
        SpoolLock(os.path.join(self.spool, "missing", "spool.db")).release()
        self.assertEqual(0o750, os.stat(os.path.join(self.spool, "missing")).st_mode & 0o777)

    def test_lock_in_a_directory_that_cannot_be_created_is_an_error_with_its_path(self):
        with open(self.spool, "w"):
            path = os.path.join(self.spool, "spool.db")
        error = self.assertRaises(VmmonitorError, SpoolLock, path)
        self.assertIn(self.spool, str(error))
