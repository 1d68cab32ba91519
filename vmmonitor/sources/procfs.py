# SPDX-License-Identifier: Apache-2.0
"""Reads the QEMU processes of this host from ``/proc``; needs no privileges.

Any local user can run a program with the command line of a QEMU that libvirt started. The command
line therefore only names the instance. That the process is QEMU, and libvirt's, follows from its
user and executable, from its control group, or from libvirt's pid file.
"""

import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Collection, Iterator

from vmmonitor.model.instance import QemuOwner

#: Maximum number of bytes read from a command line. libvirt passes the UUID among the first
#: arguments.
MAX_COMMAND = 65536
#: Fields 3 and 22 of ``/proc/PID/stat``, counted after the name, which may contain anything.
STATE_FIELD = 0
START_TIME_FIELD = 19
#: Control groups that libvirt or systemd-machined create for QEMU, as root.
QEMU_CGROUP = re.compile(r"^\d+:[^:]*:(/\.\.)*/machine(\.slice)?/(machine-)?qemu\b", re.MULTILINE)
#: Name of the domain in the value of ``-name``, where each comma is doubled.
GUEST_NAME = re.compile(r"guest=((?:[^,]|,,)*)")
#: Maximum time, in seconds, that a process may seem younger than its pid file.
PID_FILE_SLACK = 1.0
#: Suffix that the kernel adds to the path of a binary that was replaced, as at an upgrade.
DELETED = " (deleted)"
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


def find(instance_uuids: Collection[str] | None, owner: QemuOwner) -> dict[str, QemuProcess]:
    """Return the QEMU processes that libvirt started, by the UUID of their instance.

    Reads every process once, independent of the number of instances. If an instance has two, it
    is the one in libvirt's pid file, otherwise the younger one.

    :param instance_uuids: the instances; None for all.
    :param owner: identifies libvirt's processes.
    :raises OSError: ``/proc`` is not available.
    """
    found: dict[str, tuple[bool, int, QemuProcess]] = {}
    for process, name in _all_candidates(instance_uuids):
        is_named = _is_in_pid_file(process, owner.pid_directory, name)
        if _is_owned(process.pid, owner, is_named):
            rank = (is_named, process.started, process)
            uuid = process.instance_uuid
            if uuid not in found or found[uuid][:2] < rank[:2]:
                found[uuid] = rank
    return {uuid: process for uuid, (_, _, process) in found.items()}


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


def is_alive(process: QemuProcess) -> bool:
    """Return whether exactly this process still runs."""
    try:
        return read_start_time(process.pid) == process.started
    except OSError:
        return False


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


def parse_name(command: bytes) -> str:
    """Return the name of the domain in the command line of a QEMU that libvirt started."""
    value = _option(command.split(b"\0"), b"-name").decode("utf-8", "replace")
    match = GUEST_NAME.match(value)
    return match[1].replace(",,", ",") if match else ""


def _option(words: list[bytes], name: bytes) -> bytes:
    with contextlib.suppress(ValueError, IndexError):
        return words[words.index(name) + 1]
    return b""


def _all_candidates(
    instance_uuids: Collection[str] | None,
) -> Iterator[tuple[QemuProcess, str]]:
    """Return the processes whose command line is that of a QEMU, and the names of the domains."""
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        pid = int(entry)
        # A process may end while it is read.
        with contextlib.suppress(OSError):
            command = _read(pid, "cmdline")
            uuid = b"\0-uuid\0" in command and parse_instance_uuid(command)
            if uuid and (instance_uuids is None or uuid in instance_uuids):
                yield QemuProcess(pid, uuid, read_start_time(pid)), parse_name(command)


def _is_owned(pid: int, owner: QemuOwner, is_named: bool) -> bool:
    """Return whether a process is a QEMU of libvirt.

    :param is_named: libvirt's pid file contains it.
    """
    try:
        executable = _read_executable(pid)
        if executable is not None and not is_qemu(executable):
            return False
        if is_named or QEMU_CGROUP.search(_read(pid, "cgroup").decode("utf-8", "replace")):
            return True
        users = _read_users(pid)
    except OSError:
        # It has ended, or its files cannot be read.
        return False
    # Programs that run as root for any user (sudo) can have any command line.
    return users <= owner.uids and (executable is not None or 0 not in users)


def is_qemu(executable: str) -> bool:
    """Return whether a binary is QEMU, by its name: qemu-system-x86_64, qemu-kvm, kvm ..."""
    name = os.path.basename(executable.removesuffix(DELETED))
    return "qemu" in name or name == "kvm"


def _read_executable(pid: int) -> str | None:
    """Return the path of a process's binary; None if only root and its own user may read it."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except PermissionError:
        return None


def _read_users(pid: int) -> frozenset[int]:
    """Return the real, effective, saved and file system uid of a process."""
    for line in _read(pid, "status").splitlines():
        if line.startswith(b"Uid:"):
            return frozenset(int(uid) for uid in line.split()[1:])
    return frozenset()


def _is_in_pid_file(process: QemuProcess, directory: str, name: str) -> bool:
    """Return whether libvirt's pid file of a domain contains a process.

    The file may remain after its process, whose pid another one can get: that one is younger.
    """
    if not directory or not name or "/" in name:
        return False
    try:
        with open(os.path.join(directory, f"{name}.pid"), "rb") as file:
            written_at = os.fstat(file.fileno()).st_mtime
            is_equal = int(file.read(32)) == process.pid
    except (OSError, ValueError):
        return False
    return is_equal and process.age() > time.time() - written_at - PID_FILE_SLACK


def _read_stat(pid: int) -> list[bytes]:
    return _read(pid, "stat").rpartition(b")")[2].split()


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.read(MAX_COMMAND)
