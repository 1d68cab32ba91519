# SPDX-License-Identifier: Apache-2.0
"""Start the lab, return its status, and stop it."""

import concurrent.futures
import shutil
from collections.abc import Callable, Iterable
from typing import Any

from openstack_lab import hosts, infrastructure
from openstack_lab.cloud import Cloud, account
from openstack_lab.glance import Glance
from openstack_lab.keystone import Keystone
from openstack_lab.lab import Lab
from openstack_lab.masakari import Masakari
from openstack_lab.mistral import Mistral
from openstack_lab.nova import Nova
from openstack_lab.placement import Placement
from openstack_lab.service import Service
from openstack_lab.units import REAPER, Units, say

#: The services, each after those that it depends on.
SERVICES: tuple[type[Service], ...] = (Keystone, Placement, Glance, Nova, Masakari, Mistral)
#: Units that stop last, because the services need them for an orderly stop.
LAST = ("mariadb", "rabbitmq", "memcached")
AT_ONCE = 2


def up(lab: Lab, without: Iterable[str] = ()) -> None:
    """Start all units that do not run, and create missing tables and cloud resources.

    :param without: names of services to omit: masakari, mistral.
    :raises LabError: a unit does not start.
    """
    hosts.check(lab)
    lab.path.mkdir(parents=True, exist_ok=True)
    lab.path.chmod(0o711)
    lab.save()
    units = Units(lab)
    units.start_reaper()
    say("starting MariaDB, RabbitMQ, memcached and the hosts' libvirtd")
    infrastructure.start(lab, units)
    for host in lab.hosts:
        hosts.start(lab, units, host)
    services = [kind(lab, units) for kind in SERVICES if kind.name not in without]
    say("making tables: " + ", ".join(service.name for service in services))
    _all((service.prepare for service in services), AT_ONCE)
    keystone, *others = services
    keystone.start()
    keystone.wait()
    say("filling keystone's catalog")
    Cloud(lab).register(others)
    say("starting the services")
    for service in others:
        service.start()
    for service in others:
        service.wait()
        say(f"{service.name} answers")
    _fill(Cloud(lab), {service.name for service in services})


def _fill(cloud: Cloud, names: set[str]) -> None:
    cloud.fill()
    if Masakari.name in names:
        cloud.join_segment()
    if Mistral.name in names:
        cloud.upload_workflow()


def down(lab: Lab, wipe: bool = False) -> None:
    """Stop everything that was started, by its recorded process.

    :param wipe: remove the lab's directory too.
    """
    units = Units(lab)
    names = [name for name in units.names() if name != REAPER]
    libvirtds = [name for name in names if name.startswith("libvirtd-")]
    others = [name for name in names if name not in (*libvirtds, *LAST)]
    say("stopping the services")
    _all((_stop(units, name) for name in others), len(others) or 1)
    for host in lab.hosts:
        hosts.destroy_guests(lab, host)
    _all((_stop(units, name) for name in [*libvirtds, *LAST]), len(LAST))
    units.end()
    if wipe:
        shutil.rmtree(lab.path)


def status(lab: Lab) -> dict[str, Any]:
    """Return the running processes, and the addresses and accounts of the lab."""
    units = Units(lab)
    return {
        "directory": str(lab.path),
        "units": {name: units.pid(name) for name in sorted(units.names())},
        "hosts": {
            host: {
                "libvirt_uri": lab.libvirt_uri(host),
                "qemu_pids": str(lab.path / "hosts" / host / "run" / "qemu"),
            }
            for host in lab.hosts
        },
        "account": account(lab),
        "services": {kind.name: lab.url(kind.name) for kind in SERVICES},
        "transport_url": lab.transport_url,
    }


def _stop(units: Units, name: str) -> Callable[[], object]:
    return lambda: units.stop(name)


def _all(calls: Iterable[Callable[[], object]], at_once: int) -> None:
    """Make all calls, at most ``at_once`` at a time; raise the first error."""
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for future in [pool.submit(call) for call in calls]:
            future.result()
