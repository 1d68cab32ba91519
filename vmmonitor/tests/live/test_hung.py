# SPDX-License-Identifier: Apache-2.0
"""What is done about real guests whose QEMU hangs, or that stand still."""

import contextlib
import os
import signal
import threading
from unittest import mock

import libvirt

from vmmonitor.sources.libvirt import actions, answering, domain
from vmmonitor.tests.fixtures.guest import NovaMetadata
from vmmonitor.tests.functional.sources import base
from vmmonitor.tests.live.libvirt_base import LiveTest

HUNG = "liveness.hung/monitor"
STALLED = "liveness.stalled/failed"
#: libvirt waits 10 s for a process that it asked to end before it kills it.
TIMEOUT_S = 90.0


class HungTest(LiveTest):
    def setUp(self):
        super().setUp()
        self.ending: list[bool] = []
        self.actions = self.new_actions()

    def new_actions(self, **options):
        options = {"answer_timeout": 2.0} | options
        made = actions.Actions(base.new_conf(uri=self.hypervisor().uri, **options))
        self.addCleanup(made.stop)
        return made

    def recover(self, guest, cause=HUNG, last=None, timeout=TIMEOUT_S, **more):
        more = {"recovery_id": "r1", "ending": self.ending.append} | more
        return self.actions.recover(guest.uuid, last, timeout, cause=cause, **more)

    def stop(self, guest):
        """Have its QEMU hang; it goes on at the latest when the test is over."""
        pid = guest.kill(signal.SIGSTOP)
        self.addCleanup(self.go_on, pid)
        return pid

    def go_on(self, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def in_another_client(self, guest, do):
        """Call libvirt in a thread of its own; returns that thread and what it raised."""
        raised: list[Exception] = []

        def call():
            try:
                self.domain(guest, do)
            except libvirt.libvirtError as error:
                raised.append(error)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        self.addCleanup(thread.join, TIMEOUT_S)
        return thread, raised

    def occupied(self, guest):
        return self.domain(guest, lambda d: d.controlInfo())[0] == 2

    def is_replaced(self, guest, pid, action, last=None):
        """Recover: it is another QEMU that answers; a second time nothing is done."""
        result = self.recover(guest, last=last)
        self.assertEqual(
            (True, action, "running", False),
            (result.ok, result.action, result.state, result.retry),
            result.message,
        )
        self.assertIn("its process is stopped: it was ended by force", result.message)
        self.assertTrue(guest.ping(base.TIMEOUT_S))
        another = guest.pid()
        self.assertNotEqual(pid, another)
        self.is_left_alone(guest, "it answers again")
        self.assertEqual(another, guest.pid())
        self.assertEqual([True], self.ending)
        self.wait(lambda: not base.threads("libvirt-question"), "ended")

    def is_left_alone(self, guest, message, cause=HUNG):
        pid = guest.pid()
        result = self.recover(guest, cause)
        self.assertEqual(
            (True, "none", message), (result.ok, result.action, result.message), cause
        )
        self.assertEqual(pid, guest.pid())

    def test_one_that_is_defined(self):
        guest = self.guest(defined=True)
        last = self.domain(guest, domain.look)
        self.is_replaced(guest, self.stop(guest), "started", last)
        self.assertTrue(self.domain(guest, lambda d: d.isPersistent()))

    def test_one_that_is_transient_while_another_client_waits_for_it(self):
        guest = self.guest(nova=NovaMetadata())
        last = self.domain(guest, domain.look)
        pid = self.stop(guest)
        thread, raised = self.in_another_client(guest, lambda d: d.reset())
        self.wait(lambda: self.occupied(guest), "occupied")
        self.is_replaced(guest, pid, "created", last)
        again = self.domain(guest, domain.look)
        self.assertEqual((last.instance, False), (again.instance, again.persistent))
        thread.join(TIMEOUT_S)
        self.assertEqual(1, len(raised))

    def test_one_that_goes_on_by_itself(self):
        guest = self.guest()
        pid = self.stop(guest)
        self.go_on(pid)
        self.is_left_alone(guest, "it answers again")
        self.actions = self.new_actions(answer_timeout=30.0)
        self.stop(guest)
        threading.Thread(
            target=lambda: (
                self.wait(lambda: self.occupied(guest), "asked"),
                self.go_on(pid),
            )
        ).start()
        self.is_left_alone(guest, "it answers again")
        self.assertEqual([], self.ending)
        self.assertTrue(guest.ping(base.TIMEOUT_S))

    def test_nothing_is_done_for_another_reason(self):
        guest = self.guest()
        self.stop(guest)
        for cause in ("", "lifecycle.stopped/failed", "liveness.stalled/suspect"):
            self.is_left_alone(guest, "it runs already", cause)
        result = self.recover(guest, STALLED)
        self.assertEqual((False, "none", True), (result.ok, result.action, result.retry))
        self.assertIn("its process is stopped", result.message)
        self.assertEqual([], self.ending)

    def test_one_that_was_paused_by_somebody(self):
        guest = self.guest()
        self.domain(guest, lambda d: d.suspend())
        self.stop(guest)
        result = self.recover(guest)
        self.assertEqual((False, "refused"), (result.ok, result.action))
        self.assertEqual([], self.ending)

    def test_one_that_is_to_be_forgotten_when_it_stops(self):
        guest = self.guest(defined=True)
        last = self.domain(guest, domain.look)
        self.domain(guest, lambda d: d.undefine())
        pid = self.stop(guest)
        result = self.recover(guest, last=last)
        self.assertEqual((False, "refused"), (result.ok, result.action))
        self.assertIn("told to forget it", result.message)
        self.assertEqual((pid, []), (guest.pid(), self.ending))

    def test_one_that_somebody_destroys_meanwhile(self):
        guest = self.guest(defined=True)
        self.stop(guest)
        real = answering.Questions.ask

        def ask(*question):
            word = real(*question)
            self.in_another_client(guest, lambda d: d.destroy())[0].join(TIMEOUT_S)
            return word

        with mock.patch.object(answering.Questions, "ask", ask):
            result = self.recover(guest)
        self.assertEqual((False, "none", True), (result.ok, result.action, result.retry))
        self.assertEqual([], self.ending)
        result = self.recover(guest)
        self.assertEqual((False, "refused"), (result.ok, result.action))
        self.assertEqual("shutoff", guest.state())

    def test_what_was_ended_is_started_later(self):
        guest = self.guest(defined=True)
        self.stop(guest)
        with mock.patch.object(
            libvirt.virDomain, "create", side_effect=libvirt.libvirtError("no memory")
        ):
            result = self.recover(guest)
        self.assertEqual((False, "none", True), (result.ok, result.action, result.retry))
        self.assertEqual([True], self.ending)
        # Somebody who does not know who ended it leaves it as it is.
        self.assertEqual("refused", self.recover(guest).action)
        result = self.recover(guest, ended=True)
        self.assertEqual((True, "started"), (result.ok, result.action))
        self.assertTrue(guest.ping(base.TIMEOUT_S))

    def test_one_that_stands_still_is_reset_once(self):
        guest = self.guest()
        guest.order("J")
        pid = guest.pid()
        self.assertFalse(guest.ping(0.5))
        result = self.recover(guest, STALLED)
        self.assertEqual((True, "reset", "running"), (result.ok, result.action, result.state))
        self.assertTrue(guest.ping(base.TIMEOUT_S))
        self.assertEqual(pid, guest.pid())
        self.is_left_alone(guest, "it runs already", STALLED)
        self.assertEqual("reset", self.recover(guest, STALLED, recovery_id="r2").action)
