# SPDX-License-Identifier: Apache-2.0
"""mistral: API, engine and executor."""

from collections.abc import Iterable

from openstack_lab.service import Service
from openstack_lab.units import Unit

PARTS = ("api", "engine", "executor")


class Mistral(Service):
    """Workflows."""

    name, kind, path = "mistral", "workflowv2", "/v2"

    def configure(self) -> None:
        """Write mistral.conf."""
        self._conf = self.write(
            "mistral.conf",
            {
                "DEFAULT": {
                    "transport_url": self.lab.transport_url,
                    "use_stderr": "true",
                    "auth_type": "keystone",
                },
                "api": {"host": "127.0.0.1", "port": self.lab.port(self.name), "api_workers": 1},
                "pecan": {"auth_enable": "true"},
                "engine": {"host": "mistral-engine"},
                "executor": {"host": "mistral-executor", "type": "remote"},
                "cron_trigger": {"enabled": "false"},
                "database": {"connection": self.lab.database_url("mistral")},
                "keystone": self.account(),
                "keystone_authtoken": self.authtoken(),
            },
        )

    def make_tables(self) -> None:
        """Make the tables, and fill in the standard actions."""
        manage = ("mistral-db-manage", "--config-file", str(self._conf))
        self.run(*manage, "upgrade", "head")
        self.run(*manage, "populate")

    def processes(self) -> Iterable[Unit]:
        """Yield its three processes."""
        for part in PARTS:
            argv = [self.lab.program("mistral-server"), "--config-file", str(self._conf)]
            ports = [self.lab.port(self.name)] if part == "api" else []
            yield Unit(name=f"mistral-{part}", argv=[*argv, "--server", part], ports=ports)
