# SPDX-License-Identifier: Apache-2.0
"""nova: API, conductor, scheduler, and a compute service per host."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable

from openstack_lab import hosts, infrastructure, network
from openstack_lab.service import LOG_FORMAT, Sections, Service, answers
from openstack_lab.units import Unit, say

HOSTS_S = 300.0
CONTROL = "control"
LOG_FORMAT_OF_REQUEST = LOG_FORMAT.replace("%(message)s", "[%(request_id)s] %(message)s")
#: Privileged helpers of nova-compute, which run as root instead of under sudo.
PRIVILEGED = (
    *("nova_sys_admin", "vif_plug_linux_bridge_privileged"),
    *("vif_plug_ovs_privileged", "privsep_osbrick"),
)
#: Query of the registered hosts that reported after a time, in seconds since the epoch.
TOLD = """
SELECT s.host FROM nova.services s JOIN nova.compute_nodes c ON c.host = s.host
WHERE s.binary = 'nova-compute' AND s.deleted = 0 AND c.deleted = 0
AND TIMESTAMPDIFF(SECOND, '1970-01-01', s.last_seen_up) >= {since}
"""


class Nova(Service):
    """Compute."""

    name, kind, path = "nova", "compute", "/v2.1"

    def configure(self) -> None:
        """Write a file for the control services and one for each host."""
        self.shipped("api-paste.ini")
        for host in (CONTROL, *self.lab.hosts):
            self.write(self._conf(host).name, self._options(host))

    def make_tables(self) -> None:
        """Make the tables of API and cells."""
        manage = ("nova-manage", "--config-file", str(self._conf(CONTROL)))
        self.run(*manage, "api_db", "sync")
        cell0 = self.lab.database_url("nova_cell0")
        self.run(*manage, "cell_v2", "map_cell0", "--database_connection", cell0)
        self.run(*manage, "db", "sync")
        if not infrastructure.sql(
            self.lab, "SELECT id FROM nova_api.cell_mappings WHERE name = 'cell1'"
        ):
            self.run(*manage, "cell_v2", "create_cell", "--name", "cell1")

    def processes(self) -> Iterable[Unit]:
        """Yield the control services and each host's compute service."""
        port = self.lab.port("network")
        stand_in = [self.lab.program("python"), network.__file__, str(port)]
        yield Unit(name="network", argv=stand_in, ports=[port])
        environment = {"OS_NOVA_CONFIG_DIR": str(self.etc)}
        yield self.api("nova.wsgi.osapi_compute", environment, workers=2)
        for program in ("conductor", "scheduler"):
            yield self._service(f"nova-{program}", f"nova-{program}", CONTROL)
        for host in self.lab.hosts:
            compute = self._service(f"nova-compute-{host}", "nova-compute", host)
            yield dataclasses.replace(compute, argv=hosts.inside(self.lab, host, compute.argv))

    def wait(self) -> None:
        """Wait until the API answers and every host is mapped to its cell."""
        super().wait()
        url = self.lab.url("network")
        self.units.wait("network", functools.partial(answers, url), HOSTS_S)
        for host in self.lab.hosts:
            told = functools.partial(self._has_told, host)
            self.units.wait(f"nova-compute-{host}", told, HOSTS_S)
        if self._known() < set(self.lab.hosts):
            say("nova is told of its hosts")
            manage = ("nova-manage", "--config-file", str(self._conf(CONTROL)))
            self.run(*manage, "cell_v2", "discover_hosts")

    def _has_told(self, host: str) -> bool:
        """Return whether a host has reported since its service was started."""
        since = self.units.started_at(f"nova-compute-{host}")
        rows = infrastructure.sql(self.lab, TOLD.format(since=since))
        return (host,) in rows

    def _known(self) -> set[str]:
        rows = infrastructure.sql(self.lab, "SELECT host FROM nova_api.host_mappings")
        return {row[0] for row in rows}

    def _service(self, name: str, program: str, host: str) -> Unit:
        argv = [self.lab.program(program), "--config-file", str(self._conf(host))]
        return Unit(name=name, argv=argv)

    def _conf(self, host: str) -> pathlib.Path:
        return self.etc / ("nova.conf" if host == CONTROL else f"nova-{host}.conf")

    def _options(self, host: str) -> Sections:
        privsep = f"{self.lab.program('privsep-helper')} --config-file {self._conf(host)}"
        return {
            "DEFAULT": {
                "host": host,
                "my_ip": "127.0.0.1",
                "state_path": self.lab.directory("data", "nova", host),
                "instances_path": hosts.instances(self.lab),
                "transport_url": self.lab.transport_url,
                "enabled_apis": "osapi_compute",
                "use_stderr": "true",
                "logging_default_format_string": LOG_FORMAT,
                "logging_context_format_string": LOG_FORMAT_OF_REQUEST,
                "compute_driver": "libvirt.LibvirtDriver",
                "resume_guests_state_on_host_boot": "false",
                "reserved_host_memory_mb": 0,
                "reserved_host_disk_mb": 0,
                "ram_allocation_ratio": 4.0,
                "cpu_allocation_ratio": 64.0,
                "disk_allocation_ratio": 16.0,
                "block_device_allocate_retries_interval": 1,
                "force_raw_images": "false",
                "use_cow_images": "true",
                "allow_resize_to_same_host": "true",
                # The guest does not listen to the power button; nova's default is 60 s.
                "shutdown_timeout": 2,
                "graceful_shutdown_timeout": 5,
                "manager_shutdown_timeout": 2,
            },
            "api_database": {"connection": self.lab.database_url("nova_api")},
            "database": {"connection": self.lab.database_url("nova")},
            "glance": {"region_name": self.account()["region_name"]},
            "neutron": self.account("neutron"),
            "placement": self.account("placement"),
            "service_user": {"send_service_user_token": "true", **self.account()},
            "vnc": {"enabled": "false"},
            "serial_console": {"enabled": "false"},
            "libvirt": self._libvirt(host),
            "compute": {"image_type_exclude_list": ""},
            "quota": {"instances": -1, "cores": -1, "ram": -1},
            "image_cache": {"manager_interval": -1},
            "workarounds": {
                "skip_cpu_compare_on_dest": "true",
                "skip_cpu_compare_at_startup": "true",
            },
            "upgrade_levels": {"compute": "auto"},
            "oslo_concurrency": {"lock_path": self.lab.directory("data", "nova", "locks")},
            "conductor": {"workers": 1},
            "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 60},
            **{name: {"helper_command": privsep} for name in PRIVILEGED},
            "keystone_authtoken": self.authtoken(),
        }

    def _libvirt(self, host: str) -> dict[str, object]:
        others = f"qemu+unix:///system?socket={self.lab.path}/hosts/%s/run/libvirt-sock"
        return {
            "virt_type": "qemu",
            "cpu_mode": "none",
            "connection_uri": self.lab.libvirt_uri(host) if host != CONTROL else "",
            "live_migration_uri": others,
            "hw_machine_type": "x86_64=pc",
            "wait_soft_reboot_seconds": 5,
        }
