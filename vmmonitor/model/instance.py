# SPDX-License-Identifier: Apache-2.0
"""Define the identity and the last known state of an instance on its host."""

import dataclasses

RUNNING = "running"
PAUSED = "paused"
SHUTOFF = "shutoff"
CRASHED = "crashed"
PMSUSPENDED = "pmsuspended"
#: State of an instance whose QEMU process lives, although libvirt does not run it.
LOST_STATE = "unknown"
#: States of an instance that has a QEMU process on the host, running or paused.
ALIVE = frozenset({RUNNING, PAUSED, CRASHED, PMSUSPENDED})

#: Event type -> state of the instance afterwards. Types that are not listed (a reboot, a watchdog,
#: a finished job) do not change the state.
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
    """The identity of an instance.

    :param uuid: nova's server id, which is also libvirt's domain UUID; 36 characters.
    :param name: nova's display name, otherwise ``hypervisor_name``.
    :param hypervisor_name: the name on the host (``instance-0000002a``).
    :param project_id: owner project; empty without nova, like the following fields.
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
class QemuOwner:
    """Identifies the QEMU processes of the libvirt of a host.

    :param uids: the users that QEMU runs as.
    :param pid_directory: libvirt's directory of pid files; empty if it is not known.
    """

    uids: frozenset[int] = frozenset()
    pid_directory: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The state of one instance on a host at one time.

    :param state: one of the names above, or ``unknown-N``.
    :param reason: libvirt's reason for that state (``ioerror``, ``destroyed``, ``booted``).
    :param run_id: changes at each start of the instance on this host; -1 while it is not running.
    :param definition: libvirt's XML, needed to start it again; empty if unknown. It can have the
        password of a console: it never leaves the host, and is not part of the text in logs.
    :param may_lack_password: the definition was read without the passwords that it may have.
    :param persistent: False if its host removes it when it stops.
    :param autostart: whether its host starts it at boot.
    :param ran_here: True if it was seen running on this host, False if it was only seen while a
        migration brought it here, None if neither was seen.
    """

    instance: Instance
    state: str
    reason: str = ""
    run_id: int = -1
    definition: str = dataclasses.field(default="", repr=False)
    may_lack_password: bool = False
    persistent: bool = True
    autostart: bool = False
    ran_here: bool | None = None
