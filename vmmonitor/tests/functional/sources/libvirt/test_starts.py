# SPDX-License-Identifier: Apache-2.0
"""Recoveries that must not start an instance, on libvirt's test driver."""

import dataclasses
import uuid
from unittest import mock

from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt import actions
from vmmonitor.tests.fixtures.fake_qemu import FakeQemus
from vmmonitor.tests.functional.sources import base
from vmmonitor.tests.promises import shows


@shows("P11")
class StartTest(base.LibvirtTest):
    def setUp(self):
        super().setUp()
        self.connection = self.admin()
        self.actions = actions.DomainActions(base.new_conf())
        self.addCleanup(self.actions.stop)

    def recover(self, instance_uuid, last=None):
        return self.actions.recover(instance_uuid, last, base.TIMEOUT_S)

    def said(self, result):
        """Return the action, and whether the instance runs."""
        return result.action, result.ok

    def test_instance_without_the_needed_facts_fails(self):
        one = self.new_domain(self.connection)
        last = base.examine_running(self.connection.lookupByUUIDString(one))
        self.connection.lookupByUUIDString(one).destroy()
        other = base.xml("other", uuid.uuid4())
        for remembered, word in (
            (None, "has no definition to create it from"),
            (dataclasses.replace(last, definition=""), "has no definition to create it from"),
            (dataclasses.replace(last, definition=other), "of another instance"),
            (dataclasses.replace(last, definition="<domain>"), "of another instance"),
            (dataclasses.replace(last, ran_here=None), "has not seen it run on this host"),
            (dataclasses.replace(last, may_lack_password=True), "may have had a password"),
        ):
            result = self.recover(one, remembered)
            self.assertEqual(("none", False), self.said(result), word)
            self.assertEqual(("absent", False), (result.state, result.retry))
            self.assertIn(word, result.message)

    def test_instance_whose_migration_to_this_host_failed_is_not_started(self):
        one = self.new_domain(self.connection, persistent=True)
        last = base.examine_running(self.connection.lookupByUUIDString(one))
        self.connection.lookupByUUIDString(one).shutdown()
        result = self.recover(one, dataclasses.replace(last, ran_here=False))
        self.assertEqual(("refused", False), self.said(result))
        self.assertIn("migration to this host failed", result.message)

    def test_instance_with_living_process_is_not_started(self):
        defined = self.new_domain(self.connection, persistent=True)
        transient = self.new_domain(self.connection)
        last = base.examine_running(self.connection.lookupByUUIDString(transient))
        for one in (defined, transient):
            self.connection.lookupByUUIDString(one).shutdown()
            qemus = self.useFixture(FakeQemus())
            [pid] = qemus.start(one)
            result = self.recover(one, last)
            self.assertEqual(("none", False, True), (*self.said(result), result.retry))
            self.assertIn("although libvirt does not run it", result.message)
            self.assertIn(f"(pid {pid})", result.message)
            qemus.kill(pid)
            self.assertTrue(self.recover(one, last).ok)

    def test_instance_is_not_started_if_processes_are_hidden(self):
        one = self.new_domain(self.connection, persistent=True)
        self.connection.lookupByUUIDString(one).shutdown()
        with mock.patch.object(procfs, "find_obstacle", return_value="hidepid"):
            result = self.recover(one)
        self.assertEqual(("none", False, True), (*self.said(result), result.retry))
        self.assertIn("may still run on this host: hidepid", result.message)
