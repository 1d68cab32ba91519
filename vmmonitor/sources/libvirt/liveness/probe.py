# SPDX-License-Identifier: Apache-2.0
"""What is asked of one QEMU through libvirt. Any of these calls may never return.

Each needs an answer of QEMU's monitor, and a read-only connection is enough for it. Only
``blockStats`` asks QEMU also where the instance has no disk and no balloon.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

import libvirt

from vmmonitor.sources.libvirt import decode
from vmmonitor.sources.libvirt.liveness.pool import DomainCache
from vmmonitor.sources.libvirt.liveness.readings import QemuReading, VcpuReading
from vmmonitor.sources.libvirt.liveness.tasks import Tasks

#: The sum over all disks.
ALL_DISKS = ""
#: Of ``blockStats``: what the numbers of requests are among.
REQUESTS = slice(0, 3, 2)
GROUPS = (
    libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
)
#: virDomainDiskErrorCode, by number.
DISK_ERRORS = ("none", "unspecified", "no_space")
#: KVM's own names, as QEMU passes them on: all exits, and those by an interrupt of the host's.
EXITS = re.compile(r"vcpu\.\d+\.(exits|irq_exits)(?:\.sum)?")
SENT = re.compile(r"net\.\d+\.tx\.pkts")
BALLOON = "balloon.last-update"
#: libvirt could not get so far as to ask QEMU, or QEMU's guest agent does not speak.
BUSY = libvirt.VIR_ERR_OPERATION_TIMEOUT
SILENT = libvirt.VIR_ERR_AGENT_UNRESPONSIVE


def ask(
    domains: DomainCache, uuid: str, tasks: Tasks | None, complete: bool, disks: bool
) -> QemuReading | None:
    """Ask QEMU; returns None if the instance does not run any more.

    :param tasks: the threads of its QEMU, if they can be seen.
    :param complete: ask for all counters, which costs twice as much.
    :param disks: ask for disk errors too, which costs as much as all the rest.
    :raises libvirt.libvirtError: libvirt failed.
    """
    began = time.monotonic()
    try:
        domain = domains.get(uuid)
        requests = sum(domain.blockStats(ALL_DISKS)[REQUESTS])
        stats = domains.connection.domainListGetStats([domain], GROUPS) if complete else []
        errors = domain.diskErrors() if disks else None
    except libvirt.libvirtError as error:
        if error.get_error_code() == BUSY:
            return _answer(began, None)
        if error.get_error_code() in (
            libvirt.VIR_ERR_NO_DOMAIN,
            libvirt.VIR_ERR_OPERATION_INVALID,
        ):
            return None
        raise
    said = stats[0][1] if stats else {}
    return _answer(
        began,
        tasks.vcpus() if tasks else None,
        done=True,
        io=requests,
        complete=complete,
        sent=sum(value for name, value in said.items() if SENT.fullmatch(name)),
        exits=exits(said),
        balloon_at=said.get(BALLOON),
        disk_errors=None if errors is None else _named(errors),
    )


def ping(domains: DomainCache, uuid: str) -> bool | None:
    """Return whether the guest agent speaks, None if there is none to ask.

    :param domains: of a connection that may write.
    """
    try:
        domains.get(uuid).getTime()
    except libvirt.libvirtError as error:
        return False if error.get_error_code() == SILENT else None
    return True


def exits(said: Mapping[str, Any]) -> int | None:
    """Return how often the guest itself left its vCPUs, None if that is not told.

    :param said: what libvirt's ``domstats`` says of its vCPUs.
    """
    total = None
    for name, value in said.items():
        if found := EXITS.fullmatch(name.replace("-", "_")):
            total = (total or 0) + (value if found[1] == "exits" else -value)
    return total


def _named(errors: Mapping[str, int]) -> dict[str, str]:
    return {device: decode.word(DISK_ERRORS, code) for device, code in errors.items() if code}


def _answer(
    began: float, vcpus: VcpuReading | None, done: bool = False, **said: Any
) -> QemuReading:
    now = time.monotonic()
    return QemuReading(
        at=now,
        awake_at=time.clock_gettime(time.CLOCK_BOOTTIME),
        took_s=now - began,
        done=done,
        vcpus=vcpus,
        **said,
    )
