# SPDX-License-Identifier: Apache-2.0
"""Common parts of the tests of signed messages on a real RabbitMQ."""

import os
import time
import uuid
from urllib.parse import urlsplit

from vmmonitor import conf as configuration
from vmmonitor.rpc import authentication, event_wire
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.keys import KEY_BYTES, MasterKeys, format_key
from vmmonitor.testing import builders
from vmmonitor.testing.guest import NovaMetadata
from vmmonitor.tests.live.base import WholeTest

HOST, EVIL = "node-1", "evil"
CALL_S = 10.0


class KeysTest(WholeTest):
    """A deployment whose engines and agents have keys."""

    def setUp(self) -> None:
        super().setUp()
        self.deploy()
        self.master_file = self.secret("master_keys", format_key("1", os.urandom(KEY_BYTES)))
        self.masters = MasterKeys(self.master_file)

    def secret(self, name: str, text: str) -> str:
        path = self.deployment.file(name, f"{text}\n")
        os.chmod(path, 0o600)
        return path

    def host_key(self, host: str, name: str = "") -> str:
        """Write the key file of a host, with its newest key."""
        key_id, key = next(iter(self.masters.of_host(host).items()))
        return self.secret(name or f"{host}.key", format_key(key_id, key))

    def signed_engine(self, **options):
        options = {"rpc": {"master_key_file": self.master_file}, **options}
        return self.start(self.deployment.engine(options=options))

    def signed_agent(self, **options):
        options = {"rpc": {"host_key_file": self.host_key(HOST)}, **options}
        return self.watched(self.deployment.agent(self.hypervisor(), options=options))

    def connect(self, host: str = "", key_file: str = "", url: str = ""):
        """Return a transport, and what signs as a host; nothing does without a key."""
        conf = configuration.new([], files=[])
        conf.set_override("host", host or EVIL)
        conf.set_override("host_key_file", key_file, group="rpc")
        transport = transports.new(conf, url or self.deployment.bus)
        return transport, authentication.for_agent(conf, transport).signer

    def running_guest(self, name: str):
        guest = self.guest(nova=NovaMetadata(name=name), defined=True)
        causes = self.deployment.causes
        self.wait(lambda: "lifecycle.started/booted" in causes(guest.uuid), "not started")
        return guest


def delivery(host: str, instance_uuid: str, cause: str = "lifecycle.stopped/failed"):
    """Return a failure that never happened, as an agent would send it."""
    forged = builders.event(cause, event_id=str(uuid.uuid4()), host=host)
    form = event_wire.write_event(forged)
    form["instance"]["uuid"] = instance_uuid
    form["occurred_at"] = time.time_ns() // 1000
    decision = {"action": "incident", "severity": "critical", "rule": "forged"}
    return form | {"decision": decision, "spooled_at": form["occurred_at"]}


def amqp(url: str) -> str:
    parts = urlsplit(url)
    vhost = parts.path.lstrip("/")
    return f"amqp://{parts.username}:{parts.password}@{parts.hostname}:{parts.port}/{vhost or '/'}"
