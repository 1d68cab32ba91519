# SPDX-License-Identifier: Apache-2.0
"""Reads the threads of a QEMU process from ``/proc``; needs no privileges."""

import os

from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt.liveness.readings import ThreadReading, VcpuReading
from vmmonitor.sources.procfs import QemuProcess

#: Maximum number of bytes read from a file; the files have some hundred.
MAX_PROC_FILE = 4096
#: Prefixes of the names of vCPU threads; libvirt starts QEMU with ``debug-threads=on``.
VCPU_NAMES = (b"CPU ", b"ALL CPUs")
TCG_SUFFIX = b"/TCG"


class Tasks:
    """The threads of one QEMU process; caches which of them are vCPUs."""

    def __init__(self, process: QemuProcess):
        """Read nothing yet."""
        self.process = process
        #: Thread id -> name.
        self._names: dict[int, bytes] = {}

    def read_main(self) -> ThreadReading | None:
        """Return the main thread; None if the process has ended."""
        pid = self.process.pid
        try:
            stat = _read_stat(pid, pid)
            # The pid may have been reused by another process.
            same = int(stat[procfs.START_TIME_FIELD]) == self.process.started
            return _read_thread(pid, pid, stat) if same else None
        except (OSError, ValueError, IndexError):
            return None

    def read_vcpus(self) -> VcpuReading | None:
        """Return the vCPU threads; None if they cannot be read."""
        pid = self.process.pid
        try:
            running = [int(number) for number in os.listdir(f"/proc/{pid}/task")]
            self._names = {number: self._name_of(number) for number in running}
            numbers = [n for n, name in self._names.items() if name.startswith(VCPU_NAMES)]
            return VcpuReading(
                threads={n: _read_thread(pid, n, _read_stat(pid, n)) for n in numbers},
                emulated=any(self._names[number].endswith(TCG_SUFFIX) for number in numbers),
            )
        except (OSError, ValueError, IndexError):
            return None

    def _name_of(self, number: int) -> bytes:
        known = self._names.get(number, b"")
        # A new thread briefly has its parent's name, then its own for its lifetime.
        if known and (number == self.process.pid or known != self._names.get(self.process.pid)):
            return known
        try:
            return _read(self.process.pid, number, "comm").rstrip(b"\n")
        except OSError:
            return b""  # a short-lived thread has ended


def _read_stat(pid: int, number: int) -> list[bytes]:
    """Return the fields of a thread's ``stat`` after its name, which may contain anything."""
    return _read(pid, number, "stat").rpartition(b")")[2].split()


def _read_thread(pid: int, number: int, stat: list[bytes]) -> ThreadReading:
    used, waited, runs = _read(pid, number, "schedstat").split()
    return ThreadReading(
        state=stat[0].decode(), cpu_ns=int(used), delay_ns=int(waited), runs=int(runs)
    )


def _read(pid: int, number: int, name: str) -> bytes:
    file = os.open(f"/proc/{pid}/task/{number}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, MAX_PROC_FILE)
    finally:
        os.close(file)
