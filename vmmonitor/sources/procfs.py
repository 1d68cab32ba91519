# SPDX-License-Identifier: Apache-2.0
"""Reads the QEMU processes of this host from ``/proc``; needs no privileges."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Collection, Iterator

#: Maximum number of bytes read from a command line. libvirt passes the UUID among the first
#: arguments.
MAX_COMMAND = 65536
#: Fields 3 and 22 of ``/proc/PID/stat``, counted after the name, which may contain anything.
STATE_FIELD = 0
START_TIME_FIELD = 19
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True, slots=True)
class QemuProcess:
    """The QEMU process of an instance.

    :param started: start time in clock ticks since the boot of the host; unique together with the
        pid.
    """

    pid: int
    instance_uuid: str
    started: int

    def age(self) -> float:
        """Return the seconds since its start, suspended time of the host included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.started / TICKS_PER_SECOND


def find_obstacle() -> str:
    """Return why other users' processes cannot be watched; empty if they can."""
    try:
        _read(1, "cmdline")
    except OSError as error:
        return f"processes of other users are hidden (is /proc mounted with hidepid?): {error}"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return f"this system does not support pidfd: {error}"
    return ""


def find(instance_uuids: Collection[str]) -> dict[str, QemuProcess]:
    """Return the QEMU processes of instances, by UUID; the younger one if there are two.

    Reads every process once, independent of the number of instances.

    :raises OSError: ``/proc`` is not available.
    """
    found: dict[str, QemuProcess] = {}
    for process in _all_qemu_processes():
        uuid = process.instance_uuid
        if uuid in instance_uuids and (uuid not in found or found[uuid].started < process.started):
            found[uuid] = process
    return found


def open_pidfd(process: QemuProcess) -> int | None:
    """Return a pidfd of exactly this process; None if it has ended.

    :raises OSError: too many files are open.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # The pid may have been reused before it was opened.
    with contextlib.suppress(OSError):
        if read_start_time(process.pid) == process.started:
            return pidfd
    os.close(pidfd)
    return None


def read_start_time(pid: int) -> int:
    """Return the start time of a process, in clock ticks since the boot of the host.

    :raises OSError: the process does not exist.
    """
    return int(_read_stat(pid)[START_TIME_FIELD])


def read_state(pid: int) -> str:
    """Return the state of a process as in proc(5): R, S, D, Z, T, t ...

    :raises OSError: the process does not exist.
    """
    return _read_stat(pid)[STATE_FIELD].decode("ascii", "replace")


def parse_instance_uuid(command: bytes) -> str:
    """Return the UUID in the command line of a QEMU that libvirt started; otherwise empty.

    :param command: the arguments, each terminated by NUL.
    """
    words = command.split(b"\0")
    if not _option(words, b"-name").startswith(b"guest="):
        return ""
    return _option(words, b"-uuid").decode("ascii", "replace").lower()


def _option(words: list[bytes], name: bytes) -> bytes:
    with contextlib.suppress(ValueError, IndexError):
        return words[words.index(name) + 1]
    return b""


def _all_qemu_processes() -> Iterator[QemuProcess]:
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        pid = int(entry)
        # A process may end while it is read.
        with contextlib.suppress(OSError):
            command = _read(pid, "cmdline")
            uuid = b"\0-uuid\0" in command and parse_instance_uuid(command)
            if uuid:
                yield QemuProcess(pid, uuid, read_start_time(pid))


def _read_stat(pid: int) -> list[bytes]:
    return _read(pid, "stat").rpartition(b")")[2].split()


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.read(MAX_COMMAND)
