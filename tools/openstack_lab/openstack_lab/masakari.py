# SPDX-License-Identifier: Apache-2.0
"""masakari: API, engine, and a monitor per host that rests until it is asked for."""

import os
from collections.abc import Iterable

from openstack_lab.lab import REGION, SERVICE_PASSWORD
from openstack_lab.service import LOG_FORMAT, Sections, Service
from openstack_lab.units import Unit

LOGGING = {
    "logging_default_format_string": LOG_FORMAT,
    "logging_context_format_string": LOG_FORMAT,
}


class Masakari(Service):
    """Instances HA, by itself or as a driver's other end."""

    name, kind, path = "masakari", "instance-ha", "/v1/%(tenant_id)s"

    def configure(self) -> None:
        """Write a file for API and engine, and one for each monitor."""
        paste = self.shipped("api-paste.ini")
        paste.write_text(paste.read_text().replace("/etc/masakari", str(self.etc)))
        account = self.account()
        self._conf = self.write(
            "masakari.conf",
            {
                "DEFAULT": {
                    "transport_url": self.lab.transport_url,
                    "os_privileged_user_name": self.name,
                    "os_privileged_user_password": SERVICE_PASSWORD,
                    "os_privileged_user_tenant": "service",
                    "os_privileged_user_auth_url": self.lab.keystone,
                    "os_user_domain_name": "Default",
                    "os_project_domain_name": "Default",
                    "os_system_scope": "",
                    "os_region_name": REGION,
                    "graceful_shutdown_timeout": 5,
                    "masakari_api_listen": "127.0.0.1",
                    # Greatest random pause before it stores a notification; its default is 5 s.
                    "notification_delay_max": os.environ.get("MASAKARI_DELAY_MAX", 0),
                    **LOGGING,
                },
                "database": {"connection": self.lab.database_url("masakari")},
                "taskflow": {"connection": self.lab.database_url("masakari")},
                "wsgi": {"api_paste_config": paste},
                "oslo_concurrency": {"lock_path": self.lab.directory("data", "masakari")},
                "instance_failure": {"process_all_instances": "true"},
                "keystone_authtoken": self.authtoken(),
            },
        )
        for host in self.lab.hosts:
            sections: Sections = {
                "DEFAULT": {"hostname": host, "tempdir": self.lab.directory("data"), **LOGGING},
                "libvirt": {"connection_uri": self.lab.libvirt_uri(host)},
                "api": {"region": REGION, "api_interface": "internal", **account},
                "callback": {},
            }
            self.write(f"monitor-{host}.conf", sections)

    def make_tables(self) -> None:
        """Make the tables."""
        self.run("masakari-manage", "--config-file", str(self._conf), "db", "sync")

    def processes(self) -> Iterable[Unit]:
        """Yield API and engine."""
        # Its WSGI module reads the options twice, the second time from the command line only:
        # without these words it would work with defaults.
        words = ["--pyargv", f"--config-file {self._conf}"]
        yield self.api("masakari.wsgi.api", {"OS_MASAKARI_CONFIG_DIR": str(self.etc)}, more=words)
        argv = [self.lab.program("masakari-engine"), "--config-file", str(self._conf)]
        yield Unit(name="masakari-engine", argv=argv)

    def resting(self) -> Iterable[Unit]:
        """Yield the monitors, which would recover the same servers as vmmonitor."""
        for host in self.lab.hosts:
            argv = [self.lab.program("masakari-instancemonitor")]
            argv += ["--config-file", str(self.etc / f"monitor-{host}.conf")]
            yield Unit(name=f"masakari-monitor-{host}", argv=argv)
