# SPDX-License-Identifier: Apache-2.0
"""List the domains of libvirt together with the QEMU processes of the host."""

import dataclasses
import time
from collections.abc import Mapping

import libvirt
from oslo_log import log

from vmmonitor.model.event import SourceSnapshot
from vmmonitor.model.instance import ALIVE, QemuOwner, Seen
from vmmonitor.sources import procfs
from vmmonitor.sources.libvirt import decode, domain
from vmmonitor.sources.libvirt.definitions import DefinitionReader
from vmmonitor.sources.libvirt.processes import ProcessSurvey, survey
from vmmonitor.sources.libvirt.qemu_owner import guess_owner

LOG = log.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DomainListing:
    """Every domain at one moment, and the QEMU processes just after it.

    :param started_at: start of the listing; microseconds since the epoch.
    :param processes: UUID -> pid; None if processes may be hidden.
    """

    started_at: int
    seen: tuple[Seen, ...]
    owner: QemuOwner
    processes: Mapping[str, int] | None

    @property
    def has_unmanaged(self) -> bool:
        """True if an instance has a QEMU process that libvirt does not manage."""
        managed = {seen.instance.uuid for seen in self.seen if seen.state in ALIVE}
        return any(uuid not in managed for uuid in self.processes or {})

    def snapshot(self, why: str) -> SourceSnapshot:
        """Return the listing as an observation.

        :param why: as in ``SourceSnapshot``.
        """
        since_boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        return SourceSnapshot(
            source=decode.LIBVIRT_SOURCE,
            started_at=self.started_at,
            why=why,
            seen=self.seen,
            owner=self.owner,
            processes=self.processes,
            booted_at=time.time_ns() // 1000 - since_boot,
        )


def list_domains(connection: libvirt.virConnect, definitions: DefinitionReader) -> DomainListing:
    """Return every domain, running or not, and the QEMU processes of libvirt.

    :param definitions: completes the definitions.
    :raises libvirt.libvirtError: libvirt is not reachable.
    """
    started_at = time.time_ns() // 1000
    seen = tuple(definitions.complete(each) for each in domain.examine_all(connection))
    try:
        found = survey(connection)
    except OSError as error:
        LOG.warning("Cannot read the processes of this host: %s", error)
        owner = guess_owner(connection.getURI())
        return DomainListing(started_at=started_at, seen=seen, owner=owner, processes=None)
    seen = _examine_again(connection, definitions, seen, found)
    processes = {uuid: each.pid for uuid, each in found.processes.items() if procfs.is_alive(each)}
    # libvirt's test driver has no processes.
    is_complete = not found.obstacle and bool(found.owner.pid_directory)
    return DomainListing(
        started_at=started_at,
        seen=seen,
        owner=found.owner,
        processes=processes if is_complete else None,
    )


def _examine_again(
    connection: libvirt.virConnect,
    definitions: DefinitionReader,
    seen: tuple[Seen, ...],
    found: ProcessSurvey,
) -> tuple[Seen, ...]:
    """Return a listing with the instances that were started while it was made."""
    listed = {each.instance.uuid: each for each in seen}
    for uuid in found.processes:
        if uuid not in listed or listed[uuid].state not in ALIVE:
            now = domain.find(connection, uuid)
            if now:
                listed[uuid] = definitions.complete(now)
    return tuple(listed.values())
