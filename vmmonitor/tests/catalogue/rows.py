# SPDX-License-Identifier: Apache-2.0
"""The table: what is done to a guest, what is told of it, and what comes of that."""

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

    :param name: a short one, for tests and tables.
    :param happens: the same for a person who reads the guide.
    :param does: what vmmonitor does by default, for the same person.
    :param sees: the causes that libvirt tells on the guest's first host, in order, repeats
        folded; of reboots, of which libvirt tells two or three for one reset, the first.
    :param target_sees: the same on the host to which it is migrated.
    :param besides: the causes that the other sources tell, in any order.
    :param perhaps: causes that may be told too.
    :param cause: of the incident that opens; empty if none does.
    :param host: the incident's.
    :param on: the host on which the guest is at first.
    :param guest: arguments for the guest.
    :param disk: makes its extra disk.
    :param cure: what ends the fault, once the incident is open.
    """

    name: str
    happens: str
    act: Act
    sees: tuple[str, ...]
    does: str = "Nothing."
    target_sees: tuple[str, ...] = ()
    besides: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    cause: str = ""
    host: str = "node-1"
    on: str = "node-1"
    guest: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    disk: Callable[..., Any] | None = None
    cure: Act | None = None


STARTS = "Starts it at once."
RESUMES = "Resumes it after 2 s, and again until its storage works."
DIED = "lifecycle.stopped/failed"
PANICKED = "lifecycle.crashed/panicked"
#: libvirt may pause a guest that panicked before it tells of the panic.
PAUSED = ("lifecycle.suspended/paused",)
IO_PAUSED = ("io_error/pause", "io_error_reason/pause", "lifecycle.suspended/ioerror")

DEATHS = (
    Row(
        name="sigkill",
        happens="QEMU is killed (SIGKILL, the kernel out of memory)",
        act=acts.sent(signal.SIGKILL),
        sees=(DIED,),
        besides=EXITED,
        cause=DIED,
        does=STARTS,
    ),
    Row(
        name="sigkill of a defined one",
        happens="The same, and libvirt keeps its definition, as with nova",
        act=acts.sent(signal.SIGKILL),
        guest={"defined": True},
        sees=(DIED,),
        besides=EXITED,
        cause=DIED,
        does=STARTS,
    ),
    Row(
        name="sigsegv",
        happens="QEMU crashes (SIGSEGV)",
        act=acts.sent(signal.SIGSEGV),
        sees=(DIED,),
        besides=EXITED,
        cause=DIED,
        does=STARTS,
    ),
    Row(
        name="sigterm",
        happens="Something on the host ends QEMU (SIGTERM)",
        act=acts.sent(signal.SIGTERM),
        sees=("lifecycle.shutdown/host", "lifecycle.stopped/shutdown"),
        besides=EXITED,
        cause="lifecycle.stopped/shutdown",
        does="Starts it after 5 s.",
    ),
    Row(
        name="migrated with its incident",
        happens="The guest's watchdog fires, and the instance is migrated before that is judged",
        act=acts.watchdog_then_migrated,
        guest={"watchdog": "shutdown"},
        sees=(
            "watchdog/shutdown",
            "lifecycle.suspended/migrated",
            "lifecycle.stopped/migrated",
            "job_completed/migration_out",
        ),
        target_sees=("lifecycle.started/migrated", "lifecycle.resumed/migrated"),
        besides=EXITED,
        cause="watchdog/shutdown",
        host="node-2",
        does="Looks after it on its new host.",
    ),
    Row(
        name="killed after a migration",
        happens="QEMU is killed on the host to which the instance was migrated",
        act=acts.migrated_and_killed,
        sees=(
            "lifecycle.suspended/migrated",
            "lifecycle.stopped/migrated",
            "job_completed/migration_out",
        ),
        target_sees=("lifecycle.started/migrated", "lifecycle.resumed/migrated", DIED),
        besides=EXITED * 2,
        cause=DIED,
        host="node-2",
        does="Starts it at once, where it was killed.",
    ),
)

PANICS = (
    Row(
        name="panic preserve",
        happens="The guest panics, ``on_crash`` is ``preserve``",
        act=acts.ordered("P"),
        guest={"on_crash": "preserve"},
        sees=(PANICKED,),
        perhaps=PAUSED,
        cause=PANICKED,
        does="Resets it at once.",
    ),
    Row(
        name="panic destroy",
        happens="The guest panics, ``on_crash`` is ``destroy``",
        act=acts.ordered("P"),
        guest={"on_crash": "destroy"},
        sees=(PANICKED, "lifecycle.stopped/crashed"),
        perhaps=PAUSED,
        besides=EXITED,
        cause=PANICKED,
        does=STARTS,
    ),
    Row(
        name="panic restart",
        happens="The guest panics, ``on_crash`` is ``restart``",
        act=acts.ordered("P"),
        guest={"on_crash": "restart"},
        sees=(PANICKED, "reboot", "lifecycle.resumed/unpaused"),
        perhaps=PAUSED,
        cause=PANICKED,
        does="Sees libvirt reset it.",
    ),
    Row(
        name="crash kernel",
        happens="The guest crashes and loads its crash kernel (kdump)",
        act=acts.ordered("L"),
        sees=("lifecycle.crashed/crashloaded",),
        does="Nothing, or the dump would be lost.",
    ),
)


def watchdog(action: str, does: str, *more: str, opens: bool = True, **fields: Any) -> Row:
    """The row of one action of the watchdog."""
    return Row(
        name=f"watchdog {action}",
        happens=f"The guest's watchdog fires, its action is ``{action}``",
        act=acts.ordered("W"),
        guest={"watchdog": action},
        sees=(f"watchdog/{action}", *more),
        cause=f"watchdog/{action}" if opens else "",
        does=does,
        **fields,
    )


WATCHDOGS = (
    watchdog("reset", "Sees after 10 s that it runs.", "reboot"),
    watchdog("poweroff", STARTS, DIED, besides=EXITED),
    watchdog("pause", "Resets it at once.", "lifecycle.suspended/watchdog"),
    watchdog("shutdown", "Starts it after 10 s if it is down by then."),
    watchdog("none", "Nothing.", opens=False),
    watchdog("inject-nmi", "Nothing.", opens=False),
)

HANGS = (
    Row(
        name="sigstop",
        happens="QEMU is stopped (SIGSTOP), or its main loop hangs",
        act=acts.sent(signal.SIGSTOP),
        sees=(),
        besides=("liveness.hung/stopped",),
        cause="liveness.hung/stopped",
        does="Ends it by force after 5 s, and starts it.",
    ),
    Row(
        name="halted",
        happens="The guest hangs (halted, its interrupts off) and used its disk before",
        act=acts.halted_after_io,
        disk=acts.plain,
        sees=(),
        besides=("liveness.stalled/failed",),
        cause="liveness.stalled/failed",
        does="Resets it after 10 s.",
    ),
    Row(
        name="spins",
        happens="The guest spins, its interrupts off, on a host without KVM",
        act=acts.ordered("J"),
        sees=(),
        does="Nothing: it looks like one that computes.",
    ),
)

DISKS = (
    Row(
        name="disk full",
        happens="A disk is full (ENOSPC), no error policy, as with nova",
        act=acts.fill,
        disk=acts.full(),
        sees=IO_PAUSED,
        cause=IO_PAUSED[0],
        cure=acts.grow,
        does=RESUMES,
    ),
    Row(
        name="disk full stop",
        happens="A disk is full (ENOSPC), error policy ``stop``",
        act=acts.fill,
        disk=acts.full("stop"),
        sees=IO_PAUSED,
        cause=IO_PAUSED[0],
        cure=acts.grow,
        does=RESUMES,
    ),
    Row(
        name="disk error stop",
        happens="A network disk fails, error policy ``stop``",
        act=acts.write,
        disk=acts.faulty("stop"),
        sees=(IO_PAUSED[0], IO_PAUSED[-1]),
        cause=IO_PAUSED[0],
        cure=acts.heal,
        does=RESUMES,
    ),
    Row(
        name="disk error stop nameless",
        happens="The same with ``stop``, where the disk's source has no name",
        act=acts.write,
        disk=acts.faulty("stop", name=None),
        sees=IO_PAUSED[-1:],
        besides=("block_io_error/stop",),
        cause=IO_PAUSED[-1],
        cure=acts.heal,
        does=RESUMES,
    ),
    Row(
        name="disk error report",
        happens="A network disk fails, error policy ``report``",
        act=acts.write,
        disk=acts.faulty("report"),
        sees=("io_error/report",),
        does="Nothing: the guest has to deal with it.",
    ),
    Row(
        name="disk error report nameless",
        happens="The same with ``report``, where the disk's source has no name",
        act=acts.write,
        disk=acts.faulty("report", name=None),
        sees=(),
        besides=("block_io_error/report",),
        does="Nothing: the guest has to deal with it.",
    ),
)

FAULTS = (*DEATHS, *HANGS, *PANICS, *WATCHDOGS, *DISKS)
