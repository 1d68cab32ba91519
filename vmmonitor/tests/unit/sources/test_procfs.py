# SPDX-License-Identifier: Apache-2.0
"""QEMU processes and their instances, from /proc."""

import os
import signal
import subprocess
import sys
import unittest

from vmmonitor.sources import procfs

UUID = "7cbbfad7-b25b-4977-945f-310ada8fac56"


def command(*words):
    """A command line as /proc has it."""
    return b"".join(word.encode() + b"\0" for word in words)


class InstanceOfTest(unittest.TestCase):
    def assert_is(self, expected, *words):
        self.assertEqual(expected, procfs.parse_instance_uuid(command(*words)))

    def test_qemu_of_libvirt(self):
        name = ("-name", "guest=web,debug-threads=on")
        self.assert_is(UUID, "/usr/bin/qemu-system-x86_64", *name, "-S", "-uuid", UUID, "-smp")
        self.assert_is(UUID, "/usr/libexec/qemu-kvm", *name, "-uuid", UUID.upper())

    def test_anything_else(self):
        self.assert_is("", "qemu-system-x86_64", "-uuid", UUID)
        self.assert_is("", "qemu-system-x86_64", "-name", "web", "-uuid", UUID)
        self.assert_is("", "qemu-system-x86_64", "-name", "guest=web")
        self.assert_is("", "grep", "-uuid")
        self.assert_is("", "-name", "guest=web", "-uuid")
        self.assertEqual("", procfs.parse_instance_uuid(b""))

    def test_what_is_no_text(self):
        odd = b"-name\0guest=\xff\0-uuid\0\xff\xfe\0"
        self.assertIsInstance(procfs.parse_instance_uuid(odd), str)


class NameTest(unittest.TestCase):
    def test_name_with_commas_is_unescaped(self):
        for value, name in (
            ("guest=web,debug-threads=on", "web"),
            ("guest=a,,b,,,debug-threads=on", "a,b,"),
            ("guest=", ""),
            ("web", ""),
        ):
            self.assertEqual(name, procfs.parse_name(command("-name", value)), value)

    def test_qemu_is_recognized_by_name_of_binary(self):
        for path, expected in (
            ("/usr/bin/qemu-system-x86_64", True),
            ("/usr/libexec/qemu-kvm (deleted)", True),
            ("/usr/bin/kvm", True),
            ("/usr/bin/dash", False),
            ("/tmp/qemu/sh", False),
        ):
            self.assertEqual(expected, procfs.is_qemu(path), path)


class ProcTest(unittest.TestCase):
    """On this very process."""

    def test_nothing_is_in_the_way(self):
        self.assertEqual("", procfs.find_obstacle())

    def test_started(self):
        own = procfs.QemuProcess(os.getpid(), UUID, procfs.read_start_time(os.getpid()))
        self.assertGreater(own.started, 0)
        self.assertTrue(0 <= own.age() < 86400, own.age())

    def test_opened_is_exactly_that_process(self):
        own = procfs.QemuProcess(os.getpid(), UUID, procfs.read_start_time(os.getpid()))
        pidfd = procfs.open_pidfd(own)
        self.addCleanup(os.close, pidfd)
        before = len(os.listdir("/proc/self/fd"))
        reused = procfs.QemuProcess(own.pid, UUID, own.started - 1)
        self.assertIsNone(procfs.open_pidfd(reused))
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))

    def test_opened_when_it_has_ended(self):
        with subprocess.Popen([sys.executable, "-S", "-c", ""]) as child:
            process = procfs.QemuProcess(child.pid, UUID, procfs.read_start_time(child.pid))
        self.assertIsNone(procfs.open_pidfd(process))


class StateTest(unittest.TestCase):
    def test_a_process_that_is_stopped(self):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.addCleanup(child.communicate, b"\n")
        self.addCleanup(child.send_signal, signal.SIGCONT)
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        self.assertEqual("T", procfs.read_state(child.pid))

    def test_a_process_that_there_is_not(self):
        self.assertRaises(OSError, procfs.read_state, 0)
