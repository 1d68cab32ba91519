# SPDX-License-Identifier: Apache-2.0
"""Inspections of instances on libvirt's test driver; real guests are in tests/live."""

import threading
import time
import uuid
from unittest import mock

import libvirt

from vmmonitor.model.inspection import Inspection
from vmmonitor.model.instance import QemuOwner
from vmmonitor.sources.libvirt import connection, inspector, processes
from vmmonitor.sources.libvirt.processes import ProcessSurvey
from vmmonitor.sources.procfs import QemuProcess
from vmmonitor.tests.functional.sources import base

OWNER = QemuOwner(uids=frozenset(), pid_directory="")


class InspectorTest(base.LibvirtTest):
    def setUp(self):
        super().setUp()
        self.connection = self.admin()
        self.inspector = inspector.DomainInspector(base.new_conf())
        self.answer = mock.patch.object(libvirt.virDomain, "blockStats", lambda *_: (0,) * 5)
        self.answer.start()
        self.addCleanup(self.answer.stop)

    def inspect(self, one, timeout=base.TIMEOUT_S, **more):
        return self.inspector.inspect(one, timeout, **more)

    def surveyed(self, one=None, obstacle=""):
        """Have a survey find the process of an instance, or none."""
        processes = {one: QemuProcess(7, one, 1)} if one else {}
        found = ProcessSurvey(owner=OWNER, processes=processes, obstacle=obstacle)
        return mock.patch.object(inspector, "survey", lambda *_: found)

    def test_running_instance_answers(self):
        one = self.new_domain(self.connection)
        expected = Inspection(
            state="running", reason="unknown", managed=True, process=True, answers=True
        )
        found = self.inspect(one)
        self.assertEqual(expected.answers, found.answers)
        self.assertEqual(("running", True, True), (found.state, found.managed, found.process))

    def test_instance_with_a_fault_does_not_answer_and_is_not_asked(self):
        one = self.new_domain(self.connection)
        with mock.patch.object(libvirt.virDomain, "blockStats", side_effect=ZeroDivisionError):
            found = self.inspect(one, fault="stalled/failed")
        self.assertEqual(("running", False), (found.state, found.answers))

    def test_qemu_that_hangs_is_found_running_without_an_answer(self):
        one = self.new_domain(self.connection)
        over = threading.Event()
        self.addCleanup(over.set)
        with mock.patch.object(libvirt.virDomain, "blockStats", lambda *_: over.wait()):
            found = self.inspect(one, timeout=0.3)
            self.assertEqual(("running", None), (found.state, found.answers))
            again = self.inspect(one, timeout=0.1)
            self.assertEqual(("", False), (again.state, again.managed))
            self.assertEqual(1, len(base.threads("libvirt-inspection")))
            over.set()
            self.wait(lambda: not base.threads("libvirt-inspection"), "ended")
        self.assertTrue(self.inspect(one).answers)

    def test_stopped_or_absent_instance_shows_whether_a_process_lives(self):
        stopped = self.new_domain(self.connection, persistent=True)
        self.connection.lookupByUUIDString(stopped).destroy()
        absent = str(uuid.uuid4())
        for one, state, managed in ((stopped, "shutoff", True), (absent, "absent", False)):
            for survey, lives in (
                (self.surveyed(), False),
                (self.surveyed(one), True),
                (self.surveyed(obstacle="processes are hidden"), True),
            ):
                with survey:
                    found = self.inspect(one)
                self.assertEqual(
                    (state, managed, lives), (found.state, found.managed, found.process)
                )
                self.assertIsNot(True, found.answers)

    def test_libvirt_that_hangs_leaves_the_state_unknown(self):
        one = self.new_domain(self.connection)
        over = threading.Event()
        self.addCleanup(over.set)
        real = connection.connect
        hangs = mock.patch.object(inspector, "connect", lambda *each: over.wait() and real(*each))
        with hangs, mock.patch.object(inspector, "_may_run", lambda *_: True):
            started = time.monotonic()
            found = self.inspect(one, timeout=0.1)
            self.assertLess(time.monotonic() - started, base.TIMEOUT_S / 2)
            expected = Inspection(state="", reason="", managed=False, process=True, answers=None)
            self.assertEqual(expected, found)
            over.set()
            self.wait(lambda: not base.threads("libvirt-inspection"), "ended")

    def test_libvirt_that_is_away_leaves_the_state_unknown(self):
        away = inspector.DomainInspector(base.new_conf(uri="qemu+unix:///session?socket=/none"))
        found = away.inspect(str(uuid.uuid4()), base.TIMEOUT_S)
        self.assertEqual(("", False, None), (found.state, found.managed, found.answers))

    def test_survey_of_one_instance_reads_only_it_and_a_few_witnesses(self):
        for _ in range(processes.MAX_WITNESSES + 2):
            self.new_domain(self.connection)
        one = str(uuid.uuid4())
        wanted = []

        def find(instance_uuids, owner):
            wanted.append(instance_uuids)
            return {}

        with mock.patch.object(processes.procfs, "find", find):
            self.assertEqual({}, processes.survey(self.connection, one).processes)
            processes.survey(self.connection)
        some, everything = wanted
        self.assertIsNone(everything)
        self.assertIn(one, some)
        self.assertEqual(processes.MAX_WITNESSES + 1, len(some))
