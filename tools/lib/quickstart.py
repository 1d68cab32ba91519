# SPDX-License-Identifier: Apache-2.0
"""Kill the QEMU process of a real guest, and show how vmmonitor recovers the guest.

``tools/quickstart`` runs this script after the installation.
"""

import argparse
import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

# Ctrl-C ends the process during the imports: there is nothing to clean up yet.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import fixtures  # noqa: E402
import libvirt  # noqa: E402

from vmmonitor.rules import defaults  # noqa: E402
from vmmonitor.testing.guest import Guest, NovaMetadata  # noqa: E402
from vmmonitor.testing.hypervisor import Hypervisor  # noqa: E402

START_S = 60.0
BACK_S = 60.0
STOP_S = 30.0
LOG_LINES = 20

CONFIG = """\
[DEFAULT]
state_path = {path}/state

[libvirt]
uri = {uri}
# A session libvirtd has no read-only socket.
read_only = false

[api]
# Any free one: the commands use the socket.
bind_port = 0
"""

USAGE = """\

It keeps running until you say: tools/quickstart --stop

  export PATH={scripts}:$PATH
  export VMMONITOR_ENDPOINT={endpoint}
  vmmonitor event list --follow
  vmmonitor incident list
  vmmonitor incident show {incident}

Kill the guest again, and see it come back:

  kill -9 $(cat {pid_file})

Ask its libvirt:

  virsh -c '{uri}' list --all

The log of vmmonitor-standalone:  {path}/standalone.log
Its configuration:                {path}/vmmonitor.conf
"""


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failed(Exception):
    """The demonstration failed."""


ERRORS = (
    Failed,
    OSError,
    RuntimeError,
    subprocess.SubprocessError,
    libvirt.libvirtError,
    fixtures.MultipleExceptions,
)


class Progress:
    """Progress lines on standard error; standard output contains only the result."""

    def __init__(self, seconds: int):
        """Start the clock.

        :param seconds: duration of the preceding installation.
        """
        self._began = time.monotonic() - seconds

    def __call__(self, text: str) -> None:
        """Print a line in the format of ``say`` in ``prepare.sh``."""
        print(f"[{time.monotonic() - self._began:4.0f}s] {text}", file=sys.stderr, flush=True)


class Standalone(fixtures.Fixture):
    """A ``vmmonitor-standalone`` process that watches a hypervisor, and the CLI that queries it.

    :ivar endpoint: URL of its API.
    """

    def __init__(self, hypervisor: Hypervisor):
        """Store the hypervisor, without starting the process.

        :param hypervisor: the hypervisor to watch; files are created in its directory.
        """
        super().__init__()
        self._hypervisor = hypervisor
        self._scripts = pathlib.Path(sysconfig.get_path("scripts"))
        self._log = pathlib.Path(hypervisor.path, "standalone.log")

    def _setUp(self) -> None:
        path = self._hypervisor.path
        config = pathlib.Path(path, "vmmonitor.conf")
        config.write_text(CONFIG.format(path=path, uri=self._hypervisor.uri))
        # A vmmonitor installed on this machine must not have an effect: neither its rules ...
        for rules in (defaults.EVENT_FILTERS, defaults.RECOVERY_POLICIES):
            shutil.copy(defaults.path(rules), path)
        # ... nor its directory of further configuration files.
        further = pathlib.Path(path, "conf.d")
        further.mkdir()
        # The process also ends if this one is killed and cannot clean up.
        command = ["setpriv", "--pdeathsig", "TERM", str(self._scripts / "vmmonitor-standalone")]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--config-file", str(config), "--config-dir", str(further)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.addCleanup(self._stop)
        self.endpoint = self.wait_for(self._address, START_S, "its API does not answer")
        self.wait_for(self._sees, START_S, "its agent does not see libvirt")

    def wait_for(self, found: Callable[[], Any], timeout: float, what: str) -> Any:
        """Call ``found()`` until it returns a true value, and return that.

        :param timeout: seconds.
        :param what: the error message after a timeout.
        :raises Failed: timeout, or vmmonitor-standalone ended.
        """
        deadline = time.monotonic() + timeout
        while not (result := found()):
            if (code := self._process.poll()) is not None:
                raise Failed(f"vmmonitor-standalone ended with {code}{self.last_lines()}")
            if time.monotonic() > deadline:
                raise Failed(f"{what} (waited {timeout:g} s){self.last_lines()}")
            time.sleep(0.05)
        return result

    def last_lines(self) -> str:
        """Return the last lines of the log, with a heading."""
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(["\nThe last lines of vmmonitor-standalone's log:", *lines])

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a CLI command that queries it."""
        return [str(self._scripts / "vmmonitor"), "--endpoint", self.endpoint, *arguments]

    def ask(self, *arguments: str) -> Any:
        """Run a CLI command, and return the value of its JSON output.

        :raises Failed: the command did not succeed.
        """
        command = self.command(*arguments, "-f", "json")
        asked = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
        if asked.returncode != 0:
            raise Failed(f"vmmonitor {shlex.join(arguments)}: {asked.stderr}{self.last_lines()}")
        return json.loads(asked.stdout)

    def _address(self) -> str | None:
        found = re.search(r"Serving the API on (unix://\S+)", self._log.read_text())
        return found and found[1]

    def _sees(self) -> bool:
        return any(agent["state"] == "up" for agent in self.ask("agent", "list"))

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Kept:
    """The file that describes a quickstart that was left running.

    The running process holds a lock on it, which the kernel releases when the process ends.
    """

    def __init__(self, path: pathlib.Path):
        """Open the file.

        :raises OSError: the file belongs to another user.
        """
        self._file = path.open("a+")

    def take(self) -> bool:
        """Lock the file for this process; return False if another process holds the lock."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.tell("It is still starting.")
        return True

    def tell(self, usage: str) -> None:
        """Store the pid of this process, and how to use its programs."""
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n{usage}")
        self._file.flush()

    def told(self) -> tuple[int, str]:
        """Return the pid of the running process, and how to use its programs."""
        self._file.seek(0)
        return int(self._file.readline()), self._file.read()


@contextlib.contextmanager
def lab(say: Progress) -> Iterator[tuple[Guest, Standalone]]:
    """Yield a guest on its own hypervisor, and vmmonitor; stop and remove them afterwards."""
    with contextlib.ExitStack() as parts:
        say("starting a libvirtd of its own, as an unprivileged user")
        hypervisor = parts.enter_context(Hypervisor())
        parts.callback(say, "cleaning up")
        say("booting a guest of 512 bytes")
        nova = NovaMetadata(name="quickstart")
        guest = parts.enter_context(Guest(hypervisor, "instance-00000001", nova=nova))
        say("starting vmmonitor-standalone")
        yield guest, parts.enter_context(Standalone(hypervisor))


def kill(guest: Guest, standalone: Standalone, say: Progress) -> tuple[int, dict[str, Any]]:
    """Kill the guest's QEMU, and wait until the guest answers and the incident is closed.

    :returns: the time of the kill, in microseconds since the epoch, and the incident from the JSON
        output of the CLI.
    :raises Failed: the guest did not run again, or its incident was not closed in time.
    """
    before = guest.pid()
    say(f"killing the guest's qemu, process {before}, with SIGKILL")
    killed_at = time.time_ns() // 1000
    guest.kill(signal.SIGKILL)

    def answers() -> bool:
        return guest.ping(1) and guest.pid() not in (None, before)

    standalone.wait_for(answers, BACK_S, "the guest did not come back")
    took = (time.time_ns() // 1000 - killed_at) / 1000
    say(f"the guest answers on its serial port again, {took:.0f} ms after the kill")
    say("asking vmmonitor what happened")
    closed = standalone.wait_for(
        lambda: standalone.ask("incident", "list", "--closed"), BACK_S, "no incident is over"
    )
    return killed_at, standalone.ask("incident", "show", closed[0]["incident_id"])


def measured(killed_at: int, incident: dict[str, Any]) -> dict[str, Any]:
    """Return the object that ``--json`` prints.

    :param killed_at: microseconds since the epoch.
    :param incident: the incident, from the JSON output of the CLI.
    """

    def since_kill(moment: str) -> float:
        at = datetime.datetime.fromisoformat(moment).timestamp()
        return round(at * 1000 - killed_at / 1000, 1)

    killed = datetime.datetime.fromtimestamp(killed_at / 1e6, datetime.UTC)
    return {
        "killed_at": killed.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "callback_ms": since_kill(incident["opened_at"]),
        "stored_ms": since_kill(min(event["stored_at"] for event in incident["events"])),
        "recovery_called_ms": since_kill(min(one["called_at"] for one in incident["recoveries"])),
        "running_again_ms": since_kill(incident["running_at"]),
        "guest_answers": True,
    }


def show(standalone: Standalone, incident_id: str) -> None:
    """Run the commands of the CLI that show the timeline and the lists."""
    for words in (
        ("incident", "show", incident_id),
        ("event", "list"),
        ("incident", "list"),
        ("recovery", "list"),
        ("agent", "list"),
    ):
        print(f"\n$ vmmonitor {shlex.join(words)}", flush=True)
        # In its own session: only this process handles Ctrl-C.
        command = standalone.command(*words)
        subprocess.run(command, check=True, stderr=sys.stderr, start_new_session=True)


def run(say: Progress, as_json: bool, keep: Callable[[str], None] | None = None) -> None:
    """Run the demonstration once.

    :param keep: called at the end with the usage of the running programs; they are stopped and
        removed when it returns.
    :raises Failed: the guest did not run again.
    """
    with lab(say) as (guest, standalone):
        killed_at, incident = kill(guest, standalone, say)
        if as_json:
            print(json.dumps(measured(killed_at, incident)), flush=True)
        else:
            show(standalone, incident["incident_id"])
        if keep:
            hypervisor = guest.hypervisor
            usage = USAGE.format(
                scripts=sysconfig.get_path("scripts"),
                endpoint=standalone.endpoint,
                incident=incident["incident_id"],
                pid_file=hypervisor.pid_file(guest.name),
                uri=hypervisor.uri,
                path=hypervisor.path,
            )
            print(usage, file=sys.stderr if as_json else sys.stdout, flush=True)
            keep(usage)


def run_and_leave(say: Progress, as_json: bool, kept: Kept) -> int:
    """Run the demonstration in a new process, which is left running.

    :returns: the exit code, at the end of the demonstration.
    :raises Failed: in the new process: another quickstart was left running already.
    """
    shown, tell_shown = os.pipe()
    if child := os.fork():
        os.close(tell_shown)
        for number in STOPS:
            signal.signal(number, lambda number, _frame: os.kill(child, number))
        return 0 if os.read(shown, 1) else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.setsid()
    if not kept.take():
        pid, usage = kept.told()
        raise Failed(f"process {pid} was left running already.\n{usage}")

    # The programs started here keep running: with our standard error open, its reader would wait
    # for their end.
    nowhere = os.open(os.devnull, os.O_RDWR)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(nowhere, 2)

    def stay(usage: str) -> None:
        kept.tell(usage)
        for stream in (0, 1, sys.stderr.fileno()):
            os.dup2(nowhere, stream)
        os.write(tell_shown, b".")
        os.close(tell_shown)
        signal.pause()

    run(say, as_json, stay)
    return 0


def stop(say: Progress, kept: Kept) -> int:
    """Stop the quickstart that was left running, and wait until it has cleaned up.

    :returns: the exit code.
    :raises Failed: it does not end.
    :raises OSError: the process belongs to another user.
    """
    if kept.take():
        say("nothing is left running")
        return 0
    pid, _ = kept.told()
    say(f"stopping process {pid}")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 2 * STOP_S
    while not kept.take():
        if time.monotonic() > deadline:
            raise Failed(f"process {pid} does not end; its files are those of 'lsof -p {pid}'")
        time.sleep(0.05)
    say("stopped and cleaned up")
    return 0


def interrupted(number: int, _frame: FrameType | None) -> NoReturn:
    """Exit with all clean-ups; further signals are ignored meanwhile."""
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def first_cause(error: BaseException) -> str:
    """Return the message of the first error, with its notes."""
    while isinstance(error, fixtures.MultipleExceptions):
        error = error.args[0][1]
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def main() -> int:
    """Run the command, and return its exit code: 0 only if the guest runs again."""
    parser = argparse.ArgumentParser(prog="tools/quickstart")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--keep", action="store_true", help="leave it running")
    parser.add_argument("--stop", action="store_true", help="stop what was left running")
    parser.add_argument(
        "--seconds", type=int, default=0, help="how long the installation took (default: 0)"
    )
    parser.add_argument(
        "--kept",
        type=pathlib.Path,
        default=pathlib.Path(sys.prefix, "quickstart-kept"),
        metavar="FILE",
        help="where it is written down that it was left running (default: in the venv)",
    )
    args = parser.parse_args()
    say = Progress(args.seconds)
    for number in STOPS:
        signal.signal(number, interrupted)
    try:
        if args.stop:
            return stop(say, Kept(args.kept))
        if args.keep:
            return run_and_leave(say, args.json, Kept(args.kept))
        run(say, args.json)
    except ERRORS as error:
        print(f"quickstart: {first_cause(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
