# SPDX-License-Identifier: Apache-2.0
"""Cause faults of guests, and perform the operations of an operator or of nova."""

import contextlib
import os
import pathlib
import signal
import time
import uuid
from collections.abc import Callable
from typing import Any

import fixtures
import libvirt

from vmmonitor.testing.guest import Disk, FileDisk, Guest
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.fixtures.faulty_disk import DISK_BYTES, FaultyDisk, FullDisk
from vmmonitor.tests.fixtures.migration import StalledMigration
from vmmonitor.tests.fixtures.services import free_port

JOB_S = 20.0
#: Timeout for an order to a guest that libvirt may have paused.
ORDER_S = 1.0


class PlainDisk(fixtures.Fixture):
    """A working image file on a hypervisor."""

    def __init__(self, hypervisor: Hypervisor):
        super().__init__()
        self._path = os.path.join(hypervisor.path, f"plain-{uuid.uuid4().hex[:8]}.img")

    def _setUp(self) -> None:
        with open(self._path, "wb") as image:
            image.truncate(DISK_BYTES)
        os.chmod(self._path, 0o666)

    def disk(self) -> Disk:
        """Return the disk for a Guest."""
        return FileDisk(self._path)


class Scene:
    """One guest with its hosts and its extra disk.

    :param target: target host of a migration.
    :param connect_agent: connects the agent of ``node-4`` to libvirt for the first time.
    :param disk: fixture of the extra disk, if the guest has one.
    """

    def __init__(
        self,
        guest: Guest,
        target: Hypervisor,
        connect_agent: Callable[[], None],
        disk: Any = None,
    ):
        self.guest = guest
        self.target = target
        self.connect_agent = connect_agent
        self.disk = disk

    @contextlib.contextmanager
    def domain(self):
        """Yield the guest's domain on its first host."""
        with self.guest.hypervisor.connection() as connection:
            yield connection.lookupByUUIDString(self.guest.uuid)

    def file(self, kind: str) -> str:
        """Return the path of a file that the guest's QEMU can write."""
        return f"{self.guest.serial}.{kind}"


Act = Callable[[Scene], None]


# -- disks -------------------------------------------------------------------------------------
def make_full_disk(
    policy: str | None = None,
) -> Callable[[Hypervisor], tuple[fixtures.Fixture, Any]]:
    """Return a factory of a file disk that can become full."""

    def make(hypervisor):
        disk = FullDisk(hypervisor)
        return disk, lambda: disk.disk(policy)

    return make


def make_faulty_disk(policy: str, name: str | None = "disk"):
    """Return a factory of a network disk that can be made to fail."""

    def make(hypervisor):
        disk = FaultyDisk(hypervisor)
        return disk, lambda: disk.disk(policy, name=name)

    return make


def make_plain_disk(hypervisor):
    """Return the fixture of a working disk, and its factory."""
    disk = PlainDisk(hypervisor)
    return disk, disk.disk


def fill_disk(scene: Scene) -> None:
    """Write until the disk is full."""
    while scene.guest.order("D", timeout=ORDER_S) == "o":
        continue


def grow_disk(scene: Scene) -> None:
    """Extend the disk."""
    scene.disk.grow()


def write_to_failing_disk(scene: Scene) -> None:
    """Make the disk fail, and write to it once."""
    scene.disk.fail()
    scene.guest.order("D", timeout=ORDER_S)


def repair_disk(scene: Scene) -> None:
    """Make the disk work again."""
    scene.disk.heal()


# -- faults ------------------------------------------------------------------------------------
def send_signal(number: int) -> Act:
    """Return an act that sends QEMU a signal."""
    return lambda scene: scene.guest.kill(number) and None


def order_guest(letter: str) -> Act:
    """Return an act that sends the guest an order; ``Guest.order`` describes the letters."""
    return lambda scene: scene.guest.order(letter) and None


def halt_after_disk_use(scene: Scene) -> None:
    """Let the guest write several times, then halt it with interrupts disabled."""
    for _ in range(3):
        scene.guest.order("D")
        time.sleep(7)
    scene.guest.order("H")


# -- planned operations ---------------------------------------------------------------------------
def call_domain(name: str, *arguments: Any) -> Act:
    """Return an act that calls a method of libvirt's domain."""

    def act(scene):
        with scene.domain() as domain:
            getattr(domain, name)(*arguments)

    return act


def suspend_and_resume(scene: Scene) -> None:
    """Pause and resume the guest."""
    with scene.domain() as domain:
        domain.suspend()
        time.sleep(0.5)
        domain.resume()


def pause_and_destroy(scene: Scene) -> None:
    """Pause the guest, then destroy it."""
    with scene.domain() as domain:
        domain.suspend()
        domain.destroy()


def save_and_restore(scene: Scene) -> None:
    """Save the guest to a file, and restore it from the file."""
    with scene.domain() as domain:
        domain.save(scene.file("saved"))
    with scene.guest.hypervisor.connection() as connection:
        connection.restore(scene.file("saved"))


def managed_save_and_start(scene: Scene) -> None:
    """Save the guest with a managed save, and start it again."""
    with scene.domain() as domain:
        domain.managedSave()
        domain.create()


def dump_memory(scene: Scene) -> None:
    """Write the guest's memory to a file."""
    with scene.domain() as domain:
        domain.coreDump(scene.file("core"))


def make_snapshot(scene: Scene) -> None:
    """Create a snapshot with the guest's memory."""
    with scene.domain() as domain:
        domain.snapshotCreateXML("<domainsnapshot><name>one</name></domainsnapshot>")


def revert_to_snapshot(scene: Scene) -> None:
    """Create a snapshot with the guest's memory, and revert to it."""
    make_snapshot(scene)
    with scene.domain() as domain:
        domain.revertToSnapshot(domain.snapshotLookupByName("one"))


def make_disk_snapshot(scene: Scene) -> None:
    """Create a snapshot of the extra disk, which continues in a new file."""
    with scene.domain() as domain:
        domain.snapshotCreateXML(
            "<domainsnapshot><disks><disk name='hda' snapshot='no'/>"
            f"<disk name='vdb' snapshot='external'><source file='{scene.file('overlay')}'/></disk>"
            "</disks></domainsnapshot>",
            libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
            | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA,
        )


def pull_disk(scene: Scene) -> None:
    """Create a disk snapshot, and pull the data of the old file into the new one."""
    make_disk_snapshot(scene)
    with scene.domain() as domain:
        domain.blockPull("vdb")
        wait_until(lambda: not domain.blockJobInfo("vdb"), JOB_S, "the pull does not end")


def copy_disk(scene: Scene) -> None:
    """Copy the extra disk to a new file, and continue with the copy."""
    copy = f"<disk type='file'><driver type='raw'/><source file='{scene.file('copy')}'/></disk>"
    with scene.domain() as domain:
        domain.blockCopy("vdb", copy)

        def is_copied():
            with contextlib.suppress(libvirt.libvirtError):
                # Refused until the copy has caught up.
                domain.blockJobAbort("vdb", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
                return True
            return False

        wait_until(is_copied, JOB_S, "the copy does not end")


def detach_disk(scene: Scene) -> None:
    """Detach the extra disk. The guest has no driver for that and releases the disk at a reset."""
    with scene.domain() as domain:
        xml = domain.XMLDesc()
        start = xml.index("<disk", xml.index("</disk>"))
        domain.detachDeviceFlags(xml[start : xml.index("</disk>", start) + len("</disk>")])
        domain.reset()
        wait_until(lambda: "vdb" not in domain.XMLDesc(), JOB_S, "the disk is not released")


def define_domain(scene: Scene) -> None:
    """Define the running domain."""
    with scene.guest.hypervisor.connection() as connection:
        connection.defineXML(scene.guest.xml)


# -- the host ----------------------------------------------------------------------------------
def shutdown_flag(host: Hypervisor) -> str:
    """Return the path of the file that exists while a host shuts down."""
    return os.path.join(host.path, "going-down")


def reboot_host(scene: Scene) -> None:
    """Shut the guest's host down, which ends its QEMU, and start the host again."""
    host = scene.guest.hypervisor
    pathlib.Path(shutdown_flag(host)).touch()
    pid = scene.guest.pid()
    scene.guest.kill(signal.SIGTERM)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), JOB_S, "QEMU does not end")
    time.sleep(0.5)
    host.stop()
    os.unlink(shutdown_flag(host))
    host.start()


# -- migration ---------------------------------------------------------------------------------
def migrate(scene: Scene, **more: Any) -> None:
    """Migrate the running guest to the other host."""
    parameters = {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://127.0.0.1:{free_port()}", **more}
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_UNSAFE
    with scene.domain() as domain, scene.target.connection() as there:
        domain.migrate3(there, parameters, flags)


def fire_watchdog_and_migrate(scene: Scene) -> None:
    """Let the guest's watchdog fire, and migrate the running guest."""
    scene.guest.order("W")
    time.sleep(2)
    migrate(scene)


def fail_migration(scene: Scene) -> None:
    """Start a migration whose data cannot reach the target."""
    with contextlib.suppress(libvirt.libvirtError):
        # The new QEMU listens at a different address than the old one sends to.
        migrate(scene, **{libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: "127.0.0.2"})
        raise AssertionError("the migration succeeded")


def start_agent_and_fail_migration(scene: Scene) -> None:
    """Start the agent of the target in the middle of a migration, and let the migration fail."""
    with StalledMigration(scene.guest, scene.target) as migration:
        scene.connect_agent()
        migration.abort()


def attempt_refused_migration(scene: Scene) -> None:
    """Start a migration to a host that has a different domain with the same name."""
    other = scene.guest.xml.replace(scene.guest.uuid, str(uuid.uuid4()))
    with scene.target.connection() as there:
        there.defineXML(other)
    with contextlib.suppress(libvirt.libvirtError):
        migrate(scene)
        raise AssertionError("the migration succeeded")


def migrate_and_kill(scene: Scene) -> None:
    """Migrate the guest, and kill its new QEMU."""
    migrate(scene)
    pid = scene.target.qemu_pid(scene.guest.name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
