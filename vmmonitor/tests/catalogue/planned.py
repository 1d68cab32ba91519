# SPDX-License-Identifier: Apache-2.0
"""The scenarios of planned operations and normal work. They must not open an incident."""

from vmmonitor.tests.catalogue import acts
from vmmonitor.tests.catalogue.rows import EXITED, FAULTS, Row

SUSPENDED = "lifecycle.suspended/paused"
RESUMED = "lifecycle.resumed/unpaused"

WORK = (
    Row(
        name="busy guest",
        description="The guest computes without a pause",
        act=acts.order_guest("C"),
        events=(),
    ),
    Row(
        name="idle guest",
        description="The guest is idle",
        act=lambda scene: None,
        events=(),
    ),
)

POWER = (
    Row(
        name="destroy",
        description="An operator destroys the instance; nova powers it off",
        act=acts.call_domain("destroy"),
        events=("lifecycle.shutdown/host", "lifecycle.stopped/destroyed"),
        other_events=EXITED,
    ),
    Row(
        name="guest power off",
        description="The guest powers itself off",
        act=acts.order_guest("S"),
        events=("lifecycle.shutdown/guest", "lifecycle.stopped/shutdown"),
        other_events=EXITED,
    ),
    Row(
        name="guest reset",
        description="The guest resets itself",
        act=acts.order_guest("B"),
        events=("reboot",),
    ),
    Row(
        name="reset",
        description="An operator resets the instance",
        act=acts.call_domain("reset"),
        events=("reboot",),
    ),
    Row(
        name="suspend",
        description="An operator pauses the instance",
        act=acts.call_domain("suspend"),
        events=(SUSPENDED,),
    ),
    Row(
        name="suspend and resume",
        description="An operator pauses and resumes the instance",
        act=acts.suspend_and_resume,
        events=(SUSPENDED, RESUMED),
    ),
    Row(
        name="destroy while paused",
        description="An operator pauses the instance, then destroys it",
        act=acts.pause_and_destroy,
        events=(SUSPENDED, "lifecycle.shutdown/host", "lifecycle.stopped/destroyed"),
        other_events=EXITED,
    ),
)

SAVES = (
    Row(
        name="save and restore",
        description="The instance is saved to a file and restored",
        act=acts.save_and_restore,
        events=(
            SUSPENDED,
            "job_completed/save",
            "lifecycle.stopped/saved",
            "lifecycle.started/restored",
            "lifecycle.resumed/from_snapshot",
        ),
        other_events=EXITED,
    ),
    Row(
        name="managed save and start",
        description="libvirt saves the instance, which is then started",
        act=acts.managed_save_and_start,
        guest={"defined": True},
        events=(
            SUSPENDED,
            "job_completed/save",
            "lifecycle.stopped/saved",
            "lifecycle.started/restored",
            "lifecycle.resumed/from_snapshot",
        ),
        other_events=EXITED,
    ),
    Row(
        name="core dump",
        description="An operator dumps the instance's memory",
        act=acts.dump_memory,
        events=(SUSPENDED, "job_completed/dump", RESUMED),
    ),
    Row(
        name="snapshot",
        description="A snapshot with the memory is created",
        act=acts.make_snapshot,
        guest={"defined": True, "boot_format": "qcow2"},
        events=(SUSPENDED, RESUMED),
    ),
    Row(
        name="snapshot revert",
        description="The instance is reverted to a snapshot",
        act=acts.revert_to_snapshot,
        guest={"defined": True, "boot_format": "qcow2"},
        events=(
            SUSPENDED,
            RESUMED,
            "lifecycle.stopped/from_snapshot",
            "lifecycle.started/from_snapshot",
            "lifecycle.resumed/from_snapshot",
            "lifecycle.defined/from_snapshot",
        ),
        other_events=EXITED,
    ),
)

CHANGES = (
    Row(
        name="disk snapshot",
        description="A snapshot of a disk is created",
        act=acts.make_disk_snapshot,
        disk=acts.make_plain_disk,
        events=(),
    ),
    Row(
        name="block pull",
        description="A disk's backing file is pulled into it",
        act=acts.pull_disk,
        disk=acts.make_plain_disk,
        events=("block_job/completed", "block_job_2/completed"),
    ),
    Row(
        name="block copy",
        description="A disk is copied, and the instance continues with the copy",
        act=acts.copy_disk,
        disk=acts.make_plain_disk,
        events=("block_job/completed", "block_job_2/completed"),
    ),
    Row(
        name="detach",
        description="A disk is detached",
        act=acts.detach_disk,
        disk=acts.make_plain_disk,
        events=("reboot", "device_removed"),
    ),
    Row(
        name="define",
        description="A running instance is defined",
        act=acts.define_domain,
        events=("lifecycle.defined/added",),
    ),
    Row(
        name="undefine",
        description="A running instance is undefined",
        act=acts.call_domain("undefine"),
        guest={"defined": True},
        events=("lifecycle.undefined/removed",),
    ),
)

HOSTS = (
    Row(
        name="host reboots",
        description="The host shuts down and starts again",
        act=acts.reboot_host,
        on="node-3",
        events=("lifecycle.shutdown/host", "lifecycle.stopped/shutdown"),
        other_events=EXITED,
    ),
)

MIGRATIONS = (
    Row(
        name="migration",
        description="The instance is migrated live",
        act=acts.migrate,
        events=(
            "lifecycle.suspended/migrated",
            "lifecycle.stopped/migrated",
            "job_completed/migration_out",
        ),
        target_events=("lifecycle.started/migrated", "lifecycle.resumed/migrated"),
        other_events=EXITED,
    ),
    Row(
        name="migration fails",
        description="A live migration fails, and the instance continues on its old host",
        act=acts.fail_migration,
        events=(),
        target_events=("lifecycle.started/migrated", "lifecycle.stopped/failed"),
        # The exit only if the receiving process lived long enough to be monitored, the pause only
        # if a listing found it.
        optional_events=(*EXITED, "lifecycle.suspended/migrated"),
    ),
    Row(
        name="migration fails after agent start",
        description=(
            "The agent of the target host starts during a live migration, which then fails"
        ),
        act=acts.start_agent_and_fail_migration,
        target="node-4",
        events=(),
        target_events=("lifecycle.stopped/failed",),
        optional_events=EXITED,  # only if the process was monitored before it ended
    ),
    Row(
        name="migration refused",
        description="The target host refuses a live migration",
        act=acts.attempt_refused_migration,
        events=(),
    ),
)

PLANNED = (*WORK, *POWER, *SAVES, *CHANGES, *HOSTS, *MIGRATIONS)
ROWS = (*FAULTS, *PLANNED)
