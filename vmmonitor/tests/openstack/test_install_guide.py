# SPDX-License-Identifier: Apache-2.0
"""The install guide leads to a recovered server: its code blocks are run as they stand.

The guide's names and addresses are replaced by those of the lab. ``apt-get`` and ``systemctl`` are
stand-ins: the packages of ``bindep.txt`` are installed already, and systemd does not run.
"""

import os
import pathlib
import shlex
import subprocess

import fixtures
import testtools
from testtools import content

import vmmonitor
from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.fixtures.openstack_lab import COMMAND, OpenStackLab
from vmmonitor.tests.fixtures.services import (
    MARIADB_OPTIONS,
    MariaDB,
    MySQLDriver,
    RabbitMQ,
    free_port,
)
from vmmonitor.tests.fixtures.shared import shared
from vmmonitor.tests.openstack import install_guide
from vmmonitor.tests.openstack.install_guide import Block, GuideHost

CHECKOUT = pathlib.Path(vmmonitor.__file__).parents[1]
GUIDE = CHECKOUT / "doc" / "source" / "install" / "cloud.rst"
#: Sections of the guide whose commands run on the compute host.
ON_COMPUTE = ("Set up a compute host", "Permit the agent to resume instances")
#: Part of a command that runs on the compute host, regardless of its section.
NEEDS_COMPUTE = "/run/libvirt/qemu/"
WAIT_S = 180.0
MYSQL = """#!/bin/sh
exec /usr/bin/mysql --no-defaults --socket={socket} "$@"
"""
#: The administrator's client; the lab has no networks, and servers go to a host of choice.
OPENSTACK = """#!/bin/sh
export OS_COMPUTE_API_VERSION=2.74
exec env {variables} {command} openstack "$@"
"""
#: Where the lab's tool finds the lab.
LAB_VARIABLES = (
    "HOME",
    "XDG_CACHE_HOME",
    "VMMONITOR_LAB",
    "VMMONITOR_LAB_PORT",
    "VMMONITOR_LAB_CACHE",
)


class ListeningMariaDB(MariaDB):
    """A MariaDB that also listens on a port of the loopback interface."""

    def _driver(self) -> MySQLDriver:
        self.port = free_port()
        network = ["--skip-networking=OFF", f"--port={self.port}", "--bind-address=127.0.0.1"]
        options = {"mysqld": [*MARIADB_OPTIONS, *network]}
        return MySQLDriver(processes=self.processes, options=options)

    def sql(self, *statements: str) -> None:
        """Execute statements as root."""
        command = ["mysql", "--no-defaults", "-S", self.driver.socket, "-e", ";".join(statements)]
        self.driver.run(command)


class TestInstallGuide(testtools.TestCase):
    """One test, as each section needs the ones before."""

    def setUp(self) -> None:
        super().setUp()
        self.lab = shared(OpenStackLab)
        self.database = self.useFixture(ListeningMariaDB())
        # Debian's MariaDB has no anonymous users, which would go before 'vmmonitor'@'%'.
        self.database.sql("DELETE FROM mysql.global_priv WHERE User=''", "FLUSH PRIVILEGES")
        self.broker = self.useFixture(RabbitMQ())
        self._delete_account()  # A killed test leaves it behind.
        self.addCleanup(self._delete_account)
        self.sources = self.useFixture(fixtures.TempDir()).path
        install_guide.copy_of_checkout(CHECKOUT, pathlib.Path(self.sources))
        installed = self.useFixture(fixtures.TempDir()).path
        pathlib.Path(installed).chmod(0o755)
        programs = {
            "systemctl": install_guide.SYSTEMCTL,
            "useradd": install_guide.USERADD,
            "apt-get": install_guide.APT_GET.replace("@CHECKOUT@", self.sources),
            "mysql": MYSQL.format(socket=self.database.driver.socket),
            "openstack": self._openstack(),
        }
        self.controller = self.useFixture(GuideHost("controller", installed, {}, programs))
        libvirt = {"/run/libvirt": str(pathlib.Path(self.lab.hosts["node1"].qemu_pids).parent)}
        self.compute = self.useFixture(GuideHost("compute1", installed, libvirt, programs))
        self.words = self._words()
        self.addOnException(lambda _: self._attach())

    def _delete_account(self) -> None:
        """Delete the account that the guide creates."""
        identity = self.lab.cloud.identity
        if account := identity.find_user("vmmonitor"):
            identity.delete_user(account)

    def _openstack(self) -> str:
        known = [f"{name}={os.environ[name]}" for name in LAB_VARIABLES if name in os.environ]
        return OPENSTACK.format(variables=shlex.join(known), command=COMMAND)

    def _words(self) -> list[tuple[str, str]]:
        port = free_port()
        auth_url = self.lab.options()["auth_url"]
        return [
            ("http://controller:5000/v3", auth_url),
            ("controller:5672", f"127.0.0.1:{self.broker._port}"),
            ("@controller/vmmonitor", f"@127.0.0.1:{self.database.port}/vmmonitor"),
            ("127.0.0.1:15869", f"127.0.0.1:{port}"),
            ("host = compute1", "host = node1"),
            ("host key compute1", "host key node1"),
            (
                "--image cirros --flavor m1.tiny --network private",
                "--image guest --flavor m1.nano --no-network --host node1",
            ),
        ]

    def _attach(self) -> None:
        for host in (self.controller, self.compute):
            for name, text in host.logs().items():
                self.addDetail(f"{host.name}: {name}", content.text_content(text))

    # -- the guide -------------------------------------------------------------------------------
    def test_guide_followed_literally_ends_with_recovered_server(self):
        self.addCleanup(self._delete_server)
        for block in install_guide.blocks(GUIDE):
            self.follow(block)
        self.assertEqual("resolved", self._incident("state"))
        server = self.lab.cloud.compute.find_server("victim")
        server = self.lab.cloud.compute.get_server(server.id)
        self.assertEqual("ACTIVE", server.status)

    def follow(self, block: Block) -> None:
        """Do what a block of the guide says."""
        host = self.compute if block.section in ON_COMPUTE else self.controller
        text = install_guide.replaced(block.text, self.words)
        if block.language == "ini":
            path = block.caption or "/etc/vmmonitor/vmmonitor.conf"
            host.write(path, text, append=not block.caption)
            return
        self.assertEqual("console", block.language)
        for _, command in install_guide.commands(text):
            self.run_command(self.compute if NEEDS_COMPUTE in command else host, command)

    def run_command(self, host: GuideHost, command: str) -> None:
        """Run a command of the guide, and check what the guide says about its result."""
        words = shlex.split(command)
        if words[0] == "rabbitmqctl":
            # The broker is another user's and listens on ports of its own.
            node = f"{self.broker.driver.nodename}@localhost"
            self.broker.driver.rabbitmqctl(node, words[1:])
            return
        output = host.run(command, self.sources)
        if "driver check" in command:
            self.assertIn("nova: OK", output)
        if "agent list" in command:
            self._wait(host, command, "| up ", "the agent is not up")
        if "server show" in command:
            server = self.lab.cloud.compute.find_server("victim")
            server = self.lab.cloud.compute.get_server(server.id)
            self.assertIn(server.instance_name, output)
            self.words.append(("instance-00000001", server.instance_name))
        if "incident list" in command:
            self._wait(host, command, "| resolved ", "the incident is not resolved")
            self.words.append(("INCIDENT_ID", self._incident("incident_id")))
        if "incident explain" in command:
            self.assertIn("driver nova", output)

    def _wait(self, host: GuideHost, command: str, word: str, what: str) -> None:
        wait_until(lambda: word in host.run(command, self.sources), WAIT_S, what)

    def _incident(self, column: str) -> str:
        command = "/opt/vmmonitor/bin/vmmonitor incident list --limit 1 -f value -c"
        return self.controller.run(f"{command} {column}").strip()

    def _delete_server(self) -> None:
        delete = [COMMAND, "openstack", "server", "delete", "--wait", "victim"]
        subprocess.run(delete, capture_output=True, check=False)
