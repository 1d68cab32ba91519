# SPDX-License-Identifier: Apache-2.0
"""The end of a log file as text that is safe to print."""

import os
import stat

#: Control characters, except tabulators and line ends -> visible form.
CONTROL_CHARACTERS = {
    **{number: f"^{chr(number ^ 64)}" for number in (*range(32), 127)},
    **{number: "\ufffd" for number in range(128, 160)},
    ord("\t"): "\t",
    ord("\n"): "\n",
    ord("\r"): "",
}


class CaptureUnavailable(Exception):
    """Evidence of one kind does not exist; the message is the reason."""


def read_tail(path: str, limit: int) -> str:
    """Return the end of a text file: whole lines, safe to print.

    Follows no symbolic link and reads only regular files, because another user may have replaced
    the file.

    :param limit: maximum number of bytes to read.
    :raises CaptureUnavailable: the file cannot be read.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise CaptureUnavailable(f"{path} is not a regular file")
            begin = max(0, status.st_size - limit)
            file.seek(begin)
            data = file.read(limit) or b""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise CaptureUnavailable(f"{path} cannot be read: {reason}") from error
    if begin:
        # Half a line may lack the name of a secret, so that masking would miss its value.
        data = data.partition(b"\n")[2]
    return escape_controls(data)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)


def escape_controls(data: bytes) -> str:
    """Return the text with its terminal control sequences made visible."""
    return data.decode(errors="replace").translate(CONTROL_CHARACTERS)


def encode_tail(text: str, limit: int) -> bytes:
    """Return the end of a text as UTF-8.

    :param limit: maximum number of bytes.
    """
    return text.encode(errors="replace")[-limit:].decode(errors="ignore").encode()
