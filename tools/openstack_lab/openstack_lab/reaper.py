# SPDX-License-Identifier: Apache-2.0
"""The parent of all that the lab starts: ``reaper.py SOCKET``.

Takes one JSON order a connection, {argv, env, cwd, log, user}, starts it in a session of its own
and answers {pid} or {error}. On {"end": true} it kills every process below it and ends.

Why: libvirtd daemonizes QEMU, so a dead QEMU is a child of init. Where init reaps only now and
then, libvirt sees the zombie, takes QEMU to be alive still, and its event comes 1 to 2 s late.
"""

import json
import os
import socket
import subprocess
import sys
from typing import Any

from vmmonitor.testing.reaper import adopt_orphans, kill_descendants


def reap(*_: object) -> None:
    """Take the exit status of every child that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def start(order: dict[str, Any]) -> dict[str, Any]:
    """Start a program; returns its pid."""
    user = {"user": order["user"], "group": order["user"], "extra_groups": []}
    with open(order["log"], "ab") as log:
        try:
            process = subprocess.Popen(
                order["argv"],
                env=order["env"],
                cwd=order["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **(user if order["user"] else {}),
            )
        except OSError as error:
            return {"error": f"{order['argv'][0]}: {error}"}
    process.returncode = 0  # reap() does it
    return {"pid": process.pid}


def main(path: str) -> None:
    """Serve orders until the one to end."""
    adopt_orphans(reap)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        os.chmod(path, 0o600)
        server.listen(8)
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rw") as stream:
                order = json.loads(stream.readline() or "{}")
                if order.get("end"):
                    kill_descendants()
                answer = start(order) if "argv" in order else {}
                stream.write(json.dumps(answer) + "\n")
            if order.get("end"):
                return


if __name__ == "__main__":
    main(sys.argv[1])
