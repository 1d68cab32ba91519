# SPDX-License-Identifier: Apache-2.0
"""Fail a test if two copies of one instance ran at the same time, on any host.

The counting is independent of vmmonitor and of libvirt: a process of its own samples ``/proc``
every 20 ms. ``copy_sampler`` has the rule.
"""

import atexit
import dataclasses
import functools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import fixtures

from vmmonitor.testing import copy_sampler

END_S = 10.0


class TwoCopies(AssertionError):
    """Two copies of an instance ran at the same time."""


@dataclasses.dataclass(frozen=True)
class CopyReport:
    """The QEMU processes of an instance since it is watched.

    :param overlaps: the pairs of processes that were two copies; see ``copy_sampler``.
    :param processes: all its processes, oldest first.
    :param longest_gap: longest interval of the samples, in seconds; a shorter overlap may have
        been missed.
    """

    instance_uuid: str
    overlaps: Sequence[Mapping[str, Any]]
    processes: Sequence[Mapping[str, Any]]
    longest_gap: float

    def check(self) -> None:
        """Return if there was one copy at most.

        :raises TwoCopies: there were two; the message has their processes.
        """
        if self.overlaps:
            raise TwoCopies(self.describe())

    def describe(self) -> str:
        """Return the overlaps and the processes as text."""
        lines = [f"instance {self.instance_uuid}: {len(self.overlaps)} pairs of copies"]
        lines += [
            f"  pids {one['pids']} from {_clock(one['first_at'])} to {_clock(one['last_at'])}: "
            f"{one['why']}"
            for one in self.overlaps
        ]
        lines.append(f"processes (longest interval of the samples: {self.longest_gap:.3f} s):")
        lines += [_describe(one) for one in self.processes]
        return "\n".join(lines)


class CopyCounter:
    """Counts the QEMU processes of instances in a separate process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", copy_sampler.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The pid of the process that counts."""
        return self._process.pid

    def watch(self, instance_uuid: str) -> None:
        """Count the processes of an instance from now on."""
        self._order("watch", instance_uuid)

    def report(self, instance_uuid: str) -> CopyReport:
        """Return the processes of a watched instance until now."""
        return CopyReport(instance_uuid, **self._order("report", instance_uuid))

    def forget(self, instance_uuid: str) -> CopyReport:
        """Return the processes of an instance until now, and stop counting them."""
        return CopyReport(instance_uuid, **self._order("forget", instance_uuid))

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=END_S)

    def _order(self, order: str, instance_uuid: str) -> dict[str, Any]:
        with self._lock:
            assert self._process.stdin and self._process.stdout
            line = json.dumps({"order": order, "uuid": instance_uuid.lower()})
            self._process.stdin.write(line + "\n")
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the sampler of QEMU processes has ended")
        found: dict[str, Any] = json.loads(answer)
        return found


@functools.cache
def counter() -> CopyCounter:
    """Return the counter of this process, started at the first call."""
    made = CopyCounter()
    atexit.register(made.close)
    return made


class OneCopy(fixtures.Fixture):
    """Counts the processes of an instance; the clean-up fails if two copies ran.

    :param instance_uuid: the instance.
    """

    def __init__(self, instance_uuid: str):
        super().__init__()
        self.instance_uuid = instance_uuid

    def _setUp(self) -> None:
        counter().watch(self.instance_uuid)
        self.addCleanup(self._check)

    def _check(self) -> None:
        counter().forget(self.instance_uuid).check()


def _describe(process: Mapping[str, Any]) -> str:
    until = _clock(process["ended_at"]) if process["ended_at"] else "now"
    kind = "incoming" if process["incoming"] else "started"
    return (
        f"  pid {process['pid']} {kind} in {process['home']}, {_clock(process['seen_at'])} to "
        f"{until}: {process['command']}"
    )


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(moment)) + f"{moment % 1:.3f}"[1:]
