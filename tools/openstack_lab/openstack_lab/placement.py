# SPDX-License-Identifier: Apache-2.0
"""placement."""

from collections.abc import Iterable

from openstack_lab.service import Service
from openstack_lab.units import Unit


class Placement(Service):
    """The placement service."""

    name, kind = "placement", "placement"

    def configure(self) -> None:
        """Write placement.conf."""
        self._conf = self.write(
            "placement.conf",
            {
                "DEFAULT": {"use_stderr": "true"},
                "api": {"auth_strategy": "keystone"},
                "placement_database": {"connection": self.lab.database_url("placement")},
                "keystone_authtoken": self.authtoken(),
            },
        )

    def make_tables(self) -> None:
        """Make the tables."""
        self.run("placement-manage", "--config-file", str(self._conf), "db", "sync")

    def processes(self) -> Iterable[Unit]:
        """Yield the API."""
        yield self.api("placement.wsgi.api", {"OS_PLACEMENT_CONFIG_DIR": str(self.etc)})
