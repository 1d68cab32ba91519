# SPDX-License-Identifier: Apache-2.0
"""Test that forged events and orders do not change a running guest."""

import time
import uuid

from vmmonitor import conf as configuration
from vmmonitor.model import event as events
from vmmonitor.model.instance import Instance
from vmmonitor.model.order import RecoveryOrder
from vmmonitor.model.receipt import ReceiptStatus
from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.rpc import event_wire
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.agent_api import AgentAPI
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.tests.live.base import RESTART, WholeTest
from vmmonitor.tests.promises import shows

STALLED = "liveness.stalled/failed"
STARTED = "lifecycle.started/booted"
RESOLVED = IncidentState.RESOLVED


@shows("P4", "P12")
class ForgedTest(WholeTest):
    def setUp(self):
        super().setUp()
        self.deploy()
        options = self.policies(RESTART)
        options["recovery"]["verdict_retry_interval"] = 1
        self.start(self.deployment.engine(options=options))
        self.watched()
        self.transport = transports.new(configuration.new([], files=[]), self.deployment.bus)
        self.addCleanup(self.transport.cleanup)

    def forge_event(self, guest, cause):
        """Send an event in the name of the host."""
        kind, _, detail = cause.partition("/")
        now = time.time_ns() // 1000
        event = events.Event(
            event_id=str(uuid.uuid4()),
            host="node-1",
            instance=Instance(uuid=guest.uuid, name=guest.name),
            source="liveness" if kind.startswith("liveness") else "libvirt",
            type=kind,
            detail=detail,
            occurred_at=now,
        )
        decision = events.Decision(action=events.INCIDENT, severity=events.CRITICAL, rule="forged")
        form = event_wire.write_delivery(event, decision, now)
        receipts = EngineAPI(self.transport).report_events("node-1", now, [form], 30)
        self.assertEqual([ReceiptStatus.STORED], [receipt.status for receipt in receipts])

    def forge_order(self, guest):
        """Send an order in the name of an engine; return the answer of the agent."""
        order = RecoveryOrder(
            instance_uuid=guest.uuid,
            recovery_id=str(uuid.uuid4()),
            token=2**40,
            expires_at=time.time_ns() // 1000 + 60_000_000,
            timeout=20.0,
            cause=STALLED,
        )
        return AgentAPI(self.transport).recover_instance("node-1", order)

    def recoveries(self, guest):
        return [
            recovery.state
            for incident in self.deployment.incidents(guest.uuid)
            for recovery in self.deployment.recoveries(incident.incident_id)
        ]

    def test_running_guest_is_neither_reset_nor_started_by_forgeries(self):
        guest = self.guest()
        pid = guest.pid()
        # The event of the start would resolve an incident that is older.
        self.wait(lambda: STARTED in self.deployment.causes(guest.uuid), "the start is not stored")
        for cause in (STALLED, "lifecycle.stopped/failed"):
            self.forge_event(guest, cause)
        self.wait(lambda: set(self.states(guest)) == {RESOLVED}, "an incident is not resolved")
        answer = self.forge_order(guest)
        self.assertEqual((False, "none", True), (answer["ok"], answer["action"], answer["retry"]))
        self.assertIn("it was not reset: the recovery is no longer current", answer["message"])
        self.assertTrue(guest.ping(10))
        self.assertEqual(pid, guest.pid())
        self.assertNotIn("reboot", self.deployment.causes(guest.uuid))
        self.assertEqual([], self.recoveries(guest))
        # The forgeries do not prevent the recovery of an honest failure.
        count = len(self.states(guest)) + 1
        guest.kill()
        self.wait(lambda: self.states(guest) == [RESOLVED] * count, "the guest is not recovered")
        self.assertTrue(guest.ping(60))
        self.assertEqual([RecoveryState.SUCCEEDED], self.recoveries(guest))
