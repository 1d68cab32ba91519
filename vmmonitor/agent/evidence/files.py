# SPDX-License-Identifier: Apache-2.0
"""Evidence in a directory: of each event a directory of its own, of bounded size altogether.

    <directory>/<event_id>/{manifest.json, screenshot.png, qemu_log.txt, ...}

A directory gets its name only when everything is in it, so that whatever has one is whole as far
as any death of this process goes; after a power cut it may not be, and is then passed over.
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
#: What has such a name is an event's; what begins so is left of one that was never finished.
NAME = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
UNFINISHED = ".new-"
#: Bytes that a file takes on the disk at least, and a directory as well.
BLOCK = 4096


class EvidenceIncomplete(VmmonitorError):
    """This evidence is not whole"""


class EvidenceFiles:
    """One directory of evidence; safe to use from several threads."""

    def __init__(self, path: str, max_bytes: int):
        """Look what is there; make nothing.

        :param max_bytes: bound of everything that is in it.
        """
        self.path = path
        #: How many events' evidence was deleted to make room.
        self.overflowed = 0
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        #: event_id -> (time in seconds, size in bytes), the oldest first.
        self._entries = collections.OrderedDict(self._found())
        self._size = sum(size for _, size in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def names(self) -> list[str]:
        """Return the ids of the events of which there is evidence, oldest first."""
        with self._lock:
            return list(self._entries)

    def write(self, event_id: str, items: Sequence[Item]) -> None:
        """Keep the evidence of an event, and delete the oldest where there is no room.

        :raises OSError: it cannot be written; nothing is left of it.
        """
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        unfinished = os.path.join(self.path, f"{UNFINISHED}{event_id}")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            os.mkdir(unfinished, 0o700)
            for item in items:
                if item.content:
                    _write(os.path.join(unfinished, evidence.file_name(item.kind)), item.content)
            manifest = {"event_id": event_id, "items": [_fact(item) for item in items]}
            _write(os.path.join(unfinished, MANIFEST), json.dumps(manifest, indent=1).encode())
            self.remove(event_id)
            os.rename(unfinished, self._place(event_id))
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        with self._lock:
            self._entries[event_id] = _measured(self._place(event_id))
            self._size += self._entries[event_id][1]
        self._make_room(event_id)

    def read(self, event_id: str) -> list[Item]:
        """Return the evidence of an event.

        :raises Unreadable: it is gone, or was not written to its end.
        """
        place = self._place(event_id)
        try:
            facts = json.loads(_read(os.path.join(place, MANIFEST)))["items"]
            return [_item(place, fact) for fact in facts]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EvidenceIncomplete(f"the evidence in {place} is not whole: {error}") from error

    def remove(self, event_id: str) -> None:
        """Delete the evidence of an event; nothing happens if there is none."""
        with self._lock:
            _, size = self._entries.pop(event_id, (0, 0))
            self._size -= size
        shutil.rmtree(self._place(event_id), ignore_errors=True)

    def expire(self, before: float) -> int:
        """Delete what was written earlier.

        :param before: seconds since the epoch.
        :returns: of how many events.
        """
        with self._lock:
            old = [name for name, (at, _) in self._entries.items() if at < before]
        for name in old:
            self.remove(name)
        return len(old)

    def _make_room(self, keep: str) -> None:
        while self._size > self._max_bytes:
            with self._lock:
                # The sender may just have had the last one stored, and deleted it.
                oldest = next(iter(self._entries), keep)
            if oldest == keep:
                return
            self.remove(oldest)
            self.overflowed += 1
            LOG.warning("The evidence of event %s was the oldest, and makes room", oldest)

    def _place(self, event_id: str) -> str:
        return os.path.join(self.path, event_id)

    def _found(self) -> list[tuple[str, tuple[float, int]]]:
        found = []
        with contextlib.suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.startswith(UNFINISHED):
                    shutil.rmtree(entry.path, ignore_errors=True)
                elif NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    found.append((entry.name, _measured(entry.path)))
        return sorted(found, key=lambda one: one[1])


def _fact(item: Item) -> dict[str, Any]:
    fact: dict[str, Any] = {"kind": item.kind, "captured_at": item.captured_at}
    if item.content:
        fact |= {
            "file": evidence.file_name(item.kind),
            "size": len(item.content),
            "sha256": item.sha256,
        }
    return fact | ({"message": item.message} if item.message else {})


def _item(place: str, fact: dict[str, Any]) -> Item:
    kind = fact["kind"]
    content = b""
    if "file" in fact:
        # By the kind, not by what the manifest says: only what is here is ever read.
        content = _read(os.path.join(place, evidence.file_name(kind)))
    item = Item(
        kind=kind,
        captured_at=fact["captured_at"],
        content=content,
        message=fact.get("message", ""),
    )
    if content and item.sha256 != fact["sha256"]:
        raise ValueError(f"{kind} is not what was written")
    return item


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)


def _read(path: str) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read()


def _measured(place: str) -> tuple[float, int]:
    """Return when a directory was written, and what it takes of the disk in bytes."""
    try:
        with os.scandir(place) as entries:
            sizes = [entry.stat(follow_symlinks=False).st_size for entry in entries]
        blocks = 1 + sum(-(-size // BLOCK) for size in sizes)
        return os.stat(place).st_mtime, blocks * BLOCK
    except OSError:
        return 0.0, 0
