# SPDX-License-Identifier: Apache-2.0
"""The token of an API without keystone: a secret in a file that only its owner can read."""

import contextlib
import os
import re
import secrets
import stat

from vmmonitor.model.errors import VmmonitorError

_MODE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_TOKEN = re.compile(r"[\x21-\x7e]{16,255}")


def load(path: str) -> str:
    """Return the token in a file, which is created if it does not exist.

    Several processes can create the file at the same time: all of them return the same token.

    :raises vmmonitor.model.errors.VmmonitorError: the file cannot be read or created, other users
        can read it, or it does not contain a token.
    """
    try:
        if not os.path.lexists(path):
            _create(path)
        with open(path, encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read(1024).strip()
    except (OSError, UnicodeError) as error:
        raise VmmonitorError(f"[api] token_file {path}: {error}") from error
    if mode & _OTHERS:
        raise VmmonitorError(
            f"[api] token_file {path}: other users can access it (mode {mode & 0o777:03o}); "
            f"delete it, or set its mode to 600"
        )
    if not _TOKEN.fullmatch(token):
        raise VmmonitorError(
            f"[api] token_file {path}: it must contain one line of 16 to 255 printable ASCII "
            "characters without blanks"
        )
    return token


def _create(path: str) -> None:
    """Create the file with a random token, complete or not at all."""
    os.makedirs(os.path.dirname(path) or ".", mode=0o750, exist_ok=True)
    draft = f"{path}.{secrets.token_hex(8)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(f"{secrets.token_urlsafe(32)}\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)
