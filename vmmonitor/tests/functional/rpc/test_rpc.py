# SPDX-License-Identifier: Apache-2.0
"""Calls between agents and engines over the in-process bus, and what may go wrong with them."""

import dataclasses
import threading
import time

import oslo_messaging
import testtools

from vmmonitor import conf as configuration
from vmmonitor.agent.engine_clock import EngineClock
from vmmonitor.model.errors import InvalidMessage, Retriable
from vmmonitor.model.inspection import Inspection
from vmmonitor.model.order import ProhibitionAnswer, RecoveryOrder, StartProhibition
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import event_wire, fields
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.agent_api import INSPECTION_SHARE, AgentAPI, AgentEndpoint
from vmmonitor.rpc.dispatch import exposed
from vmmonitor.rpc.engine_api import EngineAPI, EngineEndpoint
from vmmonitor.rpc.inventory_wire import InventoryChanges
from vmmonitor.testing.builders import AT, HOST, RECOVERY_ID, UUID, event, id_of
from vmmonitor.tests.fixtures.bus import Bus

PATIENCE = 10.0
ANSWER = {"ok": True, "action": "started", "state": "running", "reason": "", "message": "it runs"}


ORDER = RecoveryOrder(
    instance_uuid=UUID,
    recovery_id=RECOVERY_ID,
    token=7,
    expires_at=AT,
    timeout=PATIENCE,
    cause="liveness.hung/x",
)


def delivery(**changes):
    decision = {"action": "record", "severity": "info", "rule": "all"}
    form = event_wire.write_event(event("lifecycle.stopped/failed", **changes))
    return form | {"decision": decision, "spooled_at": 1}


class Engine(EngineEndpoint):
    """Stores in memory; raises ``failing`` as long as it is set."""

    def __init__(self):
        self.batches = []
        self.failing = None

    def read_time(self):
        return time.time_ns() // 1000

    def is_current(self, host, instance_uuid, recovery_id, token):
        self.checked = (host, instance_uuid, recovery_id, token)
        return token == 7

    def store_events(self, batch):
        self.batches.append(batch)
        if self.failing:
            raise self.failing
        return [
            Receipt(status=ReceiptStatus.REFUSED, reason=one)
            if isinstance(one, str)
            else Receipt(status=ReceiptStatus.STORED)
            for one in batch.deliveries
        ]

    def store_report(self, report, caller):
        return "digest"

    def store_evidence(self, exhibit):
        self.exhibit = exhibit
        return Receipt(status=ReceiptStatus.STORED)

    def store_inventory(self, host, digest, seen, caller):
        self.inventory = (host, digest, seen)


class Agent(AgentEndpoint):
    """Brings back whatever it is asked for."""

    found = Inspection(state="paused", reason="ioerror", managed=True, process=True, answers=None)

    def recover(self, order):
        self.asked = order
        return ANSWER | {"retry": False}

    def prohibit(self, prohibition):
        self.prohibited = prohibition
        return ProhibitionAnswer(accepted=False, reason="it runs")

    def inspect(self, instance_uuid, timeout):
        self.inspected = (instance_uuid, timeout)
        return self.found


class OldAgent:
    """Implements version 1.1, which has neither fence token nor expiry."""

    target = oslo_messaging.Target(version="1.1")

    def __init__(self):
        self.requests = []

    @exposed
    def recover_instance(self, _context, request):
        self.requests.append(request)
        return ANSWER | {"retry": False, "schema": fields.SCHEMA}


class Silent:
    """Answers too late."""

    target = oslo_messaging.Target(version="2.0")

    def __init__(self):
        self.over = threading.Event()

    @exposed
    def report_events(self, _context, batch):
        self.over.wait(PATIENCE)
        return event_wire.write_receipts([Receipt(status=ReceiptStatus.STORED)])


class Newer:
    """Speaks another version only."""

    target = oslo_messaging.Target(version="3.0")

    @exposed
    def report_events(self, _context, batch):
        raise AssertionError("must not be called")


class RpcTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.transport = self.useFixture(Bus(configuration.new([], files=[]))).transport
        self.engine = EngineAPI(self.transport)
        self.agent = AgentAPI(self.transport)

    def serve(self, endpoint, topic=transports.ENGINE_TOPIC, host="engine-1"):
        server = transports.serve(self.transport, topic, host, endpoint)
        server.start()
        self.addCleanup(server.stop, PATIENCE)
        return endpoint

    def report(self, *deliveries, timeout=PATIENCE):
        return self.engine.report_events(HOST, 5, deliveries or [delivery()], timeout)

    def test_a_batch_arrives_as_it_was_and_each_event_has_its_receipt(self):
        endpoint = self.serve(Engine())
        receipts = self.report(
            delivery(), {"event_id": "hopeless"}, delivery(event_id=id_of("second"))
        )
        self.assertEqual(
            [ReceiptStatus.STORED, ReceiptStatus.REFUSED, ReceiptStatus.STORED],
            [one.status for one in receipts],
        )
        (batch,) = endpoint.batches
        self.assertEqual((HOST, 5), (batch.host, batch.sent_at))
        self.assertEqual(event("lifecycle.stopped/failed"), batch.deliveries[0].event)

    def test_order_reaches_only_the_agent_of_its_host(self):
        endpoints = {
            host: self.serve(Agent(), transports.AGENT_TOPIC, host) for host in ("one", "two")
        }
        answer = self.agent.recover_instance("two", ORDER)
        self.assertEqual(ANSWER | {"retry": False, "schema": fields.SCHEMA}, answer)
        self.assertEqual(ORDER, endpoints["two"].asked)
        self.assertFalse(hasattr(endpoints["one"], "asked"))

    def test_inspection_returns_what_the_agent_found(self):
        endpoint = self.serve(Agent(), transports.AGENT_TOPIC, "one")
        self.assertEqual(Agent.found, self.agent.inspect_instance("one", UUID, PATIENCE))
        self.assertEqual((UUID, PATIENCE * INSPECTION_SHARE), endpoint.inspected)

    def test_prohibition_reaches_the_agent_and_is_answered(self):
        endpoint = self.serve(Agent(), transports.AGENT_TOPIC, "one")
        prohibition = StartProhibition(
            instance_uuid=UUID, recovery_id=RECOVERY_ID, token=7, timeout=PATIENCE
        )
        answer = self.agent.prohibit_start("one", prohibition)
        self.assertEqual(ProhibitionAnswer(accepted=False, reason="it runs"), answer)
        self.assertEqual(prohibition, endpoint.prohibited)

    def test_inspection_with_an_invalid_answer_raises_invalid_message(self):
        endpoint = self.serve(Agent(), transports.AGENT_TOPIC, "one")
        for field in ("managed", "process", "answers", "state"):
            endpoint.found = dataclasses.replace(Agent.found, **{field: 7})
            self.assertRaises(InvalidMessage, self.agent.inspect_instance, "one", UUID, PATIENCE)

    def test_order_without_fence_is_not_sent_to_an_older_agent(self):
        endpoint = self.serve(OldAgent(), transports.AGENT_TOPIC, "one")
        self.assertRaises(transports.Unsupported, self.agent.recover_instance, "one", ORDER)
        self.assertEqual([], endpoint.requests)

    def test_order_without_fence_of_an_older_engine_is_refused(self):
        endpoint = self.serve(Agent(), transports.AGENT_TOPIC, "one")
        target = oslo_messaging.Target(topic=transports.AGENT_TOPIC, server="one", version="1.1")
        client = oslo_messaging.get_rpc_client(self.transport, target, timeout=PATIENCE)
        request = {"schema": 1, "instance_uuid": UUID, "recovery_id": RECOVERY_ID, "timeout": 5}
        self.assertRaises(Exception, client.call, {}, "recover_instance", request=request)  # noqa: B017
        self.assertFalse(hasattr(endpoint, "asked"))

    def test_check_of_a_recovery_returns_the_answer_and_samples_the_time(self):
        endpoint = self.serve(Engine())
        clock = EngineClock()
        engine = EngineAPI(self.transport, clock)
        self.assertTrue(engine.check_recovery("one", UUID, RECOVERY_ID, 7, PATIENCE))
        self.assertEqual(("one", UUID, RECOVERY_ID, 7), endpoint.checked)
        self.assertFalse(engine.check_recovery("one", UUID, RECOVERY_ID, 6, PATIENCE))
        self.assertLess(abs(clock.now() - time.time_ns() // 1000), PATIENCE * 1_000_000)

    def test_whatever_the_other_side_raises_may_work_later(self):
        endpoint = self.serve(Engine())
        internal = "internal error; the log of the receiver has the details"
        for error, sentence in (
            (Retriable("the database is away"), "the database is away"),
            (Retriable("lost the connection\n[SQL: SELECT secret]"), "lost the connection"),
            (ZeroDivisionError("a bug"), internal),
            (OSError(), internal),
        ):
            endpoint.failing = error
            raised = self.assertRaises(Retriable, self.report)
            self.assertEqual(sentence, str(raised))
        endpoint.failing = None
        self.assertEqual([ReceiptStatus.STORED], [one.status for one in self.report()])

    def test_an_answer_that_does_not_come_may_come_later(self):
        self.assertRaises(Retriable, self.report, timeout=0.1)
        endpoint = Silent()
        self.serve(endpoint)
        self.addCleanup(endpoint.over.set)
        error = self.assertRaises(Retriable, self.report, timeout=0.1)
        self.assertEqual("timeout: no answer", str(error))

    def test_another_version_may_be_upgraded(self):
        self.serve(Newer())
        self.assertRaises(Retriable, self.report)

    def test_an_unknown_method_may_be_there_after_an_upgrade(self):
        self.serve(Silent())
        self.assertRaises(
            Retriable, self.engine.report_inventory, HOST, "digest", [], timeout=PATIENCE
        )

    def test_an_engine_that_is_older_than_a_call_is_told_apart(self):
        self.serve(Newer())
        changes = InventoryChanges(host=HOST, base_digest="a", digest="b", changed=[], gone=[UUID])
        self.assertRaises(
            transports.Unsupported, self.engine.report_inventory_changes, changes, PATIENCE
        )

    def test_changes_arrive_as_they_were_and_the_whole_is_asked_for_by_default(self):
        endpoint = self.serve(Engine())
        changes = InventoryChanges(host=HOST, base_digest="a", digest="b", changed=[], gone=[UUID])
        self.assertEqual("", self.engine.report_inventory_changes(changes, PATIENCE))
        told = []
        endpoint.store_inventory_changes = lambda one, _caller: told.append(one) or one.digest
        self.assertEqual("b", self.engine.report_inventory_changes(changes, PATIENCE))
        self.assertEqual([changes], told)

    def test_an_answer_that_makes_no_sense_is_told_apart(self):
        endpoint = self.serve(Engine())
        endpoint.store_events = lambda batch: []
        self.assertRaises(InvalidMessage, self.report)

    def test_a_host_without_an_agent_is_no_error_of_its_own(self):
        error = self.assertRaises(
            Retriable,
            self.agent.recover_instance,
            "nowhere",
            dataclasses.replace(ORDER, timeout=-1.9),
        )
        self.assertEqual("timeout: no answer", str(error))

    def test_a_server_that_was_never_started_can_be_stopped(self):
        transports.serve(self.transport, "nothing", "x", Agent()).stop(PATIENCE)

    def test_a_stop_ends_the_call_that_is_under_way_or_the_wait_for_it(self):
        endpoint = Silent()
        server = transports.serve(self.transport, transports.ENGINE_TOPIC, "x", endpoint)
        server.start()
        self.assertRaises(Retriable, self.report, timeout=0.1)
        server.stop(timeout=0.1)
        endpoint.over.set()
