# SPDX-License-Identifier: Apache-2.0
"""What ``/proc`` says of the threads of a QEMU; anybody may read it."""

import os

from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt.liveness.readings import ThreadReading, VcpuReading
from vmmonitor.sources.procfs import QemuProcess

#: Bytes that are read of a file; each takes some hundred.
MAX_BYTES = 4096
#: How QEMU calls its vCPU threads, since libvirt starts it with ``debug-threads=on``.
VCPU = (b"CPU ", b"ALL CPUs")
EMULATED = b"/TCG"


class Tasks:
    """The threads of one QEMU; remembers which are its vCPUs."""

    def __init__(self, process: QemuProcess):
        """Read nothing yet."""
        self.process = process
        #: Thread id -> its name.
        self._names: dict[int, bytes] = {}

    def main(self) -> ThreadReading | None:
        """Return its main thread, None if the process has ended."""
        pid = self.process.pid
        try:
            stat = _stat(pid, pid)
            # The pid may be another process's by now.
            same = int(stat[procfs.START_TIME]) == self.process.started
            return _thread(pid, pid, stat) if same else None
        except (OSError, ValueError, IndexError):
            return None

    def vcpus(self) -> VcpuReading | None:
        """Return its vCPU threads, None if they cannot be known."""
        pid = self.process.pid
        try:
            running = [int(number) for number in os.listdir(f"/proc/{pid}/task")]
            self._names = {number: self._name(number) for number in running}
            numbers = [n for n, name in self._names.items() if name.startswith(VCPU)]
            return VcpuReading(
                threads={n: _thread(pid, n, _stat(pid, n)) for n in numbers},
                emulated=any(self._names[number].endswith(EMULATED) for number in numbers),
            )
        except (OSError, ValueError, IndexError):
            return None

    def _name(self, number: int) -> bytes:
        known = self._names.get(number, b"")
        # A thread has its parent's name for a moment, and then its own for good.
        if known and (number == self.process.pid or known != self._names.get(self.process.pid)):
            return known
        try:
            return _read(self.process.pid, number, "comm").rstrip(b"\n")
        except OSError:
            return b""  # one of those that come and go


def _stat(pid: int, number: int) -> list[bytes]:
    """Return ``/proc/PID/stat`` of a thread from behind its name, which may hold anything."""
    return _read(pid, number, "stat").rpartition(b")")[2].split()


def _thread(pid: int, number: int, stat: list[bytes]) -> ThreadReading:
    used, waited, runs = _read(pid, number, "schedstat").split()
    return ThreadReading(
        state=stat[0].decode(), cpu_ns=int(used), delay_ns=int(waited), runs=int(runs)
    )


def _read(pid: int, number: int, name: str) -> bytes:
    file = os.open(f"/proc/{pid}/task/{number}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, MAX_BYTES)
    finally:
        os.close(file)
