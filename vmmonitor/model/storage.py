# SPDX-License-Identifier: Apache-2.0
"""Determine the storage behind a disk error, which several failing instances may share.

The functions do no I/O. libvirt's event contains at most the path of the disk. The agent finds the
storage in the definition of the instance (``sources.libvirt.storage``) and adds it to the event.
"""

import hashlib
import re

from vmmonitor.model.event import Event, RawEvent

#: Attribute that names the storage: ``rbd:POOL@MONITORS``, ``nbd:SERVER``, ``dir:DIRECTORY``.
STORAGE_ATTRIBUTE = "storage"
#: Prefix of a shared cause.
CAUSE_PREFIX = "storage:"
#: Maximum length of a cause in the database.
MAX_CAUSE = 255
#: Maximum number of characters of a path or a name that are examined: Linux's limit for paths.
MAX_STORAGE_TEXT = 4096

#: Types of the events that report a disk error, and (type, detail) of pauses caused by one.
DISK_ERROR_TYPES = frozenset({"io_error", "io_error_reason", "block_io_error"})
DISK_ERROR_PAUSES = frozenset({("lifecycle.suspended", "ioerror"), ("liveness.paused", "ioerror")})

#: Kinds of storage that are local to a host: equal names on two hosts mean different storages.
LOCAL_STORAGE = ("dir:", "volume:", "unix:")
#: Directories that belong to one instance, inside a shared one.
INSTANCE_DIRECTORY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|instance-[0-9a-f]{8}")
#: Mount point of a share of nova and cinder, equal on all hosts: named by the hash of its address.
SHARE_MOUNT = re.compile(r"/mnt/([0-9a-f]{32,64})(?:/|$)")
#: The server in udev's name of an iSCSI disk.
ISCSI_PATH = re.compile(r"/by-path/(?:[^/]*-)?ip-([^/]+?)-iscsi-")


def concerns(event: RawEvent | Event) -> bool:
    """Return whether an event reports a disk error."""
    return event.type in DISK_ERROR_TYPES or (event.type, event.detail) in DISK_ERROR_PAUSES


def shared_cause(event: Event) -> str:
    """Return the cause that the incident of an event may share with others: the failing storage.

    Empty if the event does not report a disk error, or if the storage is unknown.
    """
    if not concerns(event):
        return ""
    storage, path = event.attributes.get(STORAGE_ATTRIBUTE), event.attributes.get("path")
    if not isinstance(storage, str) or not storage:
        storage = storage_of_path(path) if isinstance(path, str) and path.startswith("/") else ""
    if not storage:
        return ""
    is_local = storage.startswith(LOCAL_STORAGE) or ":unix:" in storage
    prefix = f"{CAUSE_PREFIX}{event.host}:" if is_local else CAUSE_PREFIX
    return _shorten(f"{prefix}{storage}")


def storage_of_path(path: str) -> str:
    """Return the storage of a file or device of the host; empty if it is unknown.

    That is the server or the share, if the path contains it, otherwise the directory without the
    directories of the instance.
    """
    path = path[:MAX_STORAGE_TEXT]
    if found := ISCSI_PATH.search(path):
        return f"iscsi:{found[1]}"
    if found := SHARE_MOUNT.search(path):
        return f"mount:{found[1]}"
    directory, _, _ = path.rpartition("/")
    above, _, last = directory.rpartition("/")
    while INSTANCE_DIRECTORY.fullmatch(last):
        directory = above
        above, _, last = directory.rpartition("/")
    return f"dir:{directory}" if directory else ""


def _shorten(cause: str) -> str:
    """Return a cause that fits; different causes stay different."""
    if len(cause) <= MAX_CAUSE:
        return cause
    checksum = hashlib.sha256(cause.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{cause[: MAX_CAUSE - 33]}-{checksum}"
