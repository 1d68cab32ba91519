# SPDX-License-Identifier: Apache-2.0
"""A host whose broker account was stolen, on a real RabbitMQ: it speaks for itself only."""

import contextlib
import json
import signal
import socket
import threading
import time
import uuid

import kombu

from vmmonitor.db import agents, evidence, inventories
from vmmonitor.model.agent import AgentReport
from vmmonitor.model.errors import Retriable
from vmmonitor.model.evidence import Item
from vmmonitor.model.order import RecoveryOrder
from vmmonitor.model.receipt import ReceiptStatus
from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.agent_api import AgentAPI
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.tests.functional.rpc.test_rpc import Agent, Engine
from vmmonitor.tests.live.base import RESTART
from vmmonitor.tests.live.keys_base import CALL_S, EVIL, HOST, KeysTest, amqp, delivery
from vmmonitor.tests.promises import shows

NOT_AUTHENTIC = "not authentic"
FALSE_SERVERS = 1


class OtherName:
    """Signs as one host the messages about another."""

    def __init__(self, signer, name: str):
        self._signer = signer
        self._name = name
        self.verify = signer.verify

    def sign(self, _host, method, arguments):
        return self._signer.sign(self._name, method, arguments)


@shows("P12")
class HostileHostTest(KeysTest):
    def forgers(self):
        """Yield (name, engine API) of each way to speak for another host."""
        stolen = self.host_key(EVIL)
        for name, signer in (
            ("without a signature", None),
            ("with the key of another host", self.connect(HOST, stolen)[1]),
            ("in the name of another host", OtherName(self.connect(EVIL, stolen)[1], EVIL)),
        ):
            transport, _ = self.connect()
            yield name, signer, EngineAPI(transport, signer=signer), AgentAPI(transport, signer)

    def refused(self, name, call, *args) -> None:
        error = self.assertRaises(Retriable, call, *args)
        self.assertIn(NOT_AUTHENTIC, str(error), name)

    def test_call_in_the_name_of_another_host_changes_nothing(self):
        self.signed_engine(**self.policies(RESTART))
        self.signed_agent()
        victim = self.running_guest("victim")
        before, pid = self.deployment.causes(victim.uuid), victim.pid()
        event_id = self.deployment.events(victim.uuid)[-1].event.event_id
        self.assertTrue(self.deployment.events(victim.uuid)[-1].authenticated)
        item = Item(kind="console", captured_at=1, content=b"forged", message="")
        for name, _, engine, agent in self.forgers():
            now = time.time_ns() // 1000
            for host in (HOST, "compute-7"):
                forged = [delivery(host, victim.uuid)]
                self.refused(name, engine.report_events, host, now, forged, CALL_S)
            self.refused(name, engine.report_agent, stopped(HOST), CALL_S)
            self.refused(name, engine.report_inventory, HOST, "x", [], CALL_S)
            self.refused(name, engine.report_evidence, HOST, event_id, item, CALL_S)
            self.refused(name, agent.recover_instance, HOST, order(victim.uuid))
            self.refused(name, agent.inspect_instance, HOST, victim.uuid, CALL_S)
        self.quiet()
        self.assertEqual(before, self.deployment.causes(victim.uuid))
        self.assertEqual([], self.deployment.incidents(victim.uuid))
        self.assertEqual(pid, victim.pid())
        self.assertEqual("up", self.deployment.agent_state(HOST)[0])
        with self.deployment.database.reader() as tx:
            present = [seen.instance.uuid for seen in inventories.present(tx, HOST)]
            self.assertEqual([], evidence.of_event(tx, event_id))
            self.assertEqual([], agents.unwatched_hosts(tx, now))
        self.assertEqual([victim.uuid], present)
        victim.kill(signal.SIGKILL)
        self.recovered(victim)

    def test_false_engines_and_agents_neither_swallow_nor_answer(self):
        self.signed_engine(**self.policies(RESTART))
        agent = self.signed_agent(agent={"report_interval": 60})
        victim = self.running_guest("victim")
        false_engines = [Engine() for _ in range(FALSE_SERVERS)]
        false_agents = [Agent() for _ in range(FALSE_SERVERS)]
        for number in range(FALSE_SERVERS):
            self.serve(false_engines[number], transports.ENGINE_TOPIC, f"evil-{number}")
            self.serve(false_agents[number], transports.AGENT_TOPIC, HOST)
        victim.kill(signal.SIGKILL)
        self.wait(lambda: self.states(victim)[-1:] == [IncidentState.RESOLVED], "not resolved")
        self.assertTrue(victim.ping(CALL_S), "the guest does not answer")
        self.assertTrue(
            any(one.batches for one in false_engines)
            or any(hasattr(one, "asked") or hasattr(one, "inspected") for one in false_agents),
            "no message reached a false server",
        )
        (incident,) = self.deployment.incidents(victim.uuid)
        attempts = self.deployment.recoveries(incident.incident_id)
        self.assertNotIn("it runs", [one.message for one in attempts if succeeded(one)])
        agent.stop()

    def test_engine_with_a_consumer_priority_does_not_empty_the_spool(self):
        self.signed_engine(**self.policies(RESTART))
        agent = self.signed_agent(agent={"report_interval": 60}, forwarder={"reply_timeout": 1})
        victim = self.running_guest("victim")
        answering = threading.Event()
        answering.set()
        taken = self.eat(answering)
        victim.kill(signal.SIGKILL)
        agent.wait_for(r"Events are waiting in the spool: the answer of engine was not authentic")
        self.assertIn("report_events", taken)
        self.assertEqual([], self.deployment.incidents(victim.uuid))
        answering.clear()
        self.recovered(victim)

    def serve(self, endpoint, topic: str, host: str) -> None:
        transport, _ = self.connect()
        server = transports.serve(transport, topic, host, endpoint)
        server.start()
        self.addCleanup(server.stop, CALL_S)

    def eat(self, answering: threading.Event) -> list[str]:
        """Take each call to the engines before them and acknowledge it, until the event clears."""
        taken: list[str] = []
        ready = threading.Event()
        thread = threading.Thread(target=self._eat, args=(answering, ready, taken), daemon=True)
        thread.start()
        self.addCleanup(answering.clear)
        self.assertTrue(ready.wait(CALL_S))
        return taken

    def _eat(self, answering, ready, taken) -> None:
        with kombu.Connection(amqp(self.deployment.bus)) as connection:
            channel = connection.channel()

            def answer(message) -> None:
                body = json.loads(json.loads(message.body)["oslo.message"])
                taken.append(body["method"])
                message.ack()
                reply(channel, body)

            queue = kombu.Queue(
                transports.ENGINE_TOPIC,
                channel=channel,
                no_declare=True,
                consumer_arguments={"x-priority": 255},
            )
            consumer = kombu.Consumer(channel, [queue], on_message=answer, auto_declare=False)
            with consumer:
                ready.set()
                while answering.is_set():
                    with contextlib.suppress(socket.timeout):
                        connection.drain_events(timeout=0.2)


def reply(channel, call) -> None:
    """Answer a call as an engine does, with a receipt for each event."""
    events = call["args"].get("batch", {}).get("events", [])
    content = {"schema": 1, "receipts": [[ReceiptStatus.STORED]] * len(events)}
    content |= {"inventory_digest": "x", "engine_time": time.time_ns() // 1000}
    message = {"result": content, "failure": None, "ending": True}
    message |= {"_msg_id": call["_msg_id"], "_unique_id": uuid.uuid4().hex}
    body = {"oslo.version": "2.0", "oslo.message": json.dumps(message)}
    kombu.Producer(channel).publish(
        json.dumps(body),
        exchange="",
        routing_key=call["_reply_q"],
        content_type="application/json",
        content_encoding="utf-8",
    )


def order(instance_uuid: str) -> RecoveryOrder:
    return RecoveryOrder(
        instance_uuid=instance_uuid,
        recovery_id=str(uuid.uuid4()),
        token=10**6,
        expires_at=time.time_ns() // 1000 + 60_000_000,
        timeout=CALL_S,
        cause="liveness.stalled/failed",
    )


def stopped(host: str) -> AgentReport:
    now = time.time_ns() // 1000
    return AgentReport(
        host=host,
        state="stopped",
        reason="maintenance",
        version="6.6.6",
        sent_at=now,
        started_at=now,
        interval=60.0,
        spool_depth=0,
        spool_refused=0,
        last_event_at=0,
        filter_checksum="",
        inventory_digest="",
        instances=0,
        figures={},
    )


def succeeded(recovery) -> bool:
    return recovery.state == RecoveryState.SUCCEEDED
