# SPDX-License-Identifier: Apache-2.0
"""What was measured of an instance. Data only.

Times called ``at`` are seconds of a clock that is never set (CLOCK_MONOTONIC).
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ThreadReading:
    """What the host's scheduler says of a thread.

    :param state: its letter in ``/proc/PID/stat``.
    :param cpu_ns: nanoseconds for which it has run.
    :param delay_ns: nanoseconds for which it could have run, and other threads did.
    :param runs: how many times it was put on a CPU.
    """

    state: str
    cpu_ns: int
    delay_ns: int
    runs: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VcpuReading:
    """The vCPU threads of a QEMU.

    :param threads: by thread id.
    :param emulated: they run under TCG, so that a timer of QEMU's own wakes them in vain.
    """

    threads: Mapping[int, ThreadReading]
    emulated: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HostReading:
    """What can be seen of an instance without asking its QEMU.

    :param state: as in model.instance, and libvirt's reason for it.
    :param occupied_s: for how long QEMU has had a command that it has not answered; None if
        it has none.
    :param main: QEMU's main thread; None if its process cannot be seen. Of a QEMU that has
        answered everything neither is looked at.
    """

    at: float
    state: str
    reason: str = ""
    occupied_s: float | None = None
    main: ThreadReading | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class QemuReading:
    """What came of asking QEMU; what is None is not known.

    :param at: when everything was there.
    :param awake_at: the same moment by a clock that also counts while the host sleeps.
    :param took_s: seconds that it took.
    :param done: QEMU answered; False if libvirt gave up on the way to it.
    :param io: block requests completed since the start, of all disks.
    :param complete: the next three were asked for too.
    :param sent: packets sent since the start, through all interfaces.
    :param exits: how often the guest itself left its vCPUs (KVM), summed up.
    :param balloon_at: when the guest's balloon driver spoke last; any unit.
    :param disk_errors: device -> error that libvirt remembers, if that was asked.
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
