# SPDX-License-Identifier: Apache-2.0
"""Measurements of an instance. Data only.

Times named ``at`` are seconds of CLOCK_MONOTONIC.
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ThreadReading:
    """Scheduler statistics of a thread.

    :param state: its letter in ``/proc/PID/stat``.
    :param cpu_ns: nanoseconds of CPU time.
    :param delay_ns: nanoseconds of waiting for a CPU.
    :param runs: number of times that it was put on a CPU.
    """

    state: str
    cpu_ns: int
    delay_ns: int
    runs: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VcpuReading:
    """The vCPU threads of a QEMU process.

    :param threads: readings by thread id.
    :param emulated: the vCPUs run under TCG, so that QEMU's own timers wake them.
    """

    threads: Mapping[int, ThreadReading]
    emulated: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HostReading:
    """State of an instance that is visible without asking QEMU.

    :param state: as in model.instance.
    :param reason: libvirt's reason for the state.
    :param occupied_s: seconds since QEMU received a command that it has not answered; None if
        there is none.
    :param main: QEMU's main thread; None if its process is not visible. Neither ``main`` nor
        ``occupied_s`` is read while QEMU has answered everything.
    """

    at: float
    state: str
    reason: str = ""
    occupied_s: float | None = None
    main: ThreadReading | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class QemuReading:
    """Result of asking QEMU; unknown values are None.

    :param at: time when the reading was complete.
    :param awake_at: the same moment by a clock that also counts while the host is suspended.
    :param took_s: duration, in seconds.
    :param done: QEMU answered; False if libvirt gave up before it asked.
    :param io: block requests completed since the start, of all disks.
    :param complete: the next three values were read, too.
    :param sent: packets sent since the start, through all interfaces.
    :param exits: VM exits that the guest itself caused (KVM), summed up.
    :param balloon_at: time of the last report of the guest's balloon driver, in any unit.
    :param disk_errors: device -> error that libvirt remembers; None if it was not read.
    """

    at: float
    awake_at: float
    took_s: float
    done: bool
    vcpus: VcpuReading | None = None
    io: int | None = None
    complete: bool = True
    sent: int | None = None
    exits: int | None = None
    balloon_at: int | None = None
    disk_errors: Mapping[str, str] | None = None
