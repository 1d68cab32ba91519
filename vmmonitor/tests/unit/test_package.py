# SPDX-License-Identifier: Apache-2.0
"""What an installed vmmonitor offers, and what each of its processes can do without."""

import importlib.metadata
import inspect
import os
import pathlib
import pkgutil
import subprocess
import sys
import tempfile
import unittest

import vmmonitor

DATABASE = ("sqlalchemy", "oslo_db", "alembic", "pymysql", "psycopg2")
LIBVIRT = ("libvirt", "libvirt_qemu", "libvirtmod")
BUS = ("oslo_messaging", "oslo_service")

#: Imports what it is told to, as if some packages were not installed.
WITHOUT = """
import importlib, sys
absent, wanted = sys.argv[1].split(","), sys.argv[2:]

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is not there", name=name)

sys.meta_path.insert(0, Absent)
for name in wanted:
    importlib.import_module(name)
"""


def rooms(*names: str) -> list[str]:
    """Return the names of all modules of these rooms."""
    found = []
    for name in names:
        found.append(f"vmmonitor.{name}")
        directory = pathlib.Path(vmmonitor.__file__).parent / name
        walk = pkgutil.walk_packages([str(directory)], f"vmmonitor.{name}.")
        # alembic imports its environment in a way of its own.
        found += [module.name for module in walk if not module.name.endswith("migrations.env")]
    return found


class TestExtras(unittest.TestCase):
    def assert_works_without(
        self, absent: tuple[str, ...], wanted: list[str], **environment: str
    ) -> None:
        command = [sys.executable, "-c", WITHOUT, ",".join(absent), *wanted]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=os.environ | environment,
        )
        self.assertEqual(0, done.returncode, done.stderr)

    def test_the_agent_needs_no_database(self):
        wanted = ["vmmonitor.cmd.agent", *rooms("model", "rules", "sources", "rpc", "agent")]
        self.assert_works_without(DATABASE, wanted)

    def test_the_engine_needs_no_libvirt(self):
        seams = rooms("expectation", "drivers")
        wanted = ["vmmonitor.cmd.engine", *rooms("model", "rules", "rpc", "db", "engine"), *seams]
        self.assert_works_without(LIBVIRT, wanted)

    def test_the_api_needs_neither_libvirt_nor_the_bus(self):
        wanted = ["vmmonitor.wsgi.api", *rooms("api")]
        # A WSGI application reads its configuration when it is imported.
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write("[database]\nconnection = sqlite://\n")
            file.flush()
            absent = (*LIBVIRT, *BUS)
            self.assert_works_without(absent, wanted, VMMONITOR_CONFIG_FILES=file.name)

    def test_the_client_needs_http_only(self):
        absent = (*LIBVIRT, *DATABASE, *BUS)
        self.assert_works_without(absent, ["vmmonitor.client.shell", *rooms("client")])

    def test_a_package_that_is_missing_is_noticed(self):
        with self.assertRaises(AssertionError):
            # A module that neither Python nor coverage imports at its start
            self.assert_works_without(("mailbox",), ["mailbox"])


class TestEntryPoints(unittest.TestCase):
    def test_every_one_leads_to_something(self):
        ours = importlib.metadata.distribution("vmmonitor").entry_points
        self.assertTrue(ours)
        for entry_point in ours:
            with self.subTest(entry_point.name, group=entry_point.group):
                loaded = entry_point.load()
                # openstackclient's extensions are modules.
                self.assertTrue(callable(loaded) or inspect.ismodule(loaded))
