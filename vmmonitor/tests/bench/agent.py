# SPDX-License-Identifier: Apache-2.0
"""Measure the CPU time and the memory of an idle agent."""

import contextlib
import pathlib
import time
import uuid
from collections.abc import Sequence
from typing import Any

from vmmonitor.testing.guest import Guest
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.bench.deployment import Deployment, Program
from vmmonitor.tests.bench.figures import cpu_seconds, memory_mib, say

#: Numbers of real guests, and of domains of libvirt's test driver, which lives in the agent's
#: own process and adds its own memory.
GUESTS = (1, 10, 50)
TEST_DOMAINS = 1000
#: Options that enable all sources, at their highest sensitivity; compared with the defaults.
ALL_SOURCES = {
    "agent": {"sources": "libvirt,process,qmp,liveness"},
    "liveness": {"sensitivity": "high"},
}
SETTLE_S = 12.0
IDLE_S = 30.0
BOOT_S = 120.0

DOMAIN = """<domain type='test'>
  <name>instance-{number:08x}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>512</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <source file='/var/lib/nova/instances/{uuid}/disk'/>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>"""


def measure(
    guests: Sequence[int] = GUESTS,
    test_domains: int = TEST_DOMAINS,
    settle_s: float = SETTLE_S,
    idle_s: float = IDLE_S,
) -> dict[str, Any]:
    """Measure a new agent for each number of domains, and return the figures.

    :param settle_s: seconds from the start of an agent to the measurement.
    :param idle_s: seconds of a measurement.
    """
    figures: dict[str, Any] = {"rss_mib": {}, "idle_cpu_percent": {}}

    def keep(count: int, uri: str) -> None:
        rss, cpu = _idle(deployment, count, uri, {}, settle_s, idle_s)
        figures["rss_mib"][str(count)] = round(rss, 1)
        figures["idle_cpu_percent"][str(count)] = round(cpu, 2)

    with Deployment() as deployment, Hypervisor() as hypervisor, contextlib.ExitStack() as stack:
        stack.enter_context(Program("vmmonitor-engine", deployment.configure("engine")))
        booted: list[Guest] = []
        for count in guests:
            say(f"agent: booting guests, up to {count}")
            while len(booted) < count:
                booted.append(stack.enter_context(Guest(hypervisor, started=False)))
                booted[-1].start(wait=False)
            wait_until(lambda: all(one.ping(5) for one in booted), BOOT_S, "no answer")
            keep(count, hypervisor.uri)
        say("agent: the same with all sources")
        times = (settle_s, idle_s)
        rss, cpu = _idle(deployment, len(booted), hypervisor.uri, ALL_SOURCES, *times)
        figures["all_sources"] = {"rss_mib": round(rss, 1), "idle_cpu_percent": round(cpu, 2)}
        node = pathlib.Path(hypervisor.path) / "node.xml"
        node.write_text(_node(test_domains))
        keep(test_domains, f"test://{node}")
    return figures


def _node(count: int) -> str:
    domains = [DOMAIN.format(number=number, uuid=uuid.uuid4()) for number in range(count)]
    return f"<node>{''.join(domains)}</node>"


def _idle(
    deployment: Deployment,
    count: int,
    uri: str,
    more: dict[str, dict[str, Any]],
    settle_s: float,
    idle_s: float,
) -> tuple[float, float]:
    """Return an agent's RSS in MiB and its use of a core in percent, with nothing to do."""
    sections = {"libvirt": {"uri": uri, "read_only": False}, **more}
    name = f"node-{count}{'-all' if more else ''}"
    with Program("vmmonitor-agent", deployment.configure(name, sections)) as agent:
        time.sleep(settle_s)
        cpu, began = cpu_seconds(agent.pid), time.monotonic()
        time.sleep(idle_s)
        percent = 100 * (cpu_seconds(agent.pid) - cpu) / (time.monotonic() - began)
        memory = memory_mib(agent.pid)
    say(
        f"agent: {count} domains: {percent:.2f} % of a core;"
        f" MiB: {memory['rss']:.1f} resident, {memory['pss']:.1f} its share of it,"
        f" {memory['private']:.1f} its alone"
    )
    return memory["rss"], percent
