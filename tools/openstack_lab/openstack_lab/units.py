# SPDX-License-Identifier: Apache-2.0
"""The lab's processes: each has a name, a record in ``run/NAME.json``, and a log in ``log/``."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from openstack_lab import reaper
from openstack_lab.lab import Lab, LabError, environment

STOP_S = 20.0
#: Number of characters of the log in the error message of a unit that does not start.
LAST_WORDS = 2000
REAPER = "reaper"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """A program, and how to start it.

    ``ports`` must be free before the start; ``user`` is the uid of the process (0: the uid of the
    reaper).
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ports: Sequence[int] = ()
    user: int = 0


def say(text: str) -> None:
    """Print a progress line, with the seconds since the start."""
    print(f"[{time.monotonic() - BEGAN:4.0f}s] {text}", file=sys.stderr, flush=True)


BEGAN = time.monotonic()


def wait(true: Callable[[], Any], timeout: float, what: str) -> None:
    """Call ``true()`` every 0.1 s until it returns a true value.

    :param timeout: seconds.
    :raises LabError: timeout; the message is ``what``.
    """
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise LabError(f"{what} (waited {timeout:g} s)")
        time.sleep(0.1)


def listens(port: int) -> bool:
    """Return whether a process listens on a port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Units:
    """The processes of one lab, by name."""

    def __init__(self, lab: Lab):
        self._lab = lab
        self._run = lab.directory("run")
        self._socket = self._run / "reaper.sock"

    # -- what there is -------------------------------------------------------------------------
    def names(self) -> list[str]:
        """Return the names of all prepared units, the last one first."""
        records = sorted(self._run.glob("*.json"), key=lambda path: path.stat().st_ctime)
        return [path.stem for path in reversed(records)]

    def pid(self, name: str) -> int:
        """Return the pid of a process that runs; 0 if it does not."""
        record = self._record(name)
        pid = record.get("pid", 0)
        return pid if pid and _started(pid) == record["started"] else 0

    def started_at(self, name: str) -> float:
        """Return when a process was started, in seconds since the epoch."""
        return self._record(name)["at"]

    def log(self, name: str) -> pathlib.Path:
        """Return the path of a process' log."""
        return self._lab.directory("log") / f"{name}.log"

    # -- starting ------------------------------------------------------------------------------
    def prepare(self, unit: Unit) -> None:
        """Note how it is started, without starting it."""
        old = self._record(unit.name)
        self._write(unit.name, {**old, **dataclasses.asdict(unit)})

    def start(self, unit: Unit) -> bool:
        """Start a unit unless it runs; return whether it was started.

        :raises LabError: it cannot be executed, or another process uses its port.
        """
        self.prepare(unit)
        return self.start_again(unit.name)

    def start_again(self, name: str) -> bool:
        """Start a prepared unit unless it runs; return whether it was started.

        :raises LabError: it was not prepared, it cannot be executed, or another process uses its
            port.
        """
        record = self._record(name)
        if "argv" not in record:
            raise LabError(f"the lab has no {name!r}; it has: {', '.join(sorted(self.names()))}")
        if self.pid(name):
            return False
        for port in record["ports"]:
            if listens(port):
                raise LabError(
                    f"{name} needs port {port}, on which something else listens"
                    f" (to use other ports: tools/openstack-lab down --wipe, then"
                    f" VMMONITOR_LAB_PORT=N tools/openstack-lab up)"
                )
        answer = self._order(
            argv=record["argv"],
            env={**environment(self._lab), **record["env"]},
            cwd=str(self._lab.path),
            log=str(self.log(name)),
            user=record["user"],
        )
        if "error" in answer:
            raise LabError(f"{name} cannot be started: {answer['error']}")
        pid = answer["pid"]
        self._write(name, {**record, "pid": pid, "started": _started(pid), "at": time.time()})
        return True

    def wait(self, name: str, works: Callable[[], Any], timeout: float) -> None:
        """Wait until a started unit works.

        :param timeout: seconds.
        :raises LabError: it ended, or does not work in time; the message has the end of its log.
        """

        def works_or_ended() -> bool:
            return bool(works()) or not self.pid(name)

        with contextlib.suppress(LabError):
            wait(works_or_ended, timeout, name)
            if works():
                return
        said = self.log(name).read_text(errors="replace")[-LAST_WORDS:]
        what = f"does not work after {timeout:g} s" if self.pid(name) else "ended"
        raise LabError(f"{name} {what}; {self.log(name)} ends with:\n{said}")

    def start_reaper(self) -> None:
        """Start the reaper, the parent of all units, unless it runs."""
        if self.pid(REAPER):
            return
        self._socket.unlink(missing_ok=True)
        with self.log(REAPER).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-S", reaper.__file__, str(self._socket)],
                cwd=self._lab.path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._write(REAPER, {"pid": process.pid, "started": _started(process.pid)})
        wait(self._socket.exists, 30, "the lab's reaper does not start")

    # -- stopping ------------------------------------------------------------------------------
    def stop(self, name: str, number: int = signal.SIGTERM) -> bool:
        """Stop a unit, by force after a timeout; return whether it ran."""
        pid = self.pid(name)
        if not pid:
            return False
        os.kill(pid, number)
        deadline = time.monotonic() + STOP_S
        while self.pid(name) and time.monotonic() < deadline:
            time.sleep(0.05)
        # Remaining processes of its session: workers of an API, a helper of nova.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        wait(lambda: not self.pid(name), STOP_S, f"{name} does not end")
        return True

    def kill(self, name: str) -> bool:
        """Send SIGKILL to a unit and its session; return whether it ran."""
        pid = self.pid(name)
        if pid:
            os.killpg(pid, signal.SIGKILL)
            wait(lambda: not self.pid(name), STOP_S, f"{name} does not end")
        return bool(pid)

    def end(self) -> None:
        """End the reaper, which ends all remaining units."""
        if self.pid(REAPER):
            self._order(end=True)

    # -- records -------------------------------------------------------------------------------
    def _order(self, **order: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self._socket))
            except OSError as error:
                raise LabError("the lab's reaper is gone: tools/openstack-lab up") from error
            with connection.makefile("rw") as stream:
                stream.write(json.dumps(order) + "\n")
                stream.flush()
                return json.loads(stream.readline() or '{"error": "the reaper is gone"}')

    def _record(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self._run / f"{name}.json").read_text())
        except FileNotFoundError:
            return {}

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        path = self._run / f"{name}.json"
        path.with_suffix(".new").write_text(json.dumps(record, indent=1))
        path.with_suffix(".new").rename(path)


def _started(pid: int) -> str:
    """Return when a process was started, in the kernel's ticks; empty if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
