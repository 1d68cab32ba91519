# SPDX-License-Identifier: Apache-2.0
"""keystone."""

from collections.abc import Iterable

from openstack_lab.lab import ADMIN_PASSWORD, REGION
from openstack_lab.service import Service
from openstack_lab.units import Unit


class Keystone(Service):
    """Identity."""

    name, kind, path = "keystone", "identity", "/v3"

    def configure(self) -> None:
        """Write keystone.conf."""
        self._conf = self.write(
            "keystone.conf",
            {
                "DEFAULT": {"use_stderr": "true", "log_dir": ""},
                "database": {"connection": self.lab.database_url("keystone")},
                "token": {"provider": "fernet", "expiration": 86400},
                "fernet_tokens": {"key_repository": self.etc / "fernet"},
                "fernet_receipts": {"key_repository": self.etc / "receipts"},
                "credential": {"key_repository": self.etc / "credential"},
                # With a cache per process, one worker would keep accounts that another changed.
                "cache": {
                    "enabled": "true",
                    "backend": "dogpile.cache.memcached",
                    "memcache_servers": self.lab.memcached,
                },
                # The weakest there is, since nothing is protected by it.
                "identity": {"password_hash_rounds": 4},
            },
        )

    def make_tables(self) -> None:
        """Make the tables, the keys and the administrator."""
        for name in ("fernet", "receipts", "credential"):
            (self.etc / name).mkdir(exist_ok=True)
        manage = ("keystone-manage", "--config-file", str(self._conf))
        owner = ("--keystone-user", "root", "--keystone-group", "root")
        self.run(*manage, "db_sync")
        for kind in ("fernet", "receipt", "credential"):
            self.run(*manage, f"{kind}_setup", *owner)
        urls = [
            word
            for interface in ("admin", "internal", "public")
            for word in (f"--bootstrap-{interface}-url", self.lab.keystone)
        ]
        password = ("--bootstrap-password", ADMIN_PASSWORD)
        self.run(*manage, "bootstrap", *password, "--bootstrap-region-id", REGION, *urls)

    def processes(self) -> Iterable[Unit]:
        """Yield the API."""
        yield self.api("keystone.wsgi.api", {"OS_KEYSTONE_CONFIG_DIR": str(self.etc)}, workers=2)
