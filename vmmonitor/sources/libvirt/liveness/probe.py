# SPDX-License-Identifier: Apache-2.0
"""The questions to one QEMU process, through libvirt. Any of these calls may never return.

Each call needs an answer from QEMU's monitor; a read-only connection suffices. Only
``blockStats`` asks QEMU even if the instance has neither disk nor balloon.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

import libvirt

from vmmonitor.sources.libvirt import decode, tables
from vmmonitor.sources.libvirt.liveness.pool import DomainCache
from vmmonitor.sources.libvirt.liveness.readings import QemuReading, VcpuReading
from vmmonitor.sources.libvirt.liveness.tasks import Tasks

#: Device name of the sum over all disks.
ALL_DISKS = ""
#: The numbers of read and write requests in the result of ``blockStats``.
REQUEST_COUNTS = slice(0, 3, 2)
PROBE_GROUPS = (
    libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
)
#: KVM's statistics, as QEMU passes them on: all VM exits, and those caused by host interrupts.
EXITS_FIELD = re.compile(r"vcpu\.\d+\.(exits|irq_exits)(?:\.sum)?")
SENT_FIELD = re.compile(r"net\.\d+\.tx\.pkts")
BALLOON_FIELD = "balloon.last-update"
#: libvirt could not ask QEMU, because another job holds the domain.
JOB_TIMEOUT = libvirt.VIR_ERR_OPERATION_TIMEOUT
AGENT_UNRESPONSIVE = libvirt.VIR_ERR_AGENT_UNRESPONSIVE


def read_qemu(
    domains: DomainCache, uuid: str, tasks: Tasks | None, complete: bool, disks: bool
) -> QemuReading | None:
    """Ask QEMU for its counters; return None if the instance no longer runs.

    :param tasks: the threads of QEMU, if they are visible.
    :param complete: read all counters, which costs twice as much.
    :param disks: read disk errors, too, which costs as much as all the rest.
    :raises libvirt.libvirtError: libvirt failed.
    """
    began = time.monotonic()
    try:
        domain = domains.get(uuid)
        requests = sum(domain.blockStats(ALL_DISKS)[REQUEST_COUNTS])
        stats = domains.connection.domainListGetStats([domain], PROBE_GROUPS) if complete else []
        errors = domain.diskErrors() if disks else None
    except libvirt.libvirtError as error:
        if error.get_error_code() == JOB_TIMEOUT:
            return _make_reading(began, None)
        if error.get_error_code() in (
            libvirt.VIR_ERR_NO_DOMAIN,
            libvirt.VIR_ERR_OPERATION_INVALID,
        ):
            return None
        raise
    fields = stats[0][1] if stats else {}
    return _make_reading(
        began,
        tasks.read_vcpus() if tasks else None,
        done=True,
        io=requests,
        complete=complete,
        sent=sum(value for name, value in fields.items() if SENT_FIELD.fullmatch(name)),
        exits=count_exits(fields),
        balloon_at=fields.get(BALLOON_FIELD),
        disk_errors=None if errors is None else _name_errors(errors),
    )


def ping_agent(domains: DomainCache, uuid: str) -> bool | None:
    """Return whether the guest agent answers; None if there is none to ask.

    :param domains: must use a connection that may write.
    """
    try:
        domains.get(uuid).getTime()
    except libvirt.libvirtError as error:
        return False if error.get_error_code() == AGENT_UNRESPONSIVE else None
    return True


def count_exits(fields: Mapping[str, Any]) -> int | None:
    """Return the number of VM exits that the guest itself caused; None if it is unknown.

    :param fields: libvirt's statistics of the vCPUs.
    """
    total = None
    for name, value in fields.items():
        if found := EXITS_FIELD.fullmatch(name.replace("-", "_")):
            total = (total or 0) + (value if found[1] == "exits" else -value)
    return total


def _name_errors(errors: Mapping[str, int]) -> dict[str, str]:
    return {
        device: decode.name_of(tables.DISK_ERROR_CODES, code)
        for device, code in errors.items()
        if code
    }


def _make_reading(
    began: float, vcpus: VcpuReading | None, done: bool = False, **values: Any
) -> QemuReading:
    now = time.monotonic()
    return QemuReading(
        at=now,
        awake_at=time.clock_gettime(time.CLOCK_BOOTTIME),
        took_s=now - began,
        done=done,
        vcpus=vcpus,
        **values,
    )
