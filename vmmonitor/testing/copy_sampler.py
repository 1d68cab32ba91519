# SPDX-License-Identifier: Apache-2.0
"""Sample the QEMU processes of this machine, and record two copies of one instance.

``copies.CopyCounter`` runs this module as a script. It reads one JSON order per line from stdin
and prints one JSON answer per line on stdout. It ends when stdin ends.

A process counts only if the kernel names QEMU as its program (``/proc/PID/exe``): a command line
proves nothing. The rule for two processes of one instance:

* The younger one was started without ``-incoming``: it opened the disks to run the guest at once.
  Two such processes at the same time are two copies.
* The younger one was started with ``-incoming``: it is the target of a live migration, and both
  processes exist legitimately, for minutes if the migration stalls. The source runs first; when
  the target runs, the source is paused and must never run again. The command line does not say
  when the guest has arrived, and the monitor belongs to libvirt, so the sampler reads the CPU
  time of the vCPU threads: a running guest wakes at each timer interrupt, a paused one never.
  They are two copies as soon as the source runs after the target has run.
"""

import collections
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

POLL_S = 0.02
#: A process younger than this may still execute another program, in seconds.
YOUNG_S = 30.0
#: Interval of the checks whether a single copy has ended, in seconds.
LIVENESS_S = 0.5
#: A guest runs if its vCPU threads used CPU time at this many samples within two seconds. A paused
#: guest's threads wake once or twice: when they start, when they pause and when they end.
RUNNING_SAMPLES = 6
RUNNING_WINDOW_S = 2.0
#: Directories of installed programs; tests execute other programs under the name of QEMU.
INSTALLED = ("/usr/", "/opt/")
QEMU = ("qemu-system-", "qemu-kvm", "kvm")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
#: Characters of a command line in a report.
COMMAND_CHARACTERS = 120


class Copy:
    """A QEMU process of an instance."""

    def __init__(self, pid: int, started: int, words: list[str]):
        self.pid = pid
        self.started = started
        self.instance_uuid = _option(words, "-uuid").lower()
        self.incoming = "-incoming" in words
        self.seen_at = time.time()
        self.ended_at = 0.0
        self._command = " ".join(words)
        self._home = _read_home(pid)
        self._cpu_time = -1
        self._woken: collections.deque[float] = collections.deque(maxlen=RUNNING_SAMPLES)
        #: Time of the sample that first found the guest running; infinite before.
        self.running_since = float("inf")

    def is_alive(self) -> bool:
        """Return whether the process exists and can still write to its disks."""
        try:
            state, started = _read_stat(self.pid)
        except OSError:
            state, started = "X", self.started
        if state in "ZX" or started != self.started:
            self.ended_at = self.ended_at or time.time()
        return not self.ended_at

    def sample_cpu_time(self, now: float) -> None:
        """Record whether the vCPU threads ran since the last sample."""
        cpu_time = sum(_read_vcpu_times(self.pid))
        if 0 <= self._cpu_time < cpu_time:
            self._woken.append(now)
            if self.ran_after(now - RUNNING_WINDOW_S):
                self.running_since = min(self.running_since, now)
        self._cpu_time = cpu_time

    def ran_after(self, moment: float) -> bool:
        """Return whether all the last samples with CPU time were taken after ``moment``."""
        return len(self._woken) == RUNNING_SAMPLES and self._woken[0] > moment

    def describe(self) -> dict[str, Any]:
        """Return the process for a report; times are seconds since the epoch."""
        return {
            "pid": self.pid,
            "seen_at": self.seen_at,
            "ended_at": self.ended_at,
            "incoming": self.incoming,
            "home": self._home,
            "command": self._command[:COMMAND_CHARACTERS],
        }


class Sampler:
    """Finds the QEMU processes of watched instances, and two copies among them."""

    def __init__(self) -> None:
        self._copies: dict[str, list[Copy]] = {}
        self._watched: set[str] = set()
        self._overlaps: dict[str, dict[tuple[int, int], dict[str, Any]]] = {}
        self._known: set[int] = set()
        self._young: dict[int, float] = {}
        self._last_pid = ""
        self._look_again_at = 0.0
        self._sampled_at = 0.0
        self._longest_gap = 0.0

    def watch(self, uuid: str) -> dict[str, Any]:
        """Count the processes of an instance from now on."""
        if not self._watched:
            self._sampled_at = 0.0
        self._watched.add(uuid)
        self._overlaps.setdefault(uuid, {})
        self.sample()
        return {}

    def report(self, uuid: str) -> dict[str, Any]:
        """Return the processes of an instance until now, and which of them were two copies."""
        self.sample()
        return {
            "overlaps": list(self._overlaps.get(uuid, {}).values()),
            "processes": [one.describe() for one in self._copies.get(uuid, ())],
            "longest_gap": self._longest_gap,
        }

    def forget(self, uuid: str) -> dict[str, Any]:
        """Return the last report on an instance, and do not count it any further."""
        found = self.report(uuid)
        self._watched.discard(uuid)
        self._overlaps.pop(uuid, None)
        self._copies.pop(uuid, None)
        return found

    def is_needed(self) -> bool:
        """Return whether any instance is watched."""
        return bool(self._watched)

    def sample(self) -> None:
        """Look once at the processes of this machine."""
        now = time.monotonic()
        if self._sampled_at:
            self._longest_gap = max(self._longest_gap, now - self._sampled_at)
        self._sampled_at = now
        for copy in self._find_new(now):
            self._copies.setdefault(copy.instance_uuid, []).append(copy)
        look_at_all = now >= self._look_again_at
        if look_at_all:
            self._look_again_at = now + LIVENESS_S
        for uuid in self._watched:
            living = [one for one in self._copies.get(uuid, ()) if not one.ended_at]
            if look_at_all or len(living) > 1:
                living = [one for one in living if one.is_alive()]
            if len(living) > 1:
                self._compare(uuid, living, now)

    def _find_new(self, now: float) -> Iterator[Copy]:
        # Without a new process or thread, /proc is not listed.
        last_pid = _read("/proc/loadavg").split()[-1]
        if last_pid != self._last_pid:
            self._last_pid = last_pid
            listed = {int(name) for name in os.listdir("/proc") if name.isdecimal()}
            self._young.update((pid, now + YOUNG_S) for pid in listed - self._known)
            self._known = listed
            for pid in self._young.keys() - listed:
                del self._young[pid]
        for pid in list(self._young):
            settled, copy = _identify(pid)
            if settled or now > self._young[pid]:
                del self._young[pid]
            if copy:
                yield copy

    def _compare(self, uuid: str, living: list[Copy], now: float) -> None:
        living.sort(key=lambda one: one.started)
        for one in living:
            one.sample_cpu_time(now)
        for number, younger in enumerate(living):
            for older in living[:number]:
                why = _find_harm(older, younger)
                if why or (older.pid, younger.pid) in self._overlaps[uuid]:
                    self._note(uuid, older, younger, why)

    def _note(self, uuid: str, older: Copy, younger: Copy, why: str) -> None:
        now = time.time()
        overlap = self._overlaps[uuid].setdefault(
            (older.pid, younger.pid),
            {"why": why, "first_at": now, "pids": [older.pid, younger.pid]},
        )
        overlap["last_at"] = now


def _find_harm(older: Copy, younger: Copy) -> str:
    if not younger.incoming:
        return "a process was started to run the guest while another one existed"
    if older.ran_after(younger.running_since):
        return "the source of a migration ran after its target had run"
    return ""


def _identify(pid: int) -> tuple[bool, Copy | None]:
    """Return whether a process is settled, and the copy if it is the QEMU of an instance."""
    is_old = False
    try:
        _, started = _read_stat(pid)
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started / TICKS_PER_SECOND
        is_old = age > YOUNG_S
        directory, program = os.path.split(os.readlink(f"/proc/{pid}/exe"))
        if not (directory.startswith(INSTALLED) and program.startswith(QEMU)):
            return is_old, None
        words = _read(f"/proc/{pid}/cmdline").split("\0")
    except OSError:
        return is_old, None  # it has ended, is of the kernel, or is of another user
    copy = Copy(pid, started, words)
    if not copy.instance_uuid:
        return False, None  # the kernel names the program before the process has its command line
    return True, copy


def _read_vcpu_times(pid: int) -> Iterator[int]:
    """Yield the CPU time of each vCPU thread, in nanoseconds."""
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            path = f"/proc/{pid}/task/{thread}"
            if _read(f"{path}/comm").startswith("CPU "):
                yield int(_read(f"{path}/schedstat").split()[0])
    except OSError:
        return  # it has just ended


def _read_stat(pid: int) -> tuple[str, int]:
    """Return the state and the start time (clock ticks since the boot) of a process."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _read_home(pid: int) -> str:
    try:
        variables = _read(f"/proc/{pid}/environ").split("\0")
    except OSError:
        return ""
    return next((one[5:] for one in variables if one.startswith("HOME=")), "")


def _option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1] if name in words[:-1] else ""


def _read(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return file.read(65536).decode(errors="replace")


def main() -> None:
    """Sample while instances are watched, and answer orders."""
    sampler = Sampler()
    orders: dict[str, Callable[[str], dict[str, Any]]] = {
        "watch": sampler.watch,
        "report": sampler.report,
        "forget": sampler.forget,
    }
    buffered = b""
    while True:
        ready, _, _ = select.select([0], [], [], POLL_S if sampler.is_needed() else None)
        if not ready:
            sampler.sample()
            continue
        received = os.read(0, 65536)
        if not received:
            return
        *lines, buffered = (buffered + received).split(b"\n")
        for line in lines:
            order = json.loads(line)
            print(json.dumps(orders[order["order"]](order["uuid"])), flush=True)


if __name__ == "__main__":
    sys.exit(main())
