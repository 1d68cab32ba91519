# SPDX-License-Identifier: Apache-2.0
"""Calls between agents and engines over a RabbitMQ that is killed and comes back."""

import dataclasses
import threading
import time
import uuid

import testtools

from vmmonitor import conf as configuration
from vmmonitor.model.errors import Retriable
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc import fields
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.agent_api import AgentAPI
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.rpc.inventory_wire import InventoryChanges
from vmmonitor.testing.builders import HOST, UUID, event
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.fixtures.services import RabbitMQ
from vmmonitor.tests.functional.rpc.test_rpc import (
    ANSWER,
    ORDER,
    Agent,
    Engine,
    Newer,
    OldAgent,
    delivery,
)

PATIENCE = 60.0
STOP = 10.0
SHORT_ORDER = dataclasses.replace(ORDER, timeout=0.5)


class RpcTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.rabbit = self.useFixture(RabbitMQ())
        self.engine = EngineAPI(self.transport())
        self.agent = AgentAPI(self.transport())

    def transport(self):
        return transports.new(configuration.new([], files=[]), self.rabbit.url)

    def serve(self, endpoint, topic=transports.ENGINE_TOPIC, host="engine-1"):
        server = transports.serve(self.transport(), topic, host, endpoint)
        server.start()
        self.addCleanup(server.stop, STOP)
        return server

    def report(self, *deliveries, timeout=5.0):
        return self.engine.report_events(HOST, 5, deliveries or [delivery()], timeout)

    def reported(self):
        try:
            return self.report()
        except Retriable:
            return []

    def test_call_to_engine_and_agent_returns_answer(self):
        endpoint = Engine()
        self.serve(endpoint)
        self.serve(Agent(), transports.AGENT_TOPIC, "compute-1")
        self.assertEqual([Receipt(status=ReceiptStatus.STORED)], self.report(timeout=PATIENCE))
        stored = endpoint.batches[0].deliveries[0].event
        self.assertEqual(event("lifecycle.stopped/failed"), stored)
        answer = self.agent.recover_instance("compute-1", ORDER)
        self.assertEqual(ANSWER | {"retry": False, "schema": fields.SCHEMA}, answer)

    def test_order_is_not_sent_to_agent_without_fences(self):
        endpoint = OldAgent()
        self.serve(endpoint, transports.AGENT_TOPIC, "compute-1")
        self.assertRaises(transports.Unsupported, self.agent.recover_instance, "compute-1", ORDER)
        self.assertEqual([], endpoint.requests)

    def test_call_with_remote_error_raises_retriable(self):
        endpoint = Engine()
        self.serve(endpoint)
        endpoint.failing = ZeroDivisionError("a bug")
        error = self.assertRaises(Retriable, self.report, timeout=PATIENCE)
        self.assertEqual("internal error; the log of the receiver has the details", str(error))

    def test_call_to_older_engine_raises_unsupported(self):
        self.serve(Newer())
        changes = InventoryChanges(host=HOST, base_digest="a", digest="b", changed=[], gone=[UUID])
        self.assertRaises(
            transports.Unsupported, self.engine.report_inventory_changes, changes, PATIENCE
        )

    def test_call_to_host_without_agent_ends_at_timeout(self):
        begun = time.monotonic()
        self.assertRaises(Retriable, self.agent.recover_instance, "nowhere", SHORT_ORDER)
        self.assertLess(time.monotonic() - begun, 10)

    def test_call_with_more_than_a_mebibyte_succeeds(self):
        endpoint = Engine()
        self.serve(endpoint)
        big = [
            delivery(
                event_id=str(uuid.UUID(int=n)), attributes={str(k): "x" * 16000 for k in range(3)}
            )
            for n in range(100)
        ]
        receipts = self.report(*big, timeout=PATIENCE)
        self.assertEqual([ReceiptStatus.STORED] * 100, [one.status for one in receipts])
        self.assertEqual(3, len(endpoint.batches[0].deliveries[99].event.attributes))

    def test_calls_after_broker_restart_succeed(self):
        endpoint = Engine()
        self.serve(endpoint)
        self.assertTrue(self.report(timeout=PATIENCE))
        over = threading.Event()
        errors = []

        def call():
            while not over.is_set():
                try:
                    self.report(timeout=1.0)
                except Retriable:
                    over.wait(0.1)
                except BaseException as error:
                    errors.append(error)
                    return

        caller = threading.Thread(target=call, daemon=True)
        caller.start()
        self.addCleanup(over.set)
        self.rabbit.kill()
        begun = time.monotonic()
        self.assertRaises(Retriable, self.engine.report_events, HOST, 5, [], 1)
        self.assertLess(time.monotonic() - begun, 30)
        self.rabbit.restart()
        before = len(endpoint.batches)
        eventually(lambda: len(endpoint.batches) > before + 5, PATIENCE)
        over.set()
        caller.join(PATIENCE)
        self.assertEqual([], errors)
        eventually(self.reported, PATIENCE)

    def test_server_started_before_broker_answers_later(self):
        self.rabbit.kill()
        begun = time.monotonic()
        server = self.serve(Engine())
        self.assertLess(time.monotonic() - begun, transports.START_TIMEOUT + 5)
        begun = time.monotonic()
        server.stop(STOP)
        self.assertLess(time.monotonic() - begun, STOP + 5)
        self.serve(Engine(), host="engine-2")
        self.rabbit.restart()
        eventually(self.reported, PATIENCE)

    def test_stop_without_broker_is_bounded(self):
        endpoint = Engine()
        server = self.serve(endpoint)
        self.assertTrue(self.report(timeout=PATIENCE))
        self.rabbit.kill()
        begun = time.monotonic()
        server.stop(STOP)
        self.assertLess(time.monotonic() - begun, STOP + 5)
