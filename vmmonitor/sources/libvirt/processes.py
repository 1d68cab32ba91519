# SPDX-License-Identifier: Apache-2.0
"""Find the QEMU processes of a libvirt, also those that it does not manage."""

import dataclasses
import time
from collections.abc import Mapping

import libvirt

from vmmonitor.model.errors import VmmonitorError
from vmmonitor.model.instance import QemuOwner
from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt.qemu_owner import read_owner
from vmmonitor.sources.procfs import QemuProcess

#: Obstacle if libvirt runs instances, and none of their processes is found.
OTHER_NAMESPACE = (
    "no running instance of libvirt has a QEMU process that the agent can see: does the agent "
    "run in a container with its own process namespace?"
)
#: Delays, in seconds, before each look. libvirt lists an instance as running for a moment after
#: its process was killed.
LOOK_DELAYS = (0.0, 0.3, 0.6)
#: Maximum number of running instances that show that processes are visible.
MAX_WITNESSES = 8


class StartUnsafe(VmmonitorError):
    """The instance cannot be started safely"""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProcessSurvey:
    """The QEMU processes of libvirt at one moment.

    :param processes: UUID of an instance -> its process.
    :param obstacle: why processes may be missing; empty if all are visible.
    """

    owner: QemuOwner
    processes: Mapping[str, QemuProcess]
    obstacle: str


def survey(connection: libvirt.virConnect, instance_uuid: str = "") -> ProcessSurvey:
    """Return the QEMU processes of libvirt.

    :param instance_uuid: examine only the processes of this instance, and of a few that run, which
        is much faster on a host with many instances; empty for all.
    :raises libvirt.libvirtError: libvirt is not reachable.
    :raises OSError: ``/proc`` is not available.
    """
    owner = read_owner(connection)
    obstacle = procfs.find_obstacle()
    processes: Mapping[str, QemuProcess] = {}
    for delay in LOOK_DELAYS:
        time.sleep(delay)
        running = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        witnesses = {found.UUIDString() for found in running[:MAX_WITNESSES]}
        wanted = {instance_uuid.lower(), *witnesses} if instance_uuid else None
        processes = procfs.find(wanted, owner)
        # libvirt's test driver runs its domains without a process, and has no pid files.
        is_complete = not running or any(found.UUIDString() in processes for found in running)
        if obstacle or is_complete or not owner.pid_directory:
            return ProcessSurvey(owner=owner, processes=processes, obstacle=obstacle)
    return ProcessSurvey(owner=owner, processes=processes, obstacle=OTHER_NAMESPACE)


def check_no_process(connection: libvirt.virConnect, instance_uuid: str) -> QemuOwner:
    """Refuse the start of an instance whose QEMU process may live.

    :return: identifies the processes of libvirt, for ``check_process_ended``.
    :raises StartUnsafe: it lives, or the processes of this host cannot be seen.
    :raises libvirt.libvirtError: libvirt is not reachable.
    :raises OSError: ``/proc`` is not available.
    """
    found = survey(connection, instance_uuid)
    if found.obstacle:
        raise StartUnsafe(
            f"a QEMU process of the instance may still run on this host: {found.obstacle}"
        )
    check_process_ended(found.owner, instance_uuid)
    return found.owner


def check_process_ended(owner: QemuOwner, instance_uuid: str) -> None:
    """Refuse the start of an instance whose QEMU process lives.

    :raises StartUnsafe: it lives.
    :raises OSError: ``/proc`` is not available.
    """
    uuid = instance_uuid.lower()
    process = procfs.find({uuid}, owner).get(uuid)
    if process:
        raise StartUnsafe(
            "a QEMU process of the instance still runs on this host, although libvirt does not "
            f"run it; a second one would damage its disks (pid {process.pid})"
        )
