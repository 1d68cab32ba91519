# SPDX-License-Identifier: Apache-2.0
"""Which storage a disk error comes from: what instances that fail together may have in common.

The agent finds it in the definition of the instance, since libvirt's event tells at most the
path, and adds it to the event. Pure; hostile XML and hostile events harm nothing.
"""

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from vmmonitor.model.event import Event, RawEvent

#: The attribute that names the storage: ``rbd:POOL@MONITORS``, ``nbd:SERVER``, ``dir:DIRECTORY``.
ATTRIBUTE = "storage"
#: What a shared cause begins with.
PREFIX = "storage:"
#: What the database holds of a cause.
MAX_CAUSE = 255

#: The types of events that tell of a disk error, and of a pause because of one.
DISK_ERRORS = frozenset({"io_error", "io_error_reason", "block_io_error"})
PAUSES = frozenset({("lifecycle.suspended", "ioerror"), ("liveness.paused", "ioerror")})

#: Storages that only the own host has: another one of the same name is another one.
LOCAL = ("dir:", "volume:", "unix:")
#: Directories that are an instance's own, in one that it shares.
OWN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|instance-[0-9a-f]{8}")
#: Where nova and cinder mount a share, on every host alike: named by the hash of its address.
MOUNT = re.compile(r"/mnt/([0-9a-f]{32,64})(?:/|$)")
#: The server in the name that udev gives to a disk of it.
ISCSI = re.compile(r"/by-path/(?:[^/]*-)?ip-([^/]+?)-iscsi-")
#: Where the source of a disk says what it is, as libvirt's events call it.
PATHS = ("file", "dev", "dir", "name", "volume")
#: Characters of a path or a name that are looked at; paths of Linux have no more.
MAX_TEXT = 4096


def concerns(event: RawEvent | Event) -> bool:
    """Tell whether an event tells of a disk error."""
    return event.type in DISK_ERRORS or (event.type, event.detail) in PAUSES


def attribute(definition: str, told: Mapping[str, Any]) -> dict[str, str]:
    """Return the storage of the disk that an event is about, as an attribute; empty if unknown.

    :param definition: the domain XML of the instance.
    :param told: the event's attributes; ``path``, ``device`` or ``target`` name the disk. Where
        none does, it is the storage that all disks share.
    """
    disks = _disks(definition)
    path = told.get("path")
    names = {told.get("target"), told.get("device")}
    found = {
        storage
        for target, source, storage in disks
        if (source == path if path else target in names)
    }
    if not found and not path:
        found = {storage for _, _, storage in disks}
    return {ATTRIBUTE: found.pop()} if len(found) == 1 and "" not in found else {}


def shared_cause(event: Event) -> str:
    """Return what the incident that this event opens may have in common with others: the storage
    that fails; empty if the event tells of no disk error, or not of which storage."""
    if not concerns(event):
        return ""
    storage, path = event.attributes.get(ATTRIBUTE), event.attributes.get("path")
    if not isinstance(storage, str) or not storage:
        storage = _of_path(path) if isinstance(path, str) and path.startswith("/") else ""
    if not storage:
        return ""
    is_local = storage.startswith(LOCAL) or ":unix:" in storage
    return _short(f"{PREFIX}{event.host}:{storage}" if is_local else f"{PREFIX}{storage}")


def _short(cause: str) -> str:
    """Return a cause that fits, and is another one for each other cause."""
    if len(cause) <= MAX_CAUSE:
        return cause
    mark = hashlib.sha256(cause.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{cause[: MAX_CAUSE - 33]}-{mark}"


@functools.lru_cache(maxsize=256)
def _disks(definition: str) -> Sequence[tuple[str, str, str]]:
    """Return (target, path, storage) of each disk that holds data."""
    if "<!DOCTYPE" in definition:
        return ()
    try:
        root = ElementTree.fromstring(definition)
    except (ElementTree.ParseError, ValueError):
        return ()
    disks = []
    for disk in root.iterfind("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        if source is None or disk.get("device", "disk") in ("cdrom", "floppy"):
            continue
        name = "" if target is None else target.get("dev", "")
        path = next(filter(None, map(source.get, PATHS)), "")
        disks.append((name, path, _of_source(source)))
    return tuple(disks)


def _of_source(source: ElementTree.Element) -> str:
    protocol, name = source.get("protocol", ""), source.get("name", "")
    servers = sorted({_server(host) for host in source.iterfind("host")} - {""})
    if protocol in ("rbd", "gluster"):
        return f"{protocol}:{name.partition('/')[0]}@{','.join(servers)}"[:MAX_TEXT]
    if protocol:
        return f"{protocol}:{','.join(servers)}"[:MAX_TEXT] if servers else ""
    if source.get("pool"):
        return f"volume:{source.get('pool')}"[:MAX_TEXT]
    return _of_path(source.get("file") or source.get("dev") or source.get("dir") or "")


def _server(host: ElementTree.Element) -> str:
    if host.get("transport") == "unix":
        return f"unix:{host.get('socket', '')}"
    return ":".join(filter(None, (host.get("name"), host.get("port"))))


def _of_path(path: str) -> str:
    """Return the storage of a file or a device of the host: its server or its share where the
    path tells, else its directory, without what is the instance's own."""
    path = path[:MAX_TEXT]
    if found := ISCSI.search(path):
        return f"iscsi:{found[1]}"
    if found := MOUNT.search(path):
        return f"mount:{found[1]}"
    directory, _, _ = path.rpartition("/")
    above, _, last = directory.rpartition("/")
    while OWN.fullmatch(last):
        directory = above
        above, _, last = directory.rpartition("/")
    return f"dir:{directory}" if directory else ""
