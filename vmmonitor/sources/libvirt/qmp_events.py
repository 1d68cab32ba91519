# SPDX-License-Identifier: Apache-2.0
"""Converts events of QEMU's monitor to raw events. Pure; any input yields a readable event."""

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from vmmonitor.model.event import RawEvent
from vmmonitor.model.instance import Instance
from vmmonitor.sources.libvirt import decode, metadata
from vmmonitor.sources.libvirt.storage import PATH_ATTRIBUTES

QMP_SOURCE = "qmp"

#: QEMU's name of an event -> its type.
QEMU_EVENT_TYPES = {
    "BLOCK_IO_ERROR": "block_io_error",
    "GUEST_PANICKED": "guest_panicked",
    "MEMORY_FAILURE": "memory_failure",
}
#: Regular expression of the events to subscribe to.
SUBSCRIPTION = f"^({'|'.join(QEMU_EVENT_TYPES)})$"

#: Maximum length of the JSON details; longer ones are not read. QEMU's have some hundred
#: characters.
MAX_DETAILS = 65536
#: Maximum number of attributes of one event; QEMU's have up to ten.
MAX_EVENT_ATTRIBUTES = 64
#: Name of a block node; the number is the index of a disk source in the domain XML.
NODE_NAME = re.compile(r"libvirt-(\d{1,9})-[a-z]+")


def decode_monitor_event(
    name: str, uuid: str, domain: str, details: Any, occurred_at: int
) -> RawEvent:
    """Return the event of a callback.

    :param name: QEMU's name of the event; an unknown one becomes the type ``unknown-NAME``.
    :param uuid: UUID of the domain and of the instance.
    :param domain: name of the domain.
    :param details: QEMU's JSON text; a text that is not an object becomes the attribute
        ``details``.
    :param occurred_at: time of the callback; microseconds since the epoch.
    """
    attributes = _parse_details(details)
    detail = attributes.pop("action", "")
    if isinstance(attributes.get("flags"), Mapping):
        # In the form of libvirt's event of the same failure.
        flags = attributes["flags"].items()
        attributes["flags"] = [flag.replace("-", "_") for flag, is_set in flags if is_set is True]
    return RawEvent(
        source=QMP_SOURCE,
        type=QEMU_EVENT_TYPES.get(name, f"unknown-{decode.to_plain_value(name)}"),
        detail=detail if isinstance(detail, str) else json.dumps(detail),
        occurred_at=occurred_at,
        instance=Instance(
            uuid=uuid,
            name=decode.to_plain_value(domain),
            hypervisor_name=decode.to_plain_value(domain),
        ),
        attributes=attributes,
    )


def find_disk(xml: str, node_name: str) -> dict[str, str]:
    """Return libvirt's names of the disk that a block node belongs to; empty if unknown.

    :param xml: XML of the running domain.
    :param node_name: QEMU's name of the node (``libvirt-2-format``).
    :returns: ``device`` (``virtio-disk1``, as in libvirt's ``io_error``), ``target`` (``vdb``)
        and ``path``, if the source has one.
    """
    node = NODE_NAME.fullmatch(node_name)
    root = metadata.parse_xml(xml) if node else None
    if node is None or root is None:
        return {}
    for element in root.iterfind("devices/disk"):
        for source in element.iter("source"):
            if source.get("index") == node[1]:
                return _describe_disk(element, source)
    return {}


def _describe_disk(element: ElementTree.Element, source: ElementTree.Element) -> dict[str, str]:
    names = {
        "device": _get(element, "alias", "name"),
        "target": _get(element, "target", "dev"),
        "path": next(filter(None, map(source.get, PATH_ATTRIBUTES)), ""),
    }
    return {name: decode.to_plain_value(value) for name, value in names.items() if value}


def _get(element: ElementTree.Element, child: str, name: str) -> str:
    found = element.find(child)
    return "" if found is None else found.get(name, "")


def _parse_details(details: Any) -> dict[str, Any]:
    parsed = None
    if isinstance(details, str) and len(details) <= MAX_DETAILS:
        try:
            parsed = json.loads(details)
        except (ValueError, RecursionError):
            parsed = None
    if not isinstance(parsed, Mapping):
        return {"details": decode.to_plain_value(details)} if details else {}
    items = [(name.replace("-", "_"), value) for name, value in parsed.items() if value != ""]
    return decode.to_plain_value(dict(items[:MAX_EVENT_ATTRIBUTES]))
