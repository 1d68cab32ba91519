# SPDX-License-Identifier: Apache-2.0
"""Measure the cost of signing and verifying a call, compared with the call itself."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import fixtures

from vmmonitor import conf as configuration
from vmmonitor.rpc import authentication, event_wire, signing
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.rpc.keys import KEY_BYTES, HostKeys, MasterKeys, format_key
from vmmonitor.rpc.signing import MessageKind
from vmmonitor.tests.bench import raw
from vmmonitor.tests.bench.figures import now, percentile, say
from vmmonitor.tests.bench.senders import FAILURES, deliveries
from vmmonitor.tests.fixtures.services import RabbitMQ

HOST = "bench-1"
KEY_ID = "1"
CALLS = 500
BATCH = 500
TIMEOUT_S = 60


def measure(calls: int = CALLS, batch: int = BATCH) -> dict[str, Any]:
    """Measure both, and return the figures.

    :param calls: number of calls of each kind.
    :param batch: number of events in the large call.
    """
    with KeyFiles() as files, RabbitMQ() as broker:
        one, many = files.cost(1, calls), files.cost(batch, max(1, calls // 50))
        say(
            f"signing: sign and verify call and answer: {one:.3f} ms, {batch} events {many:.2f} ms"
        )
        with raw.Server(broker.url):
            plain = _call(broker.url, {}, calls)
        with raw.Server(broker.url, files.master):
            signed = _call(broker.url, {"host_key_file": files.host}, calls)
        say(f"signing: a call takes {plain:.3f} ms unsigned, {signed:.3f} ms signed")
    return {
        "calls": calls,
        "sign_and_verify_ms": round(one, 3),
        "sign_and_verify_batch_ms": round(many, 3),
        "raw_call_ms": round(plain, 3),
        "signed_call_ms": round(signed, 3),
    }


class KeyFiles(fixtures.Fixture):
    """A master key file, ``master``, and the key file of a host, ``host``."""

    def _setUp(self) -> None:
        folder = self.useFixture(fixtures.TempDir()).path
        self.master = _write(folder, format_key(KEY_ID, os.urandom(KEY_BYTES)))
        self._masters = MasterKeys(self.master)
        self.host = _write(folder, format_key(KEY_ID, self._masters.of_host(HOST)[KEY_ID]))
        self._hosts = HostKeys(self.host, HOST)

    def cost(self, events: int, repeat: int) -> float:
        """Return the median time to sign and verify a call and its answer, in milliseconds.

        :param events: number of events in the call.
        """
        form = event_wire.write_batch(HOST, now(), deliveries(HOST, events, FAILURES))
        arguments = {"batch": form}
        answer = {"schema": 1, "receipts": [raw.ANSWER] * events}
        call = _exchange(self._hosts, self._masters, arguments, answer)
        times = []
        for _ in range(repeat):
            began = time.perf_counter()
            call()
            times.append((time.perf_counter() - began) * 1000)
        return statistics.median(times)


def _exchange(
    agent: HostKeys, engine: MasterKeys, arguments: Mapping[str, Any], answer: Mapping[str, Any]
) -> Callable[[], None]:
    """Return a function that signs and verifies a call and its answer."""
    method = "report_events"

    def exchange() -> None:
        nonce = signing.new_nonce()
        call = signing.sign(
            agent.of_host(HOST),
            MessageKind.CALL_TO_ENGINE,
            method,
            arguments,
            host=HOST,
            sent_at=now(),
            nonce=nonce,
        )
        key_id = signing.verify(engine, MessageKind.CALL_TO_ENGINE, method, arguments, call)
        reply = signing.sign(
            {key_id: engine.of_host(HOST)[key_id]},
            MessageKind.ANSWER_OF_ENGINE,
            method,
            answer,
            host=HOST,
            sent_at=now(),
            nonce=nonce,
        )
        signing.verify(agent, MessageKind.ANSWER_OF_ENGINE, method, answer, reply)

    return exchange


def _call(url: str, options: Mapping[str, str], calls: int) -> float:
    """Return the median time of a call with one event, in milliseconds."""
    conf = configuration.new([], files=[])
    conf.set_override("host", HOST)
    for name, value in options.items():
        conf.set_override(name, value, group="rpc")
    transport = transports.new(conf, url)
    engine = EngineAPI(transport, signer=authentication.for_agent(conf, transport).signer)
    forms = deliveries(HOST, 1, FAILURES)
    engine.report_events(HOST, now(), forms, TIMEOUT_S)
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        engine.report_events(HOST, now(), forms, TIMEOUT_S)
        times.append((time.perf_counter() - began) * 1000)
    return percentile(times, 50)


def _write(folder: str, line: str) -> str:
    descriptor, path = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{line}\n")
    return path
