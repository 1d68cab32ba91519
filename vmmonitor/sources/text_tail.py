# SPDX-License-Identifier: Apache-2.0
"""What captures need, whatever they capture: files' ends, and calls that may hang."""

import concurrent.futures
import os
import stat
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

#: Terminal commands and other control characters, except tabulators and line ends.
CONTROLS = {
    **{number: f"^{chr(number ^ 64)}" for number in (*range(32), 127)},
    **{number: "\ufffd" for number in range(128, 160)},
    ord("\t"): "\t",
    ord("\n"): "\n",
    ord("\r"): "",
}


class CaptureUnavailable(Exception):
    """There is no evidence of this kind, for the reason that is told."""


def tail(path: str, limit: int) -> str:
    """Return the end of a text file: whole lines, safe to print.

    Follows no symbolic link, and reads nothing but a regular file: what is named may have been
    exchanged by somebody else.

    :param limit: greatest size, in bytes of the file.
    :raises Missing: it cannot be read.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise CaptureUnavailable(f"{path} is not a regular file")
            begin = max(0, facts.st_size - limit)
            file.seek(begin)
            data = file.read(limit) or b""
    except (OSError, ValueError) as error:
        raise CaptureUnavailable(
            f"{path} cannot be read: {getattr(error, 'strerror', error)}"
        ) from error
    if begin:
        # Half a line might hide what a secret is called, and so the secret from its masking.
        data = data.partition(b"\n")[2]
    return printable(data)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)


def printable(data: bytes) -> str:
    """Return a text of which no part commands a terminal."""
    return data.decode(errors="replace").translate(CONTROLS)


def fitted(text: str, limit: int) -> bytes:
    """Return the end of a text as UTF-8.

    :param limit: greatest size in bytes.
    """
    return text.encode(errors="replace")[-limit:].decode(errors="ignore").encode()


class Calls:
    """Makes calls that cannot be interrupted, each in a thread that nobody need wait for."""

    def __init__(self, limit: int):
        """Make none yet.

        :param limit: greatest number of calls under way, hung ones among them.
        """
        self._free = threading.BoundedSemaphore(limit)

    def call(self, name: str, function: Callable[[], Result], timeout: float) -> Result:
        """Return what the function returns, or raise what it raises.

        :param name: of the thread.
        :param timeout: seconds; a call that takes longer goes on by itself.
        :raises Missing: it did not end in time, or too many earlier ones have not.
        """
        if not self._free.acquire(blocking=False):
            raise CaptureUnavailable("too many earlier captures hang")
        future: concurrent.futures.Future[Result] = concurrent.futures.Future()

        def run() -> None:
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)
            finally:
                self._free.release()

        threading.Thread(target=run, name=name, daemon=True).start()
        if not concurrent.futures.wait([future], timeout).done:
            raise CaptureUnavailable(f"it was not there within {timeout:g} s")
        return future.result()
