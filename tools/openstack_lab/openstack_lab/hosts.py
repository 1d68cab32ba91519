# SPDX-License-Identifier: Apache-2.0
"""The compute hosts: a libvirtd each, with a host name, directories and sockets of its own.

Each runs in a mount and a host-name namespace: nova names a compute node after libvirt's host
name. Its guests' QEMU processes are ordinary processes of the machine.
"""

import os
import pathlib
import shlex
import uuid
from collections.abc import Sequence

import libvirt

from openstack_lab.lab import NOBODY, Lab, LabError
from openstack_lab.units import Unit, Units

START_S = 120.0
#: Directory that libvirt uses on a machine -> the directory in the host's directory for it.
PLACES = {
    "/run/libvirt": "run",
    "/etc/libvirt": "etc",
    "/var/lib/libvirt": "lib",
    "/var/cache/libvirt": "cache",
    "/var/log/libvirt": "log",
}


def start(lab: Lab, units: Units, host: str) -> None:
    """Start a host's libvirtd, and wait until it answers; existing guests keep running.

    :raises LabError: it does not start or does not answer.
    """
    unit = _libvirtd(lab, host)
    if not units.pid(unit.name):
        run = _directory(lab, host) / "run"
        for stale in [run / "libvirtd.pid", *run.glob("libvirt-sock*")]:
            stale.unlink(missing_ok=True)
    units.start(unit)
    units.wait(unit.name, lambda: answers(lab, host), START_S)


def inside(lab: Lab, host: str, argv: Sequence[str]) -> list[str]:
    """Return the command that runs a program in the namespaces of a host."""
    script = _directory(lab, host) / "enter"
    script.write_text(_script(lab, host))
    return ["unshare", "--mount", "--uts", "sh", "-e", str(script), *argv]


def _script(lab: Lab, host: str) -> str:
    """Return the script that sets up the namespaces of a host.

    The disks of servers have the same path on every host, as nova requires. /dev/kvm is covered:
    if it is present but does not work, root's libvirtd probes QEMU again, for a minute, at every
    start of a guest.
    """
    unusable = lab.path / "no-kvm"
    unusable.touch()
    unusable.chmod(0)
    place = _directory(lab, host)
    # libvirt resolves the target of a migration by its host name.
    names = place / "names"
    names.write_text("".join(f"127.0.0.1 {name}\n" for name in (*lab.hosts, "localhost")))
    mounts = {target: place / name for target, name in PLACES.items()}
    mounts[str(instances(lab))] = place / "instances"
    lines = [f"hostname {host}", "mount --make-rprivate /"]
    lines += [f"mkdir -p {shlex.quote(target)}" for target in mounts]
    mounts |= {"/etc/hosts": names}
    lines += [
        f"mount --bind {shlex.quote(str(source))} {shlex.quote(target)}"
        for target, source in mounts.items()
    ]
    lines.append(f"[ ! -e /dev/kvm ] || mount --bind {shlex.quote(str(unusable))} /dev/kvm")
    return "\n".join([*lines, 'exec "$@"']) + "\n"


def instances(lab: Lab) -> pathlib.Path:
    """Return the path of the servers' disks; each host has its own directory there."""
    return lab.directory("instances")


def destroy_guests(lab: Lab, host: str) -> None:
    """Destroy all guests of a host, if its libvirtd answers."""
    try:
        connection = libvirt.open(lab.libvirt_uri(host))
        for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            domain.destroy()
        connection.close()
    except libvirt.libvirtError:
        return  # remaining guests are killed with all other processes


def answers(lab: Lab, host: str) -> bool:
    """Return whether a host's libvirtd answers."""
    try:
        connection = libvirt.openReadOnly(lab.libvirt_uri(host))
        connection.close()
    except libvirt.libvirtError:
        return False
    return True


def quiet() -> None:
    """Prevent libvirt from printing the errors that it raises."""
    libvirt.registerErrorHandler(lambda *_: None, None)


def _directory(lab: Lab, host: str) -> pathlib.Path:
    return lab.directory("hosts", host)


def _libvirtd(lab: Lab, host: str) -> Unit:
    place = _directory(lab, host)
    for name in (*PLACES.values(), "etc/qemu", "lib/qemu", "log/qemu", "instances"):
        (place / name).mkdir(parents=True, exist_ok=True)
    for name in ("lib", "lib/qemu", "cache"):
        os.chown(place / name, NOBODY, NOBODY)
    identity = place / "uuid"
    if not identity.exists():
        identity.write_text(str(uuid.uuid4()))
    (place / "etc/libvirtd.conf").write_text(_libvirtd_conf(identity.read_text()))
    (place / "etc/qemu.conf").write_text(_qemu_conf(lab, host))
    words = ["libvirtd", "-f", "/etc/libvirt/libvirtd.conf", "-p", "/run/libvirt/libvirtd.pid"]
    return Unit(name=f"libvirtd-{host}", argv=inside(lab, host, words))


def _libvirtd_conf(host_uuid: str) -> str:
    return f"""
unix_sock_group = "root"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0770"
auth_unix_ro = "none"
auth_unix_rw = "none"
max_clients = 200
host_uuid = "{host_uuid}"
"""


def _qemu_conf(lab: Lab, host: str) -> str:
    """Nothing that needs a whole machine; and no virtlogd, which stdio_handler saves."""
    first, last = lab.migration_ports(host)
    return f"""
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
user = "+{NOBODY}"
group = "+{NOBODY}"
seccomp_sandbox = 0
migration_port_min = {first}
migration_port_max = {last}
"""


def check(lab: Lab) -> None:
    """Check what the hosts need of the machine.

    :raises LabError: it is not there.
    """
    if os.geteuid() != 0:
        raise LabError("it needs root: each host runs in namespaces of its own")
    if len(str(lab.path)) > 60:
        raise LabError(f"{lab.path} is too long a path for unix sockets; see VMMONITOR_LAB")
