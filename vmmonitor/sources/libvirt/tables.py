# SPDX-License-Identifier: Apache-2.0
"""Names for the numbers in libvirt's API. Data only.

The tables do not use the constants of the installed libvirt binding, because libvirtd may be newer
than the binding. The names are libvirt's own, in lower case.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from vmmonitor.model import instance

EnumNames = Sequence[str]

#: Name of a callback argument that is a mapping, whose items become attributes.
ITEMS = "*"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CallbackSpec:
    """The callback of one kind of event.

    :param name: type of the event.
    :param arguments: names of the callback's arguments, in order.
    :param detail: name of the attribute that becomes the event's detail; empty for none.
    :param enums: attribute name -> names of its enum, by number.
    """

    name: str
    arguments: Sequence[str] = ()
    detail: str = ""
    enums: Mapping[str, EnumNames] = dataclasses.field(default_factory=dict)


# -- enums -------------------------------------------------------------------------------------
LIFECYCLE: Sequence[tuple[str, EnumNames]] = (
    ("defined", ("added", "updated", "renamed", "from_snapshot")),
    ("undefined", ("removed", "renamed")),
    ("started", ("booted", "migrated", "restored", "from_snapshot", "wakeup")),
    (
        "suspended",
        (
            "paused",
            "migrated",
            "ioerror",
            "watchdog",
            "restored",
            "from_snapshot",
            "api_error",
            "postcopy",
            "postcopy_failed",
        ),
    ),
    ("resumed", ("unpaused", "migrated", "from_snapshot", "postcopy", "postcopy_failed")),
    (
        "stopped",
        ("shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from_snapshot"),
    ),
    ("shutdown", ("finished", "guest", "host")),
    ("pmsuspended", ("memory", "disk")),
    ("crashed", ("panicked", "crashloaded")),
)

WATCHDOG_ACTION = ("none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi")
IO_ERROR_ACTION = ("none", "pause", "report")
GRAPHICS_PHASE = ("connect", "initialize", "disconnect")
GRAPHICS_FAMILY = ("ipv4", "ipv6", "unix")
BLOCK_JOB_TYPE = ("unknown", "pull", "copy", "commit", "active_commit", "backup")
BLOCK_JOB_STATUS = ("completed", "failed", "canceled", "ready")
DISK_CHANGE_REASON = ("missing_on_start", "drop_missing_on_start")
TRAY_CHANGE = ("open", "close")
#: States of the guest agent's channel, and of any other channel.
CHANNEL_STATE = ("unknown-0", "connected", "disconnected")
CHANNEL_REASON = ("unknown", "domain_started", "channel")
METADATA_TYPE = ("description", "title", "element")
MEMORY_RECIPIENT = ("hypervisor", "guest")
MEMORY_ACTION = ("ignore", "inject", "fatal", "reset")
JOB_OPERATION = (
    "unknown",
    "start",
    "save",
    "restore",
    "migration_in",
    "migration_out",
    "snapshot",
    "snapshot_revert",
    "dump",
    "backup",
    "snapshot_delete",
)

#: Attribute name -> names of its bits, lowest first.
BIT_NAMES: Mapping[str, EnumNames] = {"flags": ("action_required", "recursive")}

# -- event ids ---------------------------------------------------------------------------------
LIFECYCLE_ID = 0
CONTROL_ERROR_ID = 7

_IO_ERROR = {"action": IO_ERROR_ACTION}
_BLOCK_JOB = {"job": BLOCK_JOB_TYPE, "status": BLOCK_JOB_STATUS}
_CHANNEL = {"state": CHANNEL_STATE, "reason": CHANNEL_REASON}

#: Callbacks by event id.
CALLBACKS: Sequence[CallbackSpec] = (
    # decode takes type and detail from LIFECYCLE.
    CallbackSpec(name="lifecycle", arguments=("event", "detail")),
    CallbackSpec(name="reboot"),
    CallbackSpec(name="rtc_change", arguments=("offset",)),
    CallbackSpec(
        name="watchdog",
        arguments=("action",),
        detail="action",
        enums={"action": WATCHDOG_ACTION},
    ),
    CallbackSpec(
        name="io_error", arguments=("path", "device", "action"), detail="action", enums=_IO_ERROR
    ),
    CallbackSpec(
        name="graphics",
        arguments=("phase", "local", "remote", "auth_scheme", "subject"),
        detail="phase",
        enums={"phase": GRAPHICS_PHASE, "family": GRAPHICS_FAMILY},
    ),
    CallbackSpec(
        name="io_error_reason",
        arguments=("path", "device", "action", "reason"),
        detail="action",
        enums=_IO_ERROR,
    ),
    CallbackSpec(name="control_error"),
    CallbackSpec(
        name="block_job", arguments=("path", "job", "status"), detail="status", enums=_BLOCK_JOB
    ),
    CallbackSpec(
        name="disk_change",
        arguments=("old_path", "new_path", "device", "reason"),
        detail="reason",
        enums={"reason": DISK_CHANGE_REASON},
    ),
    CallbackSpec(
        name="tray_change",
        arguments=("device", "reason"),
        detail="reason",
        enums={"reason": TRAY_CHANGE},
    ),
    CallbackSpec(name="pmwakeup", arguments=("reason",)),
    CallbackSpec(name="pmsuspend", arguments=("reason",)),
    CallbackSpec(name="balloon_change", arguments=("actual_kib",)),
    CallbackSpec(name="pmsuspend_disk", arguments=("reason",)),
    CallbackSpec(name="device_removed", arguments=("device",)),
    CallbackSpec(
        name="block_job_2", arguments=("disk", "job", "status"), detail="status", enums=_BLOCK_JOB
    ),
    CallbackSpec(name="tunable", arguments=(ITEMS,)),
    CallbackSpec(
        name="agent_lifecycle", arguments=("state", "reason"), detail="state", enums=_CHANNEL
    ),
    CallbackSpec(name="device_added", arguments=("device",)),
    CallbackSpec(name="migration_iteration", arguments=("iteration",)),
    CallbackSpec(
        name="job_completed",
        arguments=(ITEMS,),
        detail="operation",
        enums={"operation": JOB_OPERATION},
    ),
    CallbackSpec(name="device_removal_failed", arguments=("device",)),
    CallbackSpec(
        name="metadata_change",
        arguments=("metadata", "uri"),
        detail="metadata",
        enums={"metadata": METADATA_TYPE},
    ),
    CallbackSpec(name="block_threshold", arguments=("disk", "path", "threshold", "excess")),
    CallbackSpec(
        name="memory_failure",
        arguments=("recipient", "action", "flags"),
        detail="action",
        enums={"recipient": MEMORY_RECIPIENT, "action": MEMORY_ACTION},
    ),
    CallbackSpec(name="memory_device_size_change", arguments=("device", "size_kib")),
    CallbackSpec(name="nic_mac_change", arguments=("device", "old_mac", "new_mac")),
    CallbackSpec(name="vcpu_removed", arguments=("vcpu",)),
    CallbackSpec(
        name="channel_lifecycle", arguments=("state", "reason"), detail="state", enums=_CHANNEL
    ),
)

# -- domain states -----------------------------------------------------------------------------
#: By number: (state, names of its reasons). Xen reports an idle guest as blocked on a resource. A
#: guest that is shutting down still runs; its stop will be an event.
DOMAIN_STATES: Sequence[tuple[str, EnumNames]] = (
    ("unknown-0", ("unknown",)),
    (
        instance.RUNNING,
        (
            "unknown",
            "booted",
            "migrated",
            "restored",
            "from_snapshot",
            "unpaused",
            "migration_canceled",
            "save_canceled",
            "wakeup",
            "crashed",
            "postcopy",
            "postcopy_failed",
        ),
    ),
    (instance.RUNNING, ("blocked",)),
    (
        instance.PAUSED,
        (
            "unknown",
            "user",
            "migration",
            "save",
            "dump",
            "ioerror",
            "watchdog",
            "from_snapshot",
            "shutting_down",
            "snapshot",
            "crashed",
            "starting_up",
            "postcopy",
            "postcopy_failed",
            "api_error",
        ),
    ),
    (instance.RUNNING, ("shutting_down", "shutting_down")),
    (
        instance.SHUTOFF,
        (
            "unknown",
            "shutdown",
            "destroyed",
            "crashed",
            "migrated",
            "saved",
            "failed",
            "from_snapshot",
            "daemon",
        ),
    ),
    (instance.CRASHED, ("unknown", "panicked")),
    (instance.PMSUSPENDED, ("unknown",)),
)

#: Reasons of a closed connection, by number.
CLOSE_REASON = (
    "libvirt closed the connection after an error",
    "libvirt closed the connection",
    "libvirt stopped answering",
    "the connection was closed here",
)

#: virDomainDiskErrorCode, by number.
DISK_ERROR_CODES = ("none", "unspecified", "no_space")
