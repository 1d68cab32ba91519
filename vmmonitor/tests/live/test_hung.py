# SPDX-License-Identifier: Apache-2.0
"""Test the recovery of real guests that are stalled or whose QEMU hangs."""

import contextlib
import os
import signal
import threading
import time
import uuid
from unittest import mock

import libvirt

from vmmonitor import conf as configuration
from vmmonitor.model import event as events
from vmmonitor.model.instance import Instance
from vmmonitor.model.receipt import ReceiptStatus
from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.rpc import event_wire
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.sources.libvirt import actions, responsiveness
from vmmonitor.testing.guest import NovaMetadata
from vmmonitor.tests.functional.sources import base
from vmmonitor.tests.live.base import WholeTest
from vmmonitor.tests.live.libvirt_base import LiveTest
from vmmonitor.tests.promises import shows

HUNG = "liveness.hung/monitor"
BEGUN = "recovery.ending/begun"
STALLED = "liveness.stalled/failed"
#: As shipped, but with less patience.
POLICIES = """
version: 1
policies:
- name: hung
  match: {type: liveness.hung}
  hold: %(hold)g
  steps:
  - driver: libvirt
    attempts: 3
    timeout: %(timeout)g
    wait_for: running
    wait: 60
    backoff: {initial: 0.5, factor: 1, max: 1, jitter: 0}
"""
#: libvirt waits 10 s for a process that it asked to end before it kills it.
TIMEOUT_S = 90.0


@shows("P5")
class HungTest(LiveTest):
    def setUp(self):
        super().setUp()
        self.listener = base.StopRecorder()
        self.actions = self.new_actions()

    def new_actions(self, **options):
        options = {"answer_timeout": 2.0} | options
        made = actions.DomainActions(base.new_conf(uri=self.hypervisor().uri, **options))
        self.addCleanup(made.stop)
        return made

    def recover(self, guest, cause=HUNG, last=None, timeout=TIMEOUT_S, **more):
        more = {"recovery_id": "r1", "listener": self.listener} | more
        return self.actions.recover(guest.uuid, last, timeout, cause=cause, **more)

    def stop(self, guest):
        """Stop QEMU until the end of the test at the latest."""
        pid = guest.kill(signal.SIGSTOP)
        self.addCleanup(self.go_on, pid)
        return pid

    def go_on(self, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def in_another_client(self, guest, do):
        """Call libvirt in a separate thread; return the thread and the raised errors."""
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
        """Check that a new QEMU answers after the recovery, and that a repetition does nothing."""
        result = self.recover(guest, last=last)
        self.assertEqual(
            (True, action, "running", False),
            (result.ok, result.action, result.state, result.retry),
            result.message,
        )
        self.assertIn("its process is stopped: it was stopped by force", result.message)
        self.assertTrue(guest.ping(base.TIMEOUT_S))
        another = guest.pid()
        self.assertNotEqual(pid, another)
        self.is_left_alone(guest, "it answers again")
        self.assertEqual(another, guest.pid())
        self.assertEqual(["begins"], self.listener.calls)
        self.wait(lambda: not base.threads("libvirt-question"), "ended")

    def is_left_alone(self, guest, message, cause=HUNG):
        pid = guest.pid()
        result = self.recover(guest, cause)
        self.assertEqual(
            (True, "none", message), (result.ok, result.action, result.message), cause
        )
        self.assertEqual(pid, guest.pid())

    def test_hung_defined_instance_is_restarted(self):
        guest = self.guest(defined=True)
        last = self.domain(guest, base.examine_running)
        self.is_replaced(guest, self.stop(guest), "started", last)
        self.assertTrue(self.domain(guest, lambda d: d.isPersistent()))

    def test_hung_transient_instance_with_waiting_client_is_restarted(self):
        guest = self.guest(nova=NovaMetadata())
        last = self.domain(guest, base.examine_running)
        pid = self.stop(guest)
        thread, raised = self.in_another_client(guest, lambda d: d.reset())
        self.wait(lambda: self.occupied(guest), "occupied")
        self.is_replaced(guest, pid, "created", last)
        again = self.domain(guest, base.examine_running)
        self.assertEqual((last.instance, False), (again.instance, again.persistent))
        thread.join(TIMEOUT_S)
        self.assertEqual(1, len(raised))

    def test_hung_instance_that_continues_is_not_changed(self):
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
        self.assertEqual([], self.listener.calls)
        self.assertTrue(guest.ping(base.TIMEOUT_S))

    def test_hung_instance_with_other_cause_is_not_changed(self):
        guest = self.guest()
        self.stop(guest)
        for cause in ("", "lifecycle.stopped/failed", "liveness.stalled/suspect"):
            self.is_left_alone(guest, "it runs already", cause)
        result = self.recover(guest, STALLED)
        self.assertEqual((False, "none", True), (result.ok, result.action, result.retry))
        self.assertIn("its process is stopped", result.message)
        self.assertEqual([], self.listener.calls)

    def test_hung_instance_paused_on_purpose_is_refused(self):
        guest = self.guest()
        self.domain(guest, lambda d: d.suspend())
        self.stop(guest)
        result = self.recover(guest)
        self.assertEqual((False, "refused"), (result.ok, result.action))
        self.assertEqual([], self.listener.calls)

    def test_hung_undefined_instance_is_refused(self):
        guest = self.guest(defined=True)
        last = self.domain(guest, base.examine_running)
        self.domain(guest, lambda d: d.undefine())
        pid = self.stop(guest)
        result = self.recover(guest, last=last)
        self.assertEqual((False, "refused"), (result.ok, result.action))
        self.assertIn("removed from libvirt", result.message)
        self.assertEqual((pid, []), (guest.pid(), self.listener.calls))

    def test_hung_instance_destroyed_by_another_client_is_not_started(self):
        guest = self.guest(defined=True)
        self.stop(guest)
        real = responsiveness.ResponsivenessProbe.find_hang

        def ask(*question):
            word = real(*question)
            self.in_another_client(guest, lambda d: d.destroy())[0].join(TIMEOUT_S)
            return word

        with mock.patch.object(responsiveness.ResponsivenessProbe, "find_hang", ask):
            result = self.recover(guest)
        self.assertEqual((False, "none", True), (result.ok, result.action, result.retry))
        self.assertEqual([], self.listener.calls)
        result = self.recover(guest)
        self.assertEqual((False, "refused"), (result.ok, result.action))
        self.assertEqual("shutoff", guest.state())

    def test_destroyed_instance_is_started_by_next_request(self):
        guest = self.guest(defined=True)
        self.stop(guest)
        with mock.patch.object(
            libvirt.virDomain, "create", side_effect=libvirt.libvirtError("no memory")
        ):
            result = self.recover(guest)
        self.assertEqual((False, "none", True), (result.ok, result.action, result.retry))
        self.assertEqual(["begins"], self.listener.calls)
        # Without the information that the agent destroyed it, the instance is not started.
        self.assertEqual("refused", self.recover(guest).action)
        result = self.recover(guest, stopped_by_recovery=True)
        self.assertEqual((True, "started"), (result.ok, result.action))
        self.assertTrue(guest.ping(base.TIMEOUT_S))

    def test_stalled_instance_is_reset_once(self):
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


@shows("P5")
class WholeHungTest(WholeTest):
    """Test the way from the liveness event to a guest that answers."""

    def setUp(self):
        super().setUp()
        self.deploy()

    def run_all(self, hold=0.5, timeout=60):
        policies = self.policies(POLICIES % {"hold": hold, "timeout": timeout})
        self.start(self.deployment.engine(options=policies))
        self.transport = transports.new(configuration.new([], files=[]), self.deployment.bus)
        self.addCleanup(self.transport.cleanup)
        return self.watched(libvirt={"answer_timeout": 2})

    def say(self, guest, cause, action=events.INCIDENT):
        """Send an event as the liveness source."""
        kind, _, detail = cause.partition("/")
        now = time.time_ns() // 1000
        event = events.Event(
            event_id=str(uuid.uuid4()),
            host="node-1",
            instance=Instance(uuid=guest.uuid, name=guest.name),
            source="liveness",
            type=kind,
            detail=detail,
            occurred_at=now,
        )
        decision = events.Decision(action=action, severity=events.CRITICAL, rule="hangs")
        form = event_wire.write_delivery(event, decision, now)
        receipts = EngineAPI(self.transport).report_events("node-1", now, [form], 30)
        self.assertEqual([ReceiptStatus.STORED], [receipt.status for receipt in receipts])

    def recoveries(self, guest):
        (incident,) = self.deployment.incidents(guest.uuid)
        return [one.state for one in self.deployment.recoveries(incident.incident_id)]

    def is_replaced(self, guest, pid):
        self.recovered(guest)
        self.assertNotEqual(pid, guest.pid())
        self.assertEqual([RecoveryState.SUCCEEDED], self.recoveries(guest))
        # From libvirt's event, or from a listing at the same moment.
        stops = {"lifecycle.stopped/destroyed", "lifecycle.stopped/vanished"}
        self.assertLessEqual(set(self.stops(guest)), stops)
        causes = self.deployment.causes(guest.uuid)
        self.assertEqual(1, causes.count(BEGUN))

    def test_hung_guests_are_replaced(self):
        self.run_all()
        persistent, transient = self.guest(defined=True), self.guest()
        pids = {guest: guest.kill(signal.SIGSTOP) for guest in (persistent, transient)}
        with self.hypervisor().connection() as connection:
            hangs = threading.Thread(target=self.reset, args=(connection, transient))
            hangs.start()
            for guest in pids:
                self.say(guest, "liveness.hung/stopped")
            for guest, pid in pids.items():
                self.is_replaced(guest, pid)
            hangs.join(TIMEOUT_S)

    def reset(self, connection, guest):
        """Call libvirt and wait for a QEMU that does not answer."""
        with contextlib.suppress(libvirt.libvirtError):
            connection.lookupByUUIDString(guest.uuid).reset()

    def test_hung_guest_that_continues_in_time_is_not_changed(self):
        self.run_all(hold=2)
        cleared, quiet = self.guest(), self.guest()
        pids = {guest: guest.kill(signal.SIGSTOP) for guest in (cleared, quiet)}
        for guest in pids:
            self.say(guest, "liveness.hung/stopped")
            guest.kill(signal.SIGCONT)
        self.say(cleared, "liveness.recovered", events.RECORD)
        for guest, pid in pids.items():
            self.wait(lambda g=guest: self.states(g) == [IncidentState.RESOLVED], "not resolved")
            self.assertTrue(guest.ping(base.TIMEOUT_S))
            self.assertEqual(pid, guest.pid())
            self.assertNotIn(BEGUN, self.deployment.causes(guest.uuid))
            self.assertEqual([], self.recoveries(guest))

    def test_killed_agent_continues_restart_of_hung_guest(self):
        agent = self.run_all(timeout=12)
        for guest in (self.guest(defined=True), self.guest()):
            guest.kill(signal.SIGSTOP)
            self.say(guest, "liveness.hung/stopped")
            self.wait(lambda g=guest: BEGUN in self.deployment.causes(g.uuid), "not begun")
            agent.kill()
            self.wait(lambda g=guest: g.state() in ("shutoff", "absent"), "not ended")
            self.watched(agent)
            self.recovered(guest)
            self.assertEqual(
                [RecoveryState.FAILED, RecoveryState.SUCCEEDED], self.recoveries(guest)
            )
