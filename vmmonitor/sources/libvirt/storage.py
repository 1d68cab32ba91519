# SPDX-License-Identifier: Apache-2.0
"""Finds the storage of a disk in the domain XML. Pure; safe for hostile XML and events."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from vmmonitor.model.storage import MAX_STORAGE_TEXT, STORAGE_ATTRIBUTE, storage_of_path
from vmmonitor.sources.libvirt import metadata

#: Attributes of a disk source that name its path, as in libvirt's events.
PATH_ATTRIBUTES = ("file", "dev", "dir", "name", "volume")


def find_storage(definition: str, attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the storage of the disk that an event is about, as an attribute; empty if unknown.

    :param definition: the domain XML of the instance.
    :param attributes: attributes of the event; ``path``, ``device`` or ``target`` name the disk.
        Without them, the result is the storage that all disks share.
    """
    disks = _read_disks(definition)
    path = attributes.get("path")
    names = {attributes.get("target"), attributes.get("device")}
    found = {
        storage
        for target, source, storage in disks
        if (source == path if path else target in names)
    }
    if not found and not path:
        found = {storage for _, _, storage in disks}
    return {STORAGE_ATTRIBUTE: found.pop()} if len(found) == 1 and "" not in found else {}


@functools.lru_cache(maxsize=256)
def _read_disks(definition: str) -> Sequence[tuple[str, str, str]]:
    """Return (target, path, storage) of each disk that holds data."""
    root = metadata.parse_xml(definition)
    if root is None:
        return ()
    disks = []
    for disk in root.iterfind("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        if source is None or disk.get("device", "disk") in ("cdrom", "floppy"):
            continue
        name = "" if target is None else target.get("dev", "")
        path = next(filter(None, map(source.get, PATH_ATTRIBUTES)), "")
        disks.append((name, path, _storage_of_source(source)))
    return tuple(disks)


def _storage_of_source(source: ElementTree.Element) -> str:
    protocol, name = source.get("protocol", ""), source.get("name", "")
    servers = sorted({_server_of(host) for host in source.iterfind("host")} - {""})
    if protocol in ("rbd", "gluster"):
        return f"{protocol}:{name.partition('/')[0]}@{','.join(servers)}"[:MAX_STORAGE_TEXT]
    if protocol:
        return f"{protocol}:{','.join(servers)}"[:MAX_STORAGE_TEXT] if servers else ""
    if source.get("pool"):
        return f"volume:{source.get('pool')}"[:MAX_STORAGE_TEXT]
    return storage_of_path(source.get("file") or source.get("dev") or source.get("dir") or "")


def _server_of(host: ElementTree.Element) -> str:
    if host.get("transport") == "unix":
        return f"unix:{host.get('socket', '')}"
    return ":".join(filter(None, (host.get("name"), host.get("port"))))
