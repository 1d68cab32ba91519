# SPDX-License-Identifier: Apache-2.0
"""The rows of what somebody wants: none of them may open an incident."""

from vmmonitor.tests.catalogue import acts
from vmmonitor.tests.catalogue.rows import EXITED, FAULTS, Row

SUSPENDED = "lifecycle.suspended/paused"
RESUMED = "lifecycle.resumed/unpaused"

WORK = (
    Row(
        name="computes",
        happens="The guest computes for ever",
        act=acts.ordered("C"),
        sees=(),
    ),
    Row(
        name="idles",
        happens="The guest does nothing but wait",
        act=lambda scene: None,
        sees=(),
    ),
)

POWER = (
    Row(
        name="destroy",
        happens="An operator destroys the instance; nova powers it off",
        act=acts.called("destroy"),
        sees=("lifecycle.shutdown/host", "lifecycle.stopped/destroyed"),
        besides=EXITED,
    ),
    Row(
        name="guest power off",
        happens="The guest powers itself off",
        act=acts.ordered("S"),
        sees=("lifecycle.shutdown/guest", "lifecycle.stopped/shutdown"),
        besides=EXITED,
    ),
    Row(
        name="guest reset",
        happens="The guest resets itself",
        act=acts.ordered("B"),
        sees=("reboot",),
    ),
    Row(
        name="reset",
        happens="An operator resets the instance",
        act=acts.called("reset"),
        sees=("reboot",),
    ),
    Row(
        name="suspend",
        happens="An operator pauses the instance",
        act=acts.called("suspend"),
        sees=(SUSPENDED,),
    ),
    Row(
        name="suspend and resume",
        happens="An operator pauses the instance and lets it go on",
        act=acts.suspended_and_resumed,
        sees=(SUSPENDED, RESUMED),
    ),
    Row(
        name="destroy of a paused one",
        happens="An operator pauses the instance, then destroys it",
        act=lambda scene: [acts.called(name)(scene) for name in ("suspend", "destroy")] and None,
        sees=(SUSPENDED, "lifecycle.shutdown/host", "lifecycle.stopped/destroyed"),
        besides=EXITED,
    ),
)

SAVES = (
    Row(
        name="save and restore",
        happens="The instance is saved to a file and restored",
        act=acts.saved_and_restored,
        sees=(
            SUSPENDED,
            "job_completed/save",
            "lifecycle.stopped/saved",
            "lifecycle.started/restored",
            "lifecycle.resumed/from_snapshot",
        ),
        besides=EXITED,
    ),
    Row(
        name="managed save and start",
        happens="libvirt saves the instance, which is then started",
        act=acts.save_managed_and_started,
        guest={"defined": True},
        sees=(
            SUSPENDED,
            "job_completed/save",
            "lifecycle.stopped/saved",
            "lifecycle.started/restored",
            "lifecycle.resumed/from_snapshot",
        ),
        besides=EXITED,
    ),
    Row(
        name="core dump",
        happens="An operator dumps the instance's memory",
        act=acts.dumped,
        sees=(SUSPENDED, "job_completed/dump", RESUMED),
    ),
    Row(
        name="snapshot",
        happens="A snapshot is made, with the memory",
        act=acts.snapshot_made,
        guest={"defined": True, "boot_format": "qcow2"},
        sees=(SUSPENDED, RESUMED),
    ),
    Row(
        name="snapshot revert",
        happens="The instance is put back to a snapshot",
        act=acts.snapshot_reverted,
        guest={"defined": True, "boot_format": "qcow2"},
        sees=(
            SUSPENDED,
            RESUMED,
            "lifecycle.stopped/from_snapshot",
            "lifecycle.started/from_snapshot",
            "lifecycle.resumed/from_snapshot",
            "lifecycle.defined/from_snapshot",
        ),
        besides=EXITED,
    ),
)

CHANGES = (
    Row(
        name="disk snapshot",
        happens="A snapshot of a disk is made",
        act=acts.disk_snapshot_made,
        disk=acts.plain,
        sees=(),
    ),
    Row(
        name="block pull",
        happens="A disk's backing file is pulled into it",
        act=acts.disk_pulled,
        disk=acts.plain,
        sees=("block_job/completed", "block_job_2/completed"),
    ),
    Row(
        name="block copy",
        happens="A disk is copied, and the instance goes on with the copy",
        act=acts.disk_copied,
        disk=acts.plain,
        sees=("block_job/completed", "block_job_2/completed"),
    ),
    Row(
        name="detach",
        happens="A disk is detached",
        act=acts.device_detached,
        disk=acts.plain,
        sees=("reboot", "device_removed"),
    ),
    Row(
        name="define",
        happens="A running instance is defined",
        act=acts.defined,
        sees=("lifecycle.defined/added",),
    ),
    Row(
        name="undefine",
        happens="A running instance is undefined",
        act=acts.called("undefine"),
        guest={"defined": True},
        sees=("lifecycle.undefined/removed",),
    ),
)

HOSTS = (
    Row(
        name="host reboots",
        happens="The whole host shuts down and comes back",
        act=acts.host_rebooted,
        on="node-3",
        sees=("lifecycle.shutdown/host", "lifecycle.stopped/shutdown"),
        besides=EXITED,
    ),
)

MIGRATIONS = (
    Row(
        name="migration",
        happens="The instance is migrated live",
        act=acts.migrated,
        sees=(
            "lifecycle.suspended/migrated",
            "lifecycle.stopped/migrated",
            "job_completed/migration_out",
        ),
        target_sees=("lifecycle.started/migrated", "lifecycle.resumed/migrated"),
        besides=EXITED,
    ),
    Row(
        name="migration fails",
        happens="A live migration fails, and the instance goes on where it was",
        act=acts.migrated_in_vain,
        sees=(),
        target_sees=("lifecycle.started/migrated", "lifecycle.stopped/failed"),
        perhaps=EXITED,  # if the process that waited for it was there for long enough to be seen
    ),
    Row(
        name="migration refused",
        happens="The target host refuses a live migration",
        act=acts.migration_refused,
        sees=(),
    ),
)

PLANNED = (*WORK, *POWER, *SAVES, *CHANGES, *HOSTS, *MIGRATIONS)
ROWS = (*FAULTS, *PLANNED)
