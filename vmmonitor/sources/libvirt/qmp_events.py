# SPDX-License-Identifier: Apache-2.0
"""What QEMU's monitor said, in words. Pure; whatever comes in, something readable goes out."""

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from vmmonitor.model.event import RawEvent
from vmmonitor.model.instance import Instance
from vmmonitor.sources.libvirt import decode, metadata

SOURCE = "qmp"

#: QEMU's name -> the event's type.
TYPES = {
    "BLOCK_IO_ERROR": "block_io_error",
    "GUEST_PANICKED": "guest_panicked",
    "MEMORY_FAILURE": "memory_failure",
}
#: What to ask libvirt for.
PATTERN = f"^({'|'.join(TYPES)})$"

#: Characters; details that are longer are not read. QEMU's own take some hundred.
MAX_DETAILS = 65536
#: Of one event. QEMU's own have up to ten.
MAX_ATTRIBUTES = 64
#: Which source of a disk's in the domain XML a block node belongs to.
NODE = re.compile(r"libvirt-(\d{1,9})-[a-z]+")
#: Where the source of a disk says what it is, as libvirt's own events call it.
PATHS = ("file", "dev", "dir", "name", "volume")


def event(name: str, uuid: str, domain: str, details: Any, occurred_at: int) -> RawEvent:
    """Return what happened.

    :param name: QEMU's name of it; one that is not known becomes the type ``unknown-NAME``.
    :param uuid: the domain's UUID, and so the instance's.
    :param domain: the domain's name.
    :param details: QEMU's JSON text; what is no object becomes the attribute ``details``.
    :param occurred_at: when the callback came; microseconds since the epoch.
    """
    attributes = _attributes(details)
    detail = attributes.pop("action", "")
    if isinstance(attributes.get("flags"), Mapping):
        # As libvirt says it of the same failure.
        flags = attributes["flags"].items()
        attributes["flags"] = [flag.replace("-", "_") for flag, is_set in flags if is_set is True]
    return RawEvent(
        source=SOURCE,
        type=TYPES.get(name, f"unknown-{decode.plain(name)}"),
        detail=detail if isinstance(detail, str) else json.dumps(detail),
        occurred_at=occurred_at,
        instance=Instance(
            uuid=uuid, name=decode.plain(domain), hypervisor_name=decode.plain(domain)
        ),
        attributes=attributes,
    )


def disk(xml: str, node_name: str) -> dict[str, str]:
    """Return what libvirt calls the disk that a block node belongs to; empty if unknown.

    :param xml: the XML of the running domain.
    :param node_name: QEMU's name of the node: ``libvirt-2-format``.
    :returns: ``device`` (as in libvirt's ``io_error``: ``virtio-disk1``), ``target`` (``vdb``)
        and, if its source has one, ``path``.
    """
    node = NODE.fullmatch(node_name)
    root = metadata.parsed(xml) if node else None
    if node is None or root is None:
        return {}
    for element in root.iterfind("devices/disk"):
        for source in element.iter("source"):
            if source.get("index") == node[1]:
                return _disk(element, source)
    return {}


def _disk(element: ElementTree.Element, source: ElementTree.Element) -> dict[str, str]:
    said = {
        "device": _get(element, "alias", "name"),
        "target": _get(element, "target", "dev"),
        "path": next(filter(None, map(source.get, PATHS)), ""),
    }
    return {name: decode.plain(value) for name, value in said.items() if value}


def _get(element: ElementTree.Element, child: str, name: str) -> str:
    found = element.find(child)
    return "" if found is None else found.get(name, "")


def _attributes(details: Any) -> dict[str, Any]:
    said = None
    if isinstance(details, str) and len(details) <= MAX_DETAILS:
        try:
            said = json.loads(details)
        except (ValueError, RecursionError):
            said = None
    if not isinstance(said, Mapping):
        return {"details": decode.plain(details)} if details else {}
    named = [(name.replace("-", "_"), value) for name, value in said.items() if value != ""]
    return decode.plain(dict(named[:MAX_ATTRIBUTES]))
