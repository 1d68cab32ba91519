# SPDX-License-Identifier: Apache-2.0
"""Read and derive the keys that sign the messages between agents and engines.

Engines hold master keys. The key of a host is derived from a master key, the name of the host and
the id of the master key, so that an engine has the keys of all hosts, and an agent only its own.

A key file has one line per key: its id and its hexadecimal digits, the newest key first. Lines
that start with ``#`` are comments.
"""

import hmac
import os
import re
import stat
from collections.abc import Mapping
from typing import Protocol

from vmmonitor.model.errors import VmmonitorError

#: Length of each key, in bytes.
KEY_BYTES = 32
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")


class InvalidKeyFile(VmmonitorError):
    """The key file is invalid"""


class KeySource(Protocol):
    """Finds the keys of hosts."""

    def find(self, host: str, key_id: str) -> bytes | None:
        """Return the key of a host; None if it is not known."""

    def of_host(self, host: str) -> Mapping[str, bytes]:
        """Return key id -> key of a host, the newest first."""

    def reload(self) -> None:
        """Read the key file again.

        :raises InvalidKeyFile: it is invalid; the keys in use do not change.
        """


def derive_host_key(master: bytes, host: str, key_id: str) -> bytes:
    """Return the key of a host."""
    return hmac.digest(master, f"{host}|{key_id}".encode(), "sha256")


def format_key(key_id: str, key: bytes) -> str:
    """Return the line of a key file."""
    return f"{key_id} {key.hex()}"


class MasterKeys:
    """The keys of all hosts, derived from the master keys of a file."""

    def __init__(self, path: str):
        """Read the file.

        :raises InvalidKeyFile: it is invalid.
        """
        self._path = path
        self.reload()

    def reload(self) -> None:
        """Read the file again.

        :raises InvalidKeyFile: it is invalid; the keys in use do not change.
        """
        self._masters = read_keys(self._path)

    @property
    def newest_id(self) -> str:
        """The id of the newest master key."""
        return next(iter(self._masters))

    def find(self, host: str, key_id: str) -> bytes | None:
        """Return the key of a host; None if the id is not the id of a master key."""
        master = self._masters.get(key_id)
        return derive_host_key(master, host, key_id) if master else None

    def of_host(self, host: str) -> Mapping[str, bytes]:
        """Return key id -> key of a host, the newest first."""
        return {
            key_id: derive_host_key(master, host, key_id)
            for key_id, master in self._masters.items()
        }


class HostKeys:
    """The keys of this host."""

    def __init__(self, path: str, host: str):
        """Read the file.

        :raises InvalidKeyFile: it is invalid.
        """
        self._path = path
        self._host = host
        self.reload()

    def reload(self) -> None:
        """Read the file again.

        :raises InvalidKeyFile: it is invalid; the keys in use do not change.
        """
        self._keys = read_keys(self._path)

    def find(self, host: str, key_id: str) -> bytes | None:
        """Return a key of this host; None if it has another id, or is that of another host."""
        return self._keys.get(key_id) if host == self._host else None

    def of_host(self, host: str) -> Mapping[str, bytes]:
        """Return key id -> key, the newest first; nothing for another host."""
        return self._keys if host == self._host else {}


def read_keys(path: str, required: bool = True) -> dict[str, bytes]:
    """Return key id -> key of a key file, in the order of its lines.

    :param required: whether the file must contain a key.
    :raises InvalidKeyFile: it cannot be read, other users can read it, or a line is invalid.
    """
    try:
        with open(path, encoding="ascii") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidKeyFile(f"cannot read the key file {path}: {error}") from error
    if mode & 0o077:
        raise InvalidKeyFile(f"the mode of the key file {path} is {mode:04o}, it must be 0600")
    keys: dict[str, bytes] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            key_id, key = _parse_line(line, f"{path}:{number}")
            if key_id in keys:
                raise InvalidKeyFile(f"{path}:{number}: the key id {key_id!r} is not unique")
            keys[key_id] = key
    if required and not keys:
        raise InvalidKeyFile(f"the key file {path} does not contain a key")
    return keys


def _parse_line(line: str, place: str) -> tuple[str, bytes]:
    """Return (key id, key) of a line; an error does not contain the key."""
    key_id, _, digits = line.strip().partition(" ")
    if not _KEY_ID.fullmatch(key_id):
        raise InvalidKeyFile(
            f"{place}: a key id must be 1 to 32 letters, digits, dots, hyphens or underscores"
        )
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise InvalidKeyFile(f"{place}: a key must be {2 * KEY_BYTES} hexadecimal digits")
    return key_id, key
