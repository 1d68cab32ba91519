# SPDX-License-Identifier: Apache-2.0
"""What is done to a guest: faults, and what an operator or nova does."""

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

from vmmonitor.tests.fixtures.faulty_disk import DISK_BYTES, FaultyDisk, FullDisk
from vmmonitor.tests.fixtures.guest import Disk, FileDisk, Guest
from vmmonitor.tests.fixtures.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.processes import wait_until
from vmmonitor.tests.fixtures.services import free_port

JOB_S = 20.0
#: How long a guest waits for a disk that will not answer, since libvirt paused the guest.
ORDER_S = 1.0


class PlainDisk(fixtures.Fixture):
    """An image file of a hypervisor's that works."""

    def __init__(self, hypervisor: Hypervisor):
        super().__init__()
        self._path = os.path.join(hypervisor.path, f"plain-{uuid.uuid4().hex[:8]}.img")

    def _setUp(self) -> None:
        with open(self._path, "wb") as image:
            image.truncate(DISK_BYTES)
        os.chmod(self._path, 0o666)

    def disk(self) -> Disk:
        """The disk for a Guest."""
        return FileDisk(self._path)


class Scene:
    """One guest, and what can be done with it.

    :param target: another host, to which it can be migrated.
    :param disk: the fixture of its extra disk, if it has one.
    """

    def __init__(self, guest: Guest, target: Hypervisor, disk: Any = None):
        self.guest = guest
        self.target = target
        self.disk = disk

    @contextlib.contextmanager
    def domain(self):
        """Give its domain on its first host."""
        with self.guest.hypervisor.connection() as connection:
            yield connection.lookupByUUIDString(self.guest.uuid)

    def file(self, kind: str) -> str:
        """The path of a file that its QEMU can write."""
        return f"{self.guest.serial}.{kind}"


Act = Callable[[Scene], None]


# -- disks -------------------------------------------------------------------------------------
def full(policy: str | None = None) -> Callable[[Hypervisor], tuple[fixtures.Fixture, Any]]:
    """A file disk that fills."""

    def make(hypervisor):
        disk = FullDisk(hypervisor)
        return disk, lambda: disk.disk(policy)

    return make


def faulty(policy: str, name: str | None = "disk"):
    """A network disk that fails when it is told to."""

    def make(hypervisor):
        disk = FaultyDisk(hypervisor)
        return disk, lambda: disk.disk(policy, name=name)

    return make


def plain(hypervisor):
    """A disk that works."""
    disk = PlainDisk(hypervisor)
    return disk, disk.disk


def fill(scene: Scene) -> None:
    """Write until the disk is full."""
    while scene.guest.order("D", timeout=ORDER_S) == "o":
        continue


def grow(scene: Scene) -> None:
    """Make room on the disk."""
    scene.disk.grow()


def write(scene: Scene) -> None:
    """Let the disk fail, and write to it once."""
    scene.disk.fail()
    scene.guest.order("D", timeout=ORDER_S)


def heal(scene: Scene) -> None:
    """Let the disk work again."""
    scene.disk.heal()


# -- faults ------------------------------------------------------------------------------------
def sent(number: int) -> Act:
    """Send QEMU a signal."""
    return lambda scene: scene.guest.kill(number) and None


def ordered(letter: str) -> Act:
    """Have the guest do it; for the letters see ``Guest.order``."""
    return lambda scene: scene.guest.order(letter) and None


def halted_after_io(scene: Scene) -> None:
    """Have the guest write now and then, as most do, and halt with its interrupts off."""
    for _ in range(3):
        scene.guest.order("D")
        time.sleep(7)
    scene.guest.order("H")


# -- what is planned ---------------------------------------------------------------------------
def called(name: str, *arguments: Any) -> Act:
    """Call a method of libvirt's domain."""

    def act(scene):
        with scene.domain() as domain:
            getattr(domain, name)(*arguments)

    return act


def suspended_and_resumed(scene: Scene) -> None:
    """Pause the guest and let it go on."""
    with scene.domain() as domain:
        domain.suspend()
        time.sleep(0.5)
        domain.resume()


def saved_and_restored(scene: Scene) -> None:
    """Save the guest to a file, and restore it from there."""
    with scene.domain() as domain:
        domain.save(scene.file("saved"))
    with scene.guest.hypervisor.connection() as connection:
        connection.restore(scene.file("saved"))


def save_managed_and_started(scene: Scene) -> None:
    """Have libvirt save the guest, and start it again."""
    with scene.domain() as domain:
        domain.managedSave()
        domain.create()


def dumped(scene: Scene) -> None:
    """Write the guest's memory to a file."""
    with scene.domain() as domain:
        domain.coreDump(scene.file("core"))


def snapshot_made(scene: Scene) -> None:
    """Make a snapshot with the guest's memory."""
    with scene.domain() as domain:
        domain.snapshotCreateXML("<domainsnapshot><name>one</name></domainsnapshot>")


def snapshot_reverted(scene: Scene) -> None:
    """Make a snapshot with the guest's memory and go back to it."""
    snapshot_made(scene)
    with scene.domain() as domain:
        domain.revertToSnapshot(domain.snapshotLookupByName("one"))


def disk_snapshot_made(scene: Scene) -> None:
    """Let the extra disk's writes go to a new file from now on."""
    with scene.domain() as domain:
        domain.snapshotCreateXML(
            "<domainsnapshot><disks><disk name='hda' snapshot='no'/>"
            f"<disk name='vdb' snapshot='external'><source file='{scene.file('overlay')}'/></disk>"
            "</disks></domainsnapshot>",
            libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
            | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA,
        )


def disk_pulled(scene: Scene) -> None:
    """Make a disk snapshot, and pull the old file's data into the new one."""
    disk_snapshot_made(scene)
    with scene.domain() as domain:
        domain.blockPull("vdb")
        wait_until(lambda: not domain.blockJobInfo("vdb"), JOB_S, "the pull does not end")


def disk_copied(scene: Scene) -> None:
    """Copy the extra disk to another file, and go on with that one."""
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


def device_detached(scene: Scene) -> None:
    """Take the extra disk away; the guest, which knows nothing of it, gives it up at a reset."""
    with scene.domain() as domain:
        xml = domain.XMLDesc()
        start = xml.index("<disk", xml.index("</disk>"))
        domain.detachDeviceFlags(xml[start : xml.index("</disk>", start) + len("</disk>")])
        domain.reset()
        wait_until(lambda: "vdb" not in domain.XMLDesc(), JOB_S, "the disk is not given up")


def defined(scene: Scene) -> None:
    """Define the domain that runs."""
    with scene.guest.hypervisor.connection() as connection:
        connection.defineXML(scene.guest.xml)


# -- the host ----------------------------------------------------------------------------------
def going_down(host: Hypervisor) -> str:
    """The file that is there while a host shuts down."""
    return os.path.join(host.path, "going-down")


def host_rebooted(scene: Scene) -> None:
    """Shut the guest's host down, which ends its QEMU, and let it come back."""
    host = scene.guest.hypervisor
    pathlib.Path(going_down(host)).touch()
    pid = scene.guest.pid()
    scene.guest.kill(signal.SIGTERM)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), JOB_S, "QEMU does not end")
    time.sleep(0.5)
    host.stop()
    os.unlink(going_down(host))
    host.start()


# -- migration ---------------------------------------------------------------------------------
def migrated(scene: Scene, **more: Any) -> None:
    """Migrate the guest, which goes on running, to the other host."""
    parameters = {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://127.0.0.1:{free_port()}", **more}
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_UNSAFE
    with scene.domain() as domain, scene.target.connection() as there:
        domain.migrate3(there, parameters, flags)


def watchdog_then_migrated(scene: Scene) -> None:
    """Let the guest's watchdog fire, and migrate the guest, which runs on."""
    scene.guest.order("W")
    time.sleep(2)
    migrated(scene)


def migrated_in_vain(scene: Scene) -> None:
    """Migrate the guest to where its data cannot get."""
    with contextlib.suppress(libvirt.libvirtError):
        # The new QEMU waits at another address than the old one sends to.
        migrated(scene, **{libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: "127.0.0.2"})
        raise AssertionError("the migration succeeded")


def migration_refused(scene: Scene) -> None:
    """Migrate the guest to a host that has another one of its name."""
    other = scene.guest.xml.replace(scene.guest.uuid, str(uuid.uuid4()))
    with scene.target.connection() as there:
        there.defineXML(other)
    with contextlib.suppress(libvirt.libvirtError):
        migrated(scene)
        raise AssertionError("the migration succeeded")


def migrated_and_killed(scene: Scene) -> None:
    """Migrate the guest, and kill its new QEMU."""
    migrated(scene)
    pid = scene.target.qemu_pid(scene.guest.name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
