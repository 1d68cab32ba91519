# SPDX-License-Identifier: Apache-2.0
"""The permissions of a host on a real RabbitMQ, and the rotation of its key."""

import shlex
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import kombu
from amqp.exceptions import AccessRefused

from vmmonitor import conf as configuration
from vmmonitor.cmd import manage_broker
from vmmonitor.db import events
from vmmonitor.model.errors import Retriable
from vmmonitor.model.receipt import ReceiptStatus
from vmmonitor.rpc import authentication
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.agent_api import AgentAPI
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.testing import builders
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.fixtures.deployment import CHECKOUT
from vmmonitor.tests.fixtures.services import RabbitMQ
from vmmonitor.tests.fixtures.shared import shared
from vmmonitor.tests.live.base import RESTART
from vmmonitor.tests.live.keys_base import CALL_S, EVIL, HOST, KeysTest, amqp, delivery


class BrokerPermissionsTest(KeysTest):
    """Each host has the account that ``vmmonitor-manage broker permissions`` creates."""

    vhost = "vmmonitor-hosts"

    def deploy(self, *_args, **_options):
        broker = shared(RabbitMQ)
        self.rabbitmqctl("add_vhost", self.vhost)
        self.addCleanup(self.rabbitmqctl, "delete_vhost", self.vhost)
        account = (broker.driver.username, ".*", ".*", ".*")
        self.rabbitmqctl("set_permissions", "-p", self.vhost, *account)
        return super().deploy(bus=broker.url.rstrip("/") + f"/{self.vhost}")

    def rabbitmqctl(self, *words: str) -> None:
        driver = shared(RabbitMQ).driver
        driver.rabbitmqctl(next(iter(driver._process)), list(words))

    def create_user(self, host: str) -> str:
        """Run the printed commands, and return the URL of the account."""
        user = f"vmmonitor-{host}"
        for line in manage_broker.commands(host, self.vhost, user):
            if not line.startswith("#"):
                self.rabbitmqctl(*shlex.split(line)[1:])
        self.addCleanup(self.rabbitmqctl, "delete_user", user)
        parts = urlsplit(self.deployment.bus)
        return f"rabbit://{user}:PASSWORD@{parts.hostname}:{parts.port}/{self.vhost}"

    def test_agent_works_and_cannot_consume_what_is_for_others(self):
        self.signed_engine(**self.policies(RESTART))
        own, evil = self.create_user(HOST), self.create_user(EVIL)
        self.signed_agent(DEFAULT={"transport_url": own})
        victim = self.running_guest("victim")
        self.assertEqual("up", self.deployment.agent_state(HOST)[0])
        for queue in (transports.ENGINE_TOPIC, f"{transports.AGENT_TOPIC}.{HOST}"):
            with kombu.Connection(amqp(evil)) as connection:
                channel = connection.channel()
                error = self.assertRaises(
                    AccessRefused, channel.basic_consume, queue, callback=print
                )
                self.assertIn("403", str(error))
        transport, signer = self.connect(EVIL, self.host_key(EVIL), evil)
        engine = EngineAPI(transport, signer=signer)
        harmless = delivery(EVIL, builders.UUID, "reboot")
        harmless["decision"] |= {"action": "record", "severity": "info"}
        receipts = engine.report_events(EVIL, time.time_ns() // 1000, [harmless], CALL_S)
        self.assertEqual([ReceiptStatus.STORED], [one.status for one in receipts])
        agent = AgentAPI(transport, signer)
        self.assertRaises(Retriable, agent.inspect_instance, HOST, victim.uuid, 2.0)
        victim.kill(signal.SIGKILL)
        self.recovered(victim)


class RotationTest(KeysTest):
    """Keys are rotated while an agent sends."""

    def test_rotation_under_traffic_loses_nothing(self):
        engine = self.signed_engine()
        conf = configuration.new([], files=[])
        conf.set_override("host", HOST)
        conf.set_override("host_key_file", self.host_key(HOST), group="rpc")
        transport = transports.new(conf, self.deployment.bus)
        sender = authentication.for_agent(conf, transport)
        api = EngineAPI(transport, signer=sender.signer)
        over, sent = threading.Event(), []

        def send() -> None:
            while not over.is_set():
                form = delivery(HOST, builders.UUID, "reboot")
                form["decision"] |= {"action": "record", "severity": "info"}
                if stored(api, form, over):
                    sent.append(form["event_id"])

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        self.addCleanup(over.set)
        self.await_more(sent)
        before = len(engine.log())
        self.manage("host", "rotate")
        engine.send(signal.SIGHUP)
        engine.wait_for("Policies of .* in force", before)
        self.await_more(sent)
        self.masters.reload()
        self.manage("host", "rotate", HOST, "--output", conf.rpc.host_key_file)
        sender.reload()
        self.await_more(sent)
        with open(self.master_file) as file:
            newest = file.readline()
        self.secret("master_keys", newest.strip())
        before = len(engine.log())
        engine.send(signal.SIGHUP)
        engine.wait_for("Policies of .* in force", before)
        self.await_more(sent)
        over.set()
        thread.join(CALL_S)
        with self.deployment.database.reader() as tx:
            found = events.stored_ids(tx, sent)
        self.assertEqual([], [each for each in sent if each not in found])
        self.assertNotIn("is not authentic", engine.log())

    def await_more(self, sent: list[str]) -> None:
        before = len(sent)
        wait_until(lambda: len(sent) >= before + 5, CALL_S * 3, "events are not stored")

    def manage(self, *words: str) -> None:
        config = self.deployment.programs[0].config
        code = "from vmmonitor.cmd.manage import main; main()"
        command = [sys.executable, "-c", code, "--config-file", config, *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
        self.assertEqual(0, done.returncode, done.stderr)


def stored(api: EngineAPI, form, over: threading.Event) -> bool:
    """Send an event until it has a receipt, as the forwarder does."""
    while not over.is_set():
        try:
            (receipt,) = api.report_events(HOST, time.time_ns() // 1000, [form], CALL_S)
        except Retriable:
            over.wait(0.1)
        else:
            return receipt.status in (ReceiptStatus.STORED, ReceiptStatus.DUPLICATE)
    return False
