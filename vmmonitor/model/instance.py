# SPDX-License-Identifier: Apache-2.0
"""A virtual machine as its host knows it: who it is, and what it was last seen doing."""

import dataclasses

RUNNING = "running"
PAUSED = "paused"
SHUTOFF = "shutoff"
CRASHED = "crashed"
PMSUSPENDED = "pmsuspended"
#: The states in which a guest exists on the host (a process runs, or is paused).
ALIVE = frozenset({RUNNING, PAUSED, CRASHED, PMSUSPENDED})

#: What an event says of its instance's state from then on. Types that are not listed
#: (a reboot, a watchdog, a finished job) leave the state as it was.
STATE_AFTER = {
    "lifecycle.started": RUNNING,
    "lifecycle.resumed": RUNNING,
    "lifecycle.suspended": PAUSED,
    "lifecycle.stopped": SHUTOFF,
    "lifecycle.crashed": CRASHED,
    "lifecycle.pmsuspended": PMSUSPENDED,
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """Who an instance is.

    :param uuid: nova's server id, which is also libvirt's domain UUID; 36 characters.
    :param name: the name its owner gave it (nova's display name), else ``hypervisor_name``.
    :param hypervisor_name: the name on the host (``instance-0000002a``).
    :param project_id: owner project, empty without nova. So are the following ones.
    """

    uuid: str
    name: str = ""
    hypervisor_name: str = ""
    project_id: str = ""
    project_name: str = ""
    user_id: str = ""
    user_name: str = ""
    flavor: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What one look at a host says of one instance.

    :param state: one of the names above, or ``unknown-N``.
    :param reason: libvirt's reason for that state (``ioerror``, ``destroyed``, ``booted``).
    :param run_id: changes whenever the instance is started anew on this host; -1 while it is
        not running.
    :param definition: what is needed to start it again (libvirt's XML), empty if unknown.
    :param persistent: False for one that its host forgets when it stops.
    :param autostart: whether its host is to start it when it starts itself.
    """

    instance: Instance
    state: str
    reason: str = ""
    run_id: int = -1
    definition: str = ""
    persistent: bool = True
    autostart: bool = False
