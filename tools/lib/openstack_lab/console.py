# SPDX-License-Identifier: Apache-2.0
"""A guest's serial console, on which it takes orders: see vmmonitor/tests/fixtures/guest.asm."""

import os
import select
import tty
import xml.etree.ElementTree as xml

import libvirt

from openstack_lab.lab import LabError

ANSWER_S = 3.0
NOTHING = "no answer"


def order(uri: str, uuid: str, letters: str) -> list[str]:
    """Give a guest one order after another; returns its answers.

    :param uri: libvirt of its host.
    :param letters: one for each order.
    :raises LabError: there is no such guest, or it has no console: it does not run.
    """
    path = _console(uri, uuid)
    port = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        tty.setraw(port)
        _read(port, 0)  # what it said before
        return [_one(port, letter) for letter in letters]
    finally:
        os.close(port)


def _one(port: int, letter: str) -> str:
    os.write(port, letter.encode())
    return _read(port, ANSWER_S) or NOTHING


def _read(port: int, timeout: float) -> str:
    ready, _, _ = select.select([port], [], [], timeout)
    return os.read(port, 100).decode(errors="replace") if ready else ""


def _console(uri: str, uuid: str) -> str:
    try:
        connection = libvirt.openReadOnly(uri)
        described = connection.lookupByUUIDString(uuid).XMLDesc()
        connection.close()
    except libvirt.libvirtError as error:
        raise LabError(f"libvirt at {uri} does not have it: {error}") from error
    found = xml.fromstring(described).find("./devices/console/source")
    if found is None or not found.get("path"):
        raise LabError("it has no console: it does not run")
    return str(found.get("path"))
