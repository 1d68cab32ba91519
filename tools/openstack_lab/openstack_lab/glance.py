# SPDX-License-Identifier: Apache-2.0
"""glance."""

from collections.abc import Iterable

from openstack_lab.service import Service
from openstack_lab.units import Unit


class Glance(Service):
    """Images, in a directory."""

    name, kind = "glance", "image"

    def configure(self) -> None:
        """Write glance-api.conf."""
        paste = self.shipped("glance-api-paste.ini")

        def data(name: str) -> str:
            return f"{self.lab.directory('data', 'glance', name)}/"

        self._conf = self.write(
            "glance-api.conf",
            {
                "DEFAULT": {
                    "use_stderr": "true",
                    "enabled_backends": "fs:file",
                    "worker_self_reference_url": self.address,
                    "enabled_import_methods": "[]",
                    "image_cache_dir": data("cache"),
                },
                # The guest's image, an MBR, is taken for one of format gpt.
                "image_format": {"require_image_format_match": "false"},
                "glance_store": {"default_backend": "fs"},
                "fs": {"filesystem_store_datadir": data("images")},
                "os_glance_staging_store": {"filesystem_store_datadir": data("staging")},
                "os_glance_tasks_store": {"filesystem_store_datadir": data("tasks")},
                "database": {"connection": self.lab.database_url("glance")},
                "paste_deploy": {"flavor": "keystone", "config_file": paste},
                "keystone_authtoken": self.authtoken(),
            },
        )

    def make_tables(self) -> None:
        """Make the tables."""
        self.run("glance-manage", "--config-file", str(self._conf), "db_sync")

    def processes(self) -> Iterable[Unit]:
        """Yield the API."""
        yield self.api("glance.wsgi.api", {"OS_GLANCE_CONFIG_DIR": str(self.etc)})
