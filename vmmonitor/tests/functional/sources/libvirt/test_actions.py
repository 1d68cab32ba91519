# SPDX-License-Identifier: Apache-2.0
"""Bringing instances back, on libvirt's test driver; real guests are in tests/live."""

import dataclasses
import gc
import threading
import uuid
from unittest import mock

import fixtures
import libvirt

from vmmonitor.model.instance import Instance, Seen
from vmmonitor.sources.libvirt import actions, connection, domain, responsiveness
from vmmonitor.tests.functional.sources import base
from vmmonitor.tests.promises import shows


class ActionsTest(base.LibvirtTest):
    def setUp(self):
        super().setUp()
        self.connection = self.admin()
        self.actions = actions.DomainActions(base.new_conf())
        self.addCleanup(self.actions.stop)

    def recover(self, instance_uuid, last=None, timeout=base.TIMEOUT_S, **more):
        """Recover, and check what holds for every result."""
        result = self.actions.recover(instance_uuid, last, timeout, **more)
        self.assertNotEqual("", result.message)
        if result.ok:
            self.assertEqual("running", result.state)
            self.assertFalse(result.retry)
        return result

    def in_state(self, *numbers):
        """Have every domain be in a state, as far as libvirt says."""
        return mock.patch.object(libvirt.virDomain, "state", lambda *_: list(numbers))

    def test_stopped_one_is_started_once(self):
        one = self.new_domain(self.connection, persistent=True)
        self.connection.lookupByUUIDString(one).shutdown()
        self.assertEqual(("started", True), self.said(self.recover(one)))
        self.assertEqual(("none", True), self.said(self.recover(one)))

    def said(self, result):
        """What was done, and whether it runs."""
        return result.action, result.ok

    def test_vanished_one_is_created_as_it_was(self):
        one = self.new_domain(self.connection)
        last = base.examine_running(self.connection.lookupByUUIDString(one))
        self.connection.lookupByUUIDString(one).destroy()
        self.assertEqual(("created", True), self.said(self.recover(one, last)))
        again = domain.examine(self.connection.lookupByUUIDString(one))
        self.assertEqual((last.instance, False), (again.instance, again.persistent))
        self.assertEqual(("none", True), self.said(self.recover(one, last)))

    def test_at_once(self):
        one = self.new_domain(self.connection)
        last = base.examine_running(self.connection.lookupByUUIDString(one))
        self.connection.lookupByUUIDString(one).destroy()
        results = []
        both = [
            threading.Thread(target=lambda: results.append(self.recover(one, last)))
            for _ in range(8)
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        self.assertEqual(["created"] + ["none"] * 7, sorted(each.action for each in results))
        self.assertTrue(all(each.ok for each in results))

    def test_somebody_else_was_faster(self):
        one = self.new_domain(self.connection, persistent=True)
        self.connection.lookupByUUIDString(one).shutdown()
        real = libvirt.virDomain.create

        def create(found):
            real(found)
            raise libvirt.libvirtError("domain is already running")

        with mock.patch.object(libvirt.virDomain, "create", create):
            self.assertEqual(("none", True), self.said(self.recover(one)))

    def test_what_is_not_created(self):
        one = self.new_domain(self.connection)
        last = base.examine_running(self.connection.lookupByUUIDString(one))
        self.connection.lookupByUUIDString(one).destroy()
        for remembered, word in (
            (dataclasses.replace(last, persistent=True), "was removed from libvirt"),
            (dataclasses.replace(last, ran_here=False), "migration to this host failed"),
            (dataclasses.replace(last, state="shutoff", reason="migrated"), "migrated"),
            (dataclasses.replace(last, state="shutoff", reason="destroyed"), "on purpose"),
            (dataclasses.replace(last, state="shutoff", reason="saved"), "saved"),
        ):
            result = self.recover(one, remembered)
            self.assertEqual(("refused", False), self.said(result))
            self.assertEqual(("absent", False), (result.state, result.retry))
            self.assertIn(word, result.message)

    def test_what_is_left_alone(self):
        one = self.new_domain(self.connection)
        for numbers, words in (
            ((libvirt.VIR_DOMAIN_PAUSED, 1), ("paused", "user")),
            ((libvirt.VIR_DOMAIN_PAUSED, 2), ("paused", "migration")),
            ((libvirt.VIR_DOMAIN_PAUSED, 3), ("paused", "save")),
            ((libvirt.VIR_DOMAIN_PAUSED, 9), ("paused", "snapshot")),
            ((libvirt.VIR_DOMAIN_PAUSED, 0), ("paused", "unknown")),
            ((libvirt.VIR_DOMAIN_PMSUSPENDED, 0), ("pmsuspended", "unknown")),
            ((libvirt.VIR_DOMAIN_SHUTDOWN, 1), ("running", "shutting_down")),
            ((libvirt.VIR_DOMAIN_SHUTOFF, 2), ("shutoff", "destroyed")),
            ((libvirt.VIR_DOMAIN_SHUTOFF, 4), ("shutoff", "migrated")),
            ((libvirt.VIR_DOMAIN_SHUTOFF, 5), ("shutoff", "saved")),
            ((99, 1), ("unknown-99", "unknown-1")),
        ):
            with self.in_state(*numbers):
                result = self.recover(one)
            self.assertEqual(("refused", False), self.said(result))
            self.assertEqual((*words, False), (result.state, result.reason, result.retry))

    def test_storage_error_that_is_not_over(self):
        one = self.new_domain(self.connection)
        self.connection.lookupByUUIDString(one).suspend()
        with self.in_state(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR):
            result = self.recover(one)
        self.assertEqual(("resumed", False), self.said(result))
        self.assertEqual("the storage error persists", result.message)
        self.assertTrue(result.retry)

    def control(self, *answer):
        """Have QEMU never answer, and libvirt say this of every domain's monitor."""
        over = threading.Event()
        self.addCleanup(over.set)
        for name, value in (
            ("ioThreadInfo", lambda *_: over.wait(base.TIMEOUT_S)),
            ("controlInfo", lambda *_: list(answer)),
        ):
            self.useFixture(fixtures.MonkeyPatch(f"libvirt.virDomain.{name}", value))
        self.actions = actions.DomainActions(base.new_conf(answer_timeout=0.1))

    def hung(self, one, process="", **more):
        """Recover one that is said to hang, with a process in this state."""
        with mock.patch.object(responsiveness, "_read_process_state", lambda _: process):
            return self.actions.recover(
                one, None, base.TIMEOUT_S, cause="liveness.hung/monitor", **more
            )

    def test_libvirt_does_not_wait_for_qemu(self):
        one = self.new_domain(self.connection)
        for control in (
            (libvirt.VIR_DOMAIN_CONTROL_OK, 0, 0),
            (libvirt.VIR_DOMAIN_CONTROL_JOB, 0, 60_000),
            (libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, 0, 3),
        ):
            self.control(*control)
            result = self.hung(one, "T")
            self.assertEqual((("none", False), True), (self.said(result), result.retry))
            self.assertIn("libvirt does not wait for its QEMU", result.message)

    def test_somebody_traces_it(self):
        one = self.new_domain(self.connection)
        self.control(libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, 0, 60_000)
        result = self.hung(one, "t")
        self.assertEqual((("none", False), True), (self.said(result), result.retry))
        self.assertIn("a debugger traces its process", result.message)

    def test_one_that_hangs_is_ended_and_created(self):
        one = self.new_domain(self.connection)
        for control in (
            (libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, 0, 60_000),
            (libvirt.VIR_DOMAIN_CONTROL_ERROR, 0, 0),
        ):
            self.control(*control)
            listener = base.StopRecorder()
            result = self.hung(one, listener=listener)
            self.assertEqual(("created", True), self.said(result))
            self.assertIn("it was stopped by force, and it was created and runs", result.message)
            self.assertEqual(["begins"], listener.calls)

    def test_one_that_cannot_be_ended(self):
        one = self.new_domain(self.connection)
        self.control(libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, 0, 60_000)
        listener = base.StopRecorder()
        busy = libvirt.libvirtError("Failed to terminate process 7 with SIGKILL")
        with mock.patch.object(libvirt.virDomain, "destroy", side_effect=busy):
            result = self.hung(one, "D", listener=listener)
        self.assertEqual((("none", False), True), (self.said(result), result.retry))
        self.assertIn("SIGKILL", result.message)
        self.assertEqual(["begins", "failed"], listener.calls)

    def test_it_is_asked_by_one_thread_however_often(self):
        one = self.new_domain(self.connection)
        self.control(libvirt.VIR_DOMAIN_CONTROL_JOB, 0, 0)
        for _ in range(3):
            self.hung(one)
        self.assertEqual(1, len(base.threads("libvirt-question")))

    def test_what_is_paused_by_a_failure_and_hangs_too(self):
        one = self.new_domain(self.connection)
        self.control(libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, 0, 60_000)
        paused = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)
        with self.in_state(*paused):
            result = self.recover(one)
            self.assertEqual((("none", False), True), (self.said(result), result.retry))
            self.assertIn("cannot carry it out", result.message)
        real, destroyed = libvirt.virDomain.destroy, []

        def destroy(found):
            real(found)
            destroyed.append(found)

        def state(found, *_):
            if not destroyed:
                return list(paused)
            return [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED]

        with (
            mock.patch.object(libvirt.virDomain, "destroy", destroy),
            mock.patch.object(libvirt.virDomain, "state", state),
        ):
            self.assertEqual(("created", True), self.said(self.hung(one)))

    def test_libvirt_is_away(self):
        away = actions.DomainActions(base.new_conf(uri="qemu+unix:///session?socket=/none"))
        result = away.recover(str(uuid.uuid4()), None, base.TIMEOUT_S)
        self.assertEqual(
            (False, "none", "", True), (result.ok, result.action, result.state, result.retry)
        )
        self.assertIn("/none", result.message)

    def test_definition_that_libvirt_refuses(self):
        one = str(uuid.uuid4())
        definition = f"<domain type='test'><name>x</name><uuid>{one}</uuid></domain>"
        last = Seen(
            instance=Instance(uuid=one),
            state="running",
            definition=definition,
            persistent=False,
            ran_here=True,
        )
        result = self.recover(one, last)
        self.assertEqual(("none", False, False), (*self.said(result), result.retry))

    def test_a_uuid_that_is_none(self):
        result = self.recover("nonsense")
        self.assertEqual(("none", False, False), (*self.said(result), result.retry))

    def test_libvirt_that_hangs_does_not_hang_its_caller(self):
        one = self.new_domain(self.connection)
        answer = threading.Event()
        self.addCleanup(answer.set)
        real = connection.connect
        with mock.patch.object(actions, "connect", lambda *args: answer.wait() and real(*args)):
            result = self.recover(one, timeout=0.1)
            self.assertIn("within 0.1 s", result.message)
            self.assertTrue(result.retry)
            self.assertTrue(self.actions.is_recovering(one))
            result = self.recover(one, timeout=0.1)
            self.assertIn("still running", result.message)
            self.assertTrue(result.retry)
            answer.set()
            self.assertEqual(("none", True), self.said(self.recover(one)))
        self.wait(lambda: not base.threads("libvirt-action"), "ended")
        self.assertFalse(self.actions.is_recovering(one))

    def shut_down(self):
        """Return a domain that is shut off, for a reason that is not a plan."""
        one = self.new_domain(self.connection, persistent=True)
        self.connection.lookupByUUIDString(one).shutdown()
        return one

    def is_running(self, one):
        return bool(self.connection.lookupByUUIDString(one).isActive())

    @shows("P11")
    def test_recovery_whose_libvirt_hangs_past_its_end_starts_nothing(self):
        one = self.shut_down()
        answer = threading.Event()
        self.addCleanup(answer.set)
        real = connection.connect
        with mock.patch.object(actions, "connect", lambda *args: answer.wait() and real(*args)):
            self.assertFalse(self.recover(one, timeout=0.1).ok)
            answer.set()
            self.wait(lambda: not base.threads("libvirt-action"), "ended")
        self.assertFalse(self.is_running(one))

    def test_agent_that_stops_while_libvirt_hangs_starts_nothing(self):
        one = self.shut_down()
        real = connection.connect

        def connect(*args):
            self.actions.stop()
            return real(*args)

        with mock.patch.object(actions, "connect", connect):
            result = self.recover(one)
        self.assertEqual(
            ("it was not started: the agent is stopping", True), (result.message, result.retry)
        )
        self.assertFalse(self.is_running(one))

    @shows("P11")
    def test_effect_that_is_not_permitted_is_not_begun(self):
        one = self.shut_down()
        permit = base.FakePermit(obstacle="the recovery is no longer current")
        result = self.recover(one, permit=permit)
        self.assertEqual((("none", False), True), (self.said(result), result.retry))
        self.assertIn("not started: the recovery is no longer current", result.message)
        self.assertFalse(self.is_running(one))
        self.assertEqual([], permit.done)

    def test_each_effect_asks_for_its_own_permit(self):
        one = self.new_domain(self.connection)
        last = base.examine_running(self.connection.lookupByUUIDString(one))
        permit = base.FakePermit()
        self.control(libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, 0, 60_000)
        self.assertEqual(("created", True), self.said(self.hung(one, permit=permit)))
        self.assertEqual((["stopped", "created"], 2), (permit.done, permit.questions))
        self.connection.lookupByUUIDString(one).shutdown()
        permit = base.FakePermit()
        result = self.recover(one, last, permit=permit)
        self.assertEqual(("created", True), self.said(result))
        self.assertEqual((["created"], 1), (permit.done, permit.questions))

    def test_paused_and_crashed_instance_asks_for_reset_and_resume(self):
        one = self.new_domain(self.connection)
        for reason, done in (
            (libvirt.VIR_DOMAIN_PAUSED_CRASHED, ["reset", "resumed"]),
            (libvirt.VIR_DOMAIN_PAUSED_IOERROR, ["resumed"]),
        ):
            permit = base.FakePermit()
            with (
                self.in_state(libvirt.VIR_DOMAIN_PAUSED, reason),
                mock.patch.object(libvirt.virDomain, "reset", lambda _: 0),
                mock.patch.object(libvirt.virDomain, "resume", lambda _: 0),
            ):
                self.recover(one, permit=permit)
            self.assertEqual((done, len(done)), (permit.done, permit.questions))

    def test_hung_instance_is_not_stopped_without_permit(self):
        one = self.new_domain(self.connection)
        self.control(libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, 0, 60_000)
        listener = base.StopRecorder()
        permit = base.FakePermit(obstacle="the order expired 3.0 s ago")
        result = self.hung(one, listener=listener, permit=permit)
        self.assertIn("it was not stopped: the order expired 3.0 s ago", result.message)
        self.assertEqual(([], []), (listener.calls, permit.done))
        self.assertTrue(self.is_running(one))

    def test_a_bug_is_a_failure(self):
        with mock.patch.object(actions, "connect", side_effect=RuntimeError("a bug")):
            result = self.recover(str(uuid.uuid4()))
        self.assertEqual("RuntimeError: a bug", result.message)
        self.assertTrue(result.retry)

    def test_stopped(self):
        self.actions.stop()
        result = self.recover(self.new_domain(self.connection))
        self.assertEqual(("none", False, True), (*self.said(result), result.retry))
        self.assertIn("stopping", result.message)

    def test_locks_do_not_pile_up(self):
        for _ in range(5):
            self.recover(self.new_domain(self.connection))
        self.wait(lambda: not base.threads("libvirt-action"), "ended")
        self.wait(lambda: gc.collect() >= 0 and not len(self.actions._locks), "forgotten")
