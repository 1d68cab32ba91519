# SPDX-License-Identifier: Apache-2.0
"""Evidence in files: one directory for each event, with a manifest, bounded in total size.

A directory is written under a temporary name and renamed when it is complete.
"""

import collections
import contextlib
import json
import os
import re
import shutil
import threading
from collections.abc import Sequence
from typing import Any

from oslo_log import log

from vmmonitor.model import evidence
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.model.evidence import Item

LOG = log.getLogger(__name__)

MANIFEST = "manifest.json"
#: Name of a complete directory (the id of the event), and prefix of an incomplete one.
EVENT_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
INCOMPLETE_PREFIX = ".new-"
#: Minimum disk usage, in bytes, of a file or a directory.
BLOCK_SIZE = 4096


class EvidenceIncomplete(VmmonitorError):
    """The evidence is missing or incomplete"""


class EvidenceFiles:
    """One directory of evidence. Thread-safe."""

    def __init__(self, path: str, max_bytes: int):
        """Read the directory, if it exists.

        :param max_bytes: maximum size of all evidence in it.
        """
        self.path = path
        #: Number of events whose evidence was deleted to make room.
        self.overflowed = 0
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        #: Event id -> (time in seconds, size in bytes), oldest first.
        self._entries = collections.OrderedDict(self._scan())
        self._size = sum(size for _, size in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def names(self) -> list[str]:
        """Return the ids of the events that have evidence, oldest first."""
        with self._lock:
            return list(self._entries)

    def write(self, event_id: str, items: Sequence[Item]) -> None:
        """Write the evidence of an event; delete the oldest evidence if there is no room.

        :raises OSError: it could not be written; no part of it remains.
        """
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        incomplete = os.path.join(self.path, f"{INCOMPLETE_PREFIX}{event_id}")
        shutil.rmtree(incomplete, ignore_errors=True)
        try:
            os.mkdir(incomplete, 0o700)
            for item in items:
                if item.content:
                    _write(os.path.join(incomplete, evidence.file_name(item.kind)), item.content)
            manifest = {"event_id": event_id, "items": [_write_entry(item) for item in items]}
            _write(os.path.join(incomplete, MANIFEST), json.dumps(manifest, indent=1).encode())
            self.remove(event_id)
            os.rename(incomplete, self._directory(event_id))
        except OSError:
            shutil.rmtree(incomplete, ignore_errors=True)
            raise
        with self._lock:
            self._entries[event_id] = _measure(self._directory(event_id))
            self._size += self._entries[event_id][1]
        self._make_room(event_id)

    def read(self, event_id: str) -> list[Item]:
        """Return the evidence of an event.

        :raises EvidenceIncomplete: it is missing, or differs from its manifest.
        """
        directory = self._directory(event_id)
        try:
            entries = json.loads(_read(os.path.join(directory, MANIFEST)))["items"]
            return [_read_item(directory, entry) for entry in entries]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EvidenceIncomplete(f"incomplete evidence in {directory}: {error}") from error

    def remove(self, event_id: str) -> None:
        """Delete the evidence of an event, if there is any."""
        with self._lock:
            _, size = self._entries.pop(event_id, (0, 0))
            self._size -= size
        shutil.rmtree(self._directory(event_id), ignore_errors=True)

    def expire(self, before: float) -> int:
        """Delete the evidence that was written before a time.

        :param before: seconds since the epoch.
        :returns: number of events whose evidence was deleted.
        """
        with self._lock:
            old = [name for name, (at, _) in self._entries.items() if at < before]
        for name in old:
            self.remove(name)
        return len(old)

    def _make_room(self, newest: str) -> None:
        while self._size > self._max_bytes:
            with self._lock:
                # The sender may have deleted the last entry in the meantime.
                oldest = next(iter(self._entries), newest)
            if oldest == newest:
                return
            self.remove(oldest)
            self.overflowed += 1
            LOG.warning("Deleted evidence of event %s, the oldest, to make room", oldest)

    def _directory(self, event_id: str) -> str:
        return os.path.join(self.path, event_id)

    def _scan(self) -> list[tuple[str, tuple[float, int]]]:
        found = []
        with contextlib.suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.startswith(INCOMPLETE_PREFIX):
                    shutil.rmtree(entry.path, ignore_errors=True)
                elif EVENT_ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    found.append((entry.name, _measure(entry.path)))
        return sorted(found, key=lambda item: item[1])


def _write_entry(item: Item) -> dict[str, Any]:
    """Return the manifest entry of an item."""
    entry: dict[str, Any] = {"kind": item.kind, "captured_at": item.captured_at}
    if item.content:
        entry |= {
            "file": evidence.file_name(item.kind),
            "size": len(item.content),
            "sha256": item.sha256,
        }
    return entry | ({"message": item.message} if item.message else {})


def _read_item(directory: str, entry: dict[str, Any]) -> Item:
    kind = entry["kind"]
    content = b""
    if "file" in entry:
        # Named by the kind, not by the manifest, so that no file outside the directory is read.
        content = _read(os.path.join(directory, evidence.file_name(kind)))
    item = Item(
        kind=kind,
        captured_at=entry["captured_at"],
        content=content,
        message=entry.get("message", ""),
    )
    if content and item.sha256 != entry["sha256"]:
        raise ValueError(f"the checksum of {kind} does not match the manifest")
    return item


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)


def _read(path: str) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read()


def _measure(directory: str) -> tuple[float, int]:
    """Return the time of the last write, and the disk usage in bytes, of a directory."""
    try:
        with os.scandir(directory) as entries:
            sizes = [entry.stat(follow_symlinks=False).st_size for entry in entries]
        blocks = 1 + sum(-(-size // BLOCK_SIZE) for size in sizes)
        return os.stat(directory).st_mtime, blocks * BLOCK_SIZE
    except OSError:
        return 0.0, 0
