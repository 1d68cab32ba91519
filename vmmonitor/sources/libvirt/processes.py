# SPDX-License-Identifier: Apache-2.0
"""Find the QEMU processes of a libvirt, also those that it does not manage."""

import libvirt

from vmmonitor.model.errors import VmmonitorError
from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt.qemu_owner import read_owner
from vmmonitor.sources.procfs import QemuProcess


class StartUnsafe(VmmonitorError):
    """The instance cannot be started safely"""


def find_process(connection: libvirt.virConnect, instance_uuid: str) -> QemuProcess | None:
    """Return the QEMU process of an instance on this host; None without one.

    :raises libvirt.libvirtError: libvirt is not reachable.
    :raises OSError: ``/proc`` is not available.
    """
    uuid = instance_uuid.lower()
    return procfs.find({uuid}, read_owner(connection)).get(uuid)


def check_no_process(connection: libvirt.virConnect, instance_uuid: str) -> None:
    """Refuse the start of an instance whose QEMU process may live.

    :raises StartUnsafe: it lives, or the processes of this host cannot be seen.
    :raises libvirt.libvirtError: libvirt is not reachable.
    :raises OSError: ``/proc`` is not available.
    """
    obstacle = procfs.find_obstacle()
    if obstacle:
        raise StartUnsafe(f"a QEMU process of the instance may still run on this host: {obstacle}")
    process = find_process(connection, instance_uuid)
    if process:
        raise StartUnsafe(
            "a QEMU process of the instance still runs on this host, although libvirt does not "
            f"run it; a second one would damage its disks (pid {process.pid})"
        )
