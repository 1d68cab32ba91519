# SPDX-License-Identifier: Apache-2.0
"""What ``/proc`` says of the QEMU processes of this host; anybody may read it."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Collection, Iterator

#: Bytes of a command line that are read. libvirt gives the UUID among the first arguments.
MAX_COMMAND = 65536
#: Of ``/proc/PID/stat``, counted from behind the name, which may hold anything: fields 3 and 22.
STATE = 0
START_TIME = 19
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True, slots=True)
class QemuProcess:
    """The QEMU process of an instance.

    :param started: when, in clock ticks since the host booted; no two processes share both this
        and the pid.
    """

    pid: int
    instance_uuid: str
    started: int

    def age(self) -> float:
        """Return for how many seconds it has been there; suspended time of the host counts."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.started / TICKS_PER_SECOND


def obstacle() -> str:
    """Return why the processes of others cannot be seen or watched; empty if they can."""
    try:
        _read(1, "cmdline")
    except OSError as error:
        return f"the processes of others are hidden (is /proc mounted with hidepid?): {error}"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return f"this system has no pidfd: {error}"
    return ""


def find(instance_uuids: Collection[str]) -> dict[str, QemuProcess]:
    """Return the QEMU processes of these instances, by UUID; of two the younger one.

    Looks at every process once, whatever the number of instances.

    :raises OSError: there is no ``/proc``.
    """
    found: dict[str, QemuProcess] = {}
    for process in _all():
        uuid = process.instance_uuid
        if uuid in instance_uuids and (uuid not in found or found[uuid].started < process.started):
            found[uuid] = process
    return found


def opened(process: QemuProcess) -> int | None:
    """Return a pidfd of exactly this process, None if it has ended.

    :raises OSError: there is no room for another open file.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # The pid may have become another process's before it was opened.
    with contextlib.suppress(OSError):
        if started(process.pid) == process.started:
            return pidfd
    os.close(pidfd)
    return None


def started(pid: int) -> int:
    """Return when a process started, in clock ticks since the host booted.

    :raises OSError: there is no such process.
    """
    return int(_stat(pid)[START_TIME])


def state(pid: int) -> str:
    """Return the state of a process, as proc(5) has it: R, S, D, Z, T, t ...

    :raises OSError: there is no such process.
    """
    return _stat(pid)[STATE].decode("ascii", "replace")


def instance_of(command: bytes) -> str:
    """Return the UUID in the command line of a QEMU that libvirt started, else nothing.

    :param command: the arguments, each ended by a NUL.
    """
    words = command.split(b"\0")
    if not _option(words, b"-name").startswith(b"guest="):
        return ""
    return _option(words, b"-uuid").decode("ascii", "replace").lower()


def _option(words: list[bytes], name: bytes) -> bytes:
    with contextlib.suppress(ValueError, IndexError):
        return words[words.index(name) + 1]
    return b""


def _all() -> Iterator[QemuProcess]:
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        pid = int(entry)
        # One that ends meanwhile is none any more.
        with contextlib.suppress(OSError):
            command = _read(pid, "cmdline")
            uuid = b"\0-uuid\0" in command and instance_of(command)
            if uuid:
                yield QemuProcess(pid, uuid, started(pid))


def _stat(pid: int) -> list[bytes]:
    return _read(pid, "stat").rpartition(b")")[2].split()


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.read(MAX_COMMAND)
