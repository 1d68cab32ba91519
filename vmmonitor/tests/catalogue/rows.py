# SPDX-License-Identifier: Apache-2.0
"""The fault scenarios: the fault, the events that report it, and the default reaction."""

import dataclasses
import signal
from collections.abc import Callable, Mapping
from typing import Any

from vmmonitor.tests.catalogue import acts
from vmmonitor.tests.catalogue.acts import Act

STARTED = "lifecycle.started/booted"
EXITED = ("process.exited",)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One scenario.

    :param name: short name, for tests and tables.
    :param description: description for the administrator's guide.
    :param act: causes the fault, or performs the operation.
    :param events: causes that libvirt reports on the guest's first host, in order, without
        repetitions; only the first reboot, because libvirt reports one reset up to three times.
    :param reaction: default reaction of vmmonitor, for the guide.
    :param target_events: causes that libvirt reports on the target host of a migration.
    :param other_events: causes that the other sources report, in any order.
    :param optional_events: causes that may be reported too.
    :param cause: cause of the incident; empty if no incident opens.
    :param host: host of the incident.
    :param on: first host of the guest.
    :param target: target host of a migration. The agent of ``node-4`` is not connected at first.
    :param guest: arguments for the guest.
    :param disk: creates the extra disk.
    :param cure: ends the fault, once the incident is open.
    """

    name: str
    description: str
    act: Act
    events: tuple[str, ...]
    reaction: str = "No recovery."
    target_events: tuple[str, ...] = ()
    other_events: tuple[str, ...] = ()
    optional_events: tuple[str, ...] = ()
    cause: str = ""
    host: str = "node-1"
    on: str = "node-1"
    target: str = "node-2"
    guest: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    disk: Callable[..., Any] | None = None
    cure: Act | None = None


STARTS = "Started at once."
RESUMES = "Resumed after 2 s, then repeatedly until the storage works."
DIED = "lifecycle.stopped/failed"
PANICKED = "lifecycle.crashed/panicked"
#: libvirt may pause a guest that panicked before it reports the panic.
PAUSED = ("lifecycle.suspended/paused",)
IO_PAUSED = ("io_error/pause", "io_error_reason/pause", "lifecycle.suspended/ioerror")

DEATHS = (
    Row(
        name="sigkill",
        description="QEMU is killed (SIGKILL, or the kernel is out of memory)",
        act=acts.send_signal(signal.SIGKILL),
        events=(DIED,),
        other_events=EXITED,
        cause=DIED,
        reaction=STARTS,
    ),
    Row(
        name="sigkill of a defined domain",
        description="QEMU of a persistent domain is killed, as with nova",
        act=acts.send_signal(signal.SIGKILL),
        guest={"defined": True},
        events=(DIED,),
        other_events=EXITED,
        cause=DIED,
        reaction=STARTS,
    ),
    Row(
        name="sigsegv",
        description="QEMU crashes (SIGSEGV)",
        act=acts.send_signal(signal.SIGSEGV),
        events=(DIED,),
        other_events=EXITED,
        cause=DIED,
        reaction=STARTS,
    ),
    Row(
        name="sigterm",
        description="A process on the host ends QEMU (SIGTERM)",
        act=acts.send_signal(signal.SIGTERM),
        events=("lifecycle.shutdown/host", "lifecycle.stopped/shutdown"),
        other_events=EXITED,
        cause="lifecycle.stopped/shutdown",
        reaction="Started after 5 s.",
    ),
    Row(
        name="migration with open incident",
        description="The guest's watchdog fires, and the instance is migrated before the verdict",
        act=acts.fire_watchdog_and_migrate,
        guest={"watchdog": "shutdown"},
        events=(
            "watchdog/shutdown",
            "lifecycle.suspended/migrated",
            "lifecycle.stopped/migrated",
            "job_completed/migration_out",
        ),
        target_events=("lifecycle.started/migrated", "lifecycle.resumed/migrated"),
        other_events=EXITED,
        cause="watchdog/shutdown",
        host="node-2",
        reaction="The incident follows the instance to its new host.",
    ),
    Row(
        name="kill after migration",
        description="QEMU is killed after a migration, on the new host",
        act=acts.migrate_and_kill,
        events=(
            "lifecycle.suspended/migrated",
            "lifecycle.stopped/migrated",
            "job_completed/migration_out",
        ),
        target_events=("lifecycle.started/migrated", "lifecycle.resumed/migrated", DIED),
        other_events=EXITED * 2,
        cause=DIED,
        host="node-2",
        reaction="Started at once on the new host.",
    ),
)

PANICS = (
    Row(
        name="panic preserve",
        description="The guest panics, ``on_crash`` is ``preserve``",
        act=acts.order_guest("P"),
        guest={"on_crash": "preserve"},
        events=(PANICKED,),
        optional_events=PAUSED,
        cause=PANICKED,
        reaction="Reset at once.",
    ),
    Row(
        name="panic destroy",
        description="The guest panics, ``on_crash`` is ``destroy``",
        act=acts.order_guest("P"),
        guest={"on_crash": "destroy"},
        events=(PANICKED, "lifecycle.stopped/crashed"),
        optional_events=PAUSED,
        other_events=EXITED,
        cause=PANICKED,
        reaction=STARTS,
    ),
    Row(
        name="panic restart",
        description="The guest panics, ``on_crash`` is ``restart``",
        act=acts.order_guest("P"),
        guest={"on_crash": "restart"},
        events=(PANICKED, "reboot", "lifecycle.resumed/unpaused"),
        optional_events=PAUSED,
        cause=PANICKED,
        reaction="Resolved when libvirt has reset the guest.",
    ),
    Row(
        name="crash kernel",
        description="The guest crashes and loads its crash kernel (kdump)",
        act=acts.order_guest("L"),
        events=("lifecycle.crashed/crashloaded",),
        reaction="No recovery, which would destroy the dump.",
    ),
)


def watchdog_row(action: str, reaction: str, *more: str, opens: bool = True, **fields: Any) -> Row:
    """Return the row of one action of the watchdog."""
    return Row(
        name=f"watchdog {action}",
        description=f"The guest's watchdog fires, with the action ``{action}``",
        act=acts.order_guest("W"),
        guest={"watchdog": action},
        events=(f"watchdog/{action}", *more),
        cause=f"watchdog/{action}" if opens else "",
        reaction=reaction,
        **fields,
    )


WATCHDOGS = (
    watchdog_row("reset", "Checked after 10 s; not changed, because it runs.", "reboot"),
    watchdog_row("poweroff", STARTS, DIED, other_events=EXITED),
    watchdog_row("pause", "Reset at once.", "lifecycle.suspended/watchdog"),
    watchdog_row("shutdown", "Started after 10 s if it is down."),
    watchdog_row("none", "No recovery.", opens=False),
    watchdog_row("inject-nmi", "No recovery.", opens=False),
)

HANGS = (
    Row(
        name="sigstop",
        description="QEMU is stopped (SIGSTOP), or its main loop hangs",
        act=acts.send_signal(signal.SIGSTOP),
        events=(),
        other_events=("liveness.hung/stopped",),
        cause="liveness.hung/stopped",
        reaction="Destroyed after 5 s and started.",
    ),
    Row(
        name="halted guest",
        description="The guest hangs (halted with interrupts disabled) and used its disk before",
        act=acts.halt_after_disk_use,
        disk=acts.make_plain_disk,
        events=(),
        other_events=("liveness.stalled/failed",),
        cause="liveness.stalled/failed",
        reaction="Reset after 10 s.",
    ),
    Row(
        name="spinning guest",
        description="The guest spins with interrupts disabled, on a host without KVM",
        act=acts.order_guest("J"),
        events=(),
        reaction="No recovery: it cannot be distinguished from a busy guest.",
    ),
)

DISKS = (
    Row(
        name="disk full",
        description="A disk is full (ENOSPC), without an error policy, as with nova",
        act=acts.fill_disk,
        disk=acts.make_full_disk(),
        events=IO_PAUSED,
        cause=IO_PAUSED[0],
        cure=acts.grow_disk,
        reaction=RESUMES,
    ),
    Row(
        name="disk full stop",
        description="A disk is full (ENOSPC), with the error policy ``stop``",
        act=acts.fill_disk,
        disk=acts.make_full_disk("stop"),
        events=IO_PAUSED,
        # On a busy machine the guest is read paused before libvirt's event about a further pause.
        optional_events=("liveness.paused/ioerror", "liveness.cleared/paused"),
        cause=IO_PAUSED[0],
        cure=acts.grow_disk,
        reaction=RESUMES,
    ),
    Row(
        name="disk error stop",
        description="A network disk fails, with the error policy ``stop``",
        act=acts.write_to_failing_disk,
        disk=acts.make_faulty_disk("stop"),
        events=(IO_PAUSED[0], IO_PAUSED[-1]),
        cause=IO_PAUSED[0],
        cure=acts.repair_disk,
        reaction=RESUMES,
    ),
    Row(
        name="disk error stop, no source name",
        description="A network disk without a source name fails, with the error policy ``stop``",
        act=acts.write_to_failing_disk,
        disk=acts.make_faulty_disk("stop", name=None),
        events=IO_PAUSED[-1:],
        other_events=("block_io_error/stop",),
        cause=IO_PAUSED[-1],
        cure=acts.repair_disk,
        reaction=RESUMES,
    ),
    Row(
        name="disk error report",
        description="A network disk fails, with the error policy ``report``",
        act=acts.write_to_failing_disk,
        disk=acts.make_faulty_disk("report"),
        events=("io_error/report",),
        reaction="No recovery: the guest handles the error.",
    ),
    Row(
        name="disk error report, no source name",
        description="A network disk without a source name fails, with the error policy ``report``",
        act=acts.write_to_failing_disk,
        disk=acts.make_faulty_disk("report", name=None),
        events=(),
        other_events=("block_io_error/report",),
        reaction="No recovery: the guest handles the error.",
    ),
)

FAULTS = (*DEATHS, *HANGS, *PANICS, *WATCHDOGS, *DISKS)
