# SPDX-License-Identifier: Apache-2.0
"""What is read of a process's threads; this process stands for a QEMU."""

import dataclasses
import os
import threading
import unittest

from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt.liveness.tasks import Tasks

UUID = "7cbbfad7-b25b-4977-945f-310ada8fac56"
HERE = procfs.QemuProcess(os.getpid(), UUID, procfs.read_start_time(os.getpid()))


class TasksTest(unittest.TestCase):
    def setUp(self):
        self.tasks = Tasks(HERE)

    def start(self, name):
        """Start a thread that calls itself so and waits; returns its id."""
        started, end = threading.Event(), threading.Event()

        def run():
            with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as comm:
                comm.write(name)
            started.set()
            end.wait(60)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(end.set)
        self.assertTrue(started.wait(60))
        return thread.native_id

    def test_the_main_thread(self):
        before = self.tasks.read_main()
        self.assertEqual("R", before.state)
        self.assertGreater(before.cpu_ns, 0)
        self.assertGreaterEqual(self.tasks.read_main().cpu_ns, before.cpu_ns)

    def test_another_process_with_the_same_pid(self):
        self.assertIsNone(Tasks(dataclasses.replace(HERE, started=1)).read_main())

    def test_a_process_that_ended(self):
        gone = Tasks(dataclasses.replace(HERE, pid=2**22 + 1))
        self.assertIsNone(gone.read_main())
        self.assertIsNone(gone.read_vcpus())

    def test_vcpus(self):
        self.start("worker")
        self.assertEqual({}, self.tasks.read_vcpus().threads)
        first, second = self.start("CPU 0/KVM"), self.start("CPU 1/KVM")
        vcpus = self.tasks.read_vcpus()
        self.assertEqual({first, second}, set(vcpus.threads))
        self.assertFalse(vcpus.emulated)
        self.assertGreater(vcpus.threads[first].runs, 0)
        self.assertEqual({first, second}, set(self.tasks.read_vcpus().threads))

    def test_vcpus_under_tcg(self):
        self.start("CPU 0/TCG")
        self.assertTrue(self.tasks.read_vcpus().emulated)
        self.assertEqual(1, len(self.tasks.read_vcpus().threads))
