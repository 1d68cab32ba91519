# SPDX-License-Identifier: Apache-2.0
"""Simulate many agents in one process: threads that send batches as an agent's forwarder does.

The module runs in its own process, ``python -m vmmonitor.tests.bench.senders``, with the
parameters of ``Senders`` as a JSON object on the first line of stdin. It prints ``ready``, starts
at the next line, prints the duration in seconds, and sends the first batch of each agent again.
It ends at the end of stdin.
"""

import concurrent.futures
import itertools
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any

from vmmonitor import conf as configuration
from vmmonitor.model.event import CRITICAL, INCIDENT, INFO, RECORD, Decision, Event
from vmmonitor.model.instance import Instance
from vmmonitor.model.receipt import ReceiptStatus
from vmmonitor.rpc import event_wire
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.tests.bench.figures import now

TIMEOUT_S = 60.0
#: One of this number of events requests a recovery.
FAILURES = 500
#: Other events of a busy host: type, detail, attributes.
ORDINARY: Sequence[tuple[str, str, dict[str, Any]]] = (
    ("lifecycle.started", "booted", {}),
    ("reboot", "", {}),
    ("lifecycle.suspended", "paused", {}),
    ("lifecycle.resumed", "unpaused", {}),
    ("job_completed", "", {"operation": "backup", "time_elapsed": 1234, "data_total": 73014444}),
    ("device_added", "", {"device": "virtio-disk3"}),
    ("block_job", "completed", {"path": "/var/lib/nova/instances/disk", "kind": "commit"}),
    ("lifecycle.stopped", "shutdown", {"shutdown_by": "guest"}),
)


def deliveries(host: str, count: int, failures: int) -> list[dict[str, Any]]:
    """Return events of one host in the format of the spool.

    :param count: number of events.
    :param failures: one of this number of events requests a recovery, each of another instance.
    """
    instances = [_instance(number) for number in range(100)]
    forms = []
    for number in range(count):
        instance, (kind, detail, attributes) = (
            instances[number % len(instances)],
            ORDINARY[number % len(ORDINARY)],
        )
        decision = Decision(action=RECORD, severity=INFO, rule="lifecycle of instances")
        if number % failures == 0:
            instance, kind, detail = _instance(number), "lifecycle.stopped", "failed"
            decision = Decision(action=INCIDENT, severity=CRITICAL, rule="qemu ended by itself")
        event = Event(
            event_id=str(uuid.uuid4()),
            host=host,
            instance=instance,
            source="libvirt",
            type=kind,
            detail=detail,
            occurred_at=now(),
            attributes=attributes,
            sequence=number + 1,
        )
        forms.append(event_wire.write_delivery(event, decision, now()))
    return forms


def _instance(number: int) -> Instance:
    return Instance(
        uuid=str(uuid.uuid4()),
        name=f"server-{number}",
        hypervisor_name=f"instance-{number:08x}",
        project_id="0f0b5c2ad9264bd1a5b1f6a8d8f8a3d2",
        project_name="demo",
        user_id="6d1b0a1fd7e94d0f8f6c1a7d0f3c9b11",
        user_name="alice",
        flavor="m1.nano",
    )


def send(
    url: str, prefix: str, agents: int, events: int, batch: int, failures: int = FAILURES
) -> None:
    """Make the batches, wait for the word, send them.

    :param prefix: of the hosts' names.
    :param agents: how many send at once.
    :param events: how many each of them sends.
    :param batch: how many go in one call.
    :param failures: as for ``deliveries``.
    """
    engine = EngineAPI(transports.new(configuration.new([], files=[]), url))
    batches = {
        host: [list(part) for part in _parts(deliveries(host, events, failures), batch)]
        for host in (f"{prefix}-{number}" for number in range(agents))
    }

    def run(host: str) -> None:
        for part in batches[host]:
            receive(host, part, ReceiptStatus.STORED)

    def receive(host: str, part: list[dict[str, Any]], expected: str) -> None:
        for receipt in engine.report_events(host, now(), part, TIMEOUT_S):
            if receipt.status != expected:
                raise RuntimeError(f"{receipt} instead of {expected}")

    with concurrent.futures.ThreadPoolExecutor(agents) as pool:
        # Each thread opens its connection before the clock runs.
        list(pool.map(lambda host: receive(host, [], ReceiptStatus.STORED), batches))
        print("ready", flush=True)
        again = json.loads(sys.stdin.readline())
        began = time.monotonic()
        list(pool.map(run, batches))
        print(time.monotonic() - began, flush=True)
        if again:
            list(
                pool.map(
                    lambda host: receive(host, batches[host][0], ReceiptStatus.DUPLICATE), batches
                )
            )


def _parts(forms: list[dict[str, Any]], size: int) -> Any:
    rest = iter(forms)
    return iter(lambda: list(itertools.islice(rest, size)), [])


class Senders:
    """The process, seen from outside."""

    def __init__(self, **parameters: Any):
        """Start it; returns when it is ready to send. The parameters are those of ``send``."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vmmonitor.tests.bench.senders"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._process.stdin and self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        print(json.dumps(parameters), file=self._stdin)
        self._answer()

    def run(self, again: bool) -> float:
        """Let it send; returns the seconds until the last receipt.

        :param again: send each agent's first batch once more after that.
        """
        print(json.dumps(again), file=self._stdin)
        seconds = float(self._answer())
        self._stdin.close()
        if self._process.wait():
            raise RuntimeError("what was sent again was not a duplicate")
        return seconds

    def _answer(self) -> str:
        line = self._stdout.readline()
        if not line:
            raise RuntimeError("the simulated agents failed")
        return line


if __name__ == "__main__":
    send(**json.loads(sys.stdin.readline()))
