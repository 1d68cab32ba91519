# SPDX-License-Identifier: Apache-2.0
"""Define the directory, ports, addresses and accounts of the lab."""

import dataclasses
import json
import os
import pathlib
import sys

PORTS = {
    name: number
    for number, name in enumerate(
        (
            "keystone",
            "placement",
            "glance",
            "nova",
            "network",
            "masakari",
            "mistral",
            "memcached",
            "rabbitmq",
            "rabbitmq-dist",
            "epmd",
        )
    )
}
#: The first port of a host's incoming migrations is this many after the lab's first, and so far
#: from the next host's.
MIGRATION, MIGRATIONS = 20, 10

REGION = "RegionOne"
ADMIN = "admin"
#: They open nothing but this lab, which listens on the loopback interface only.
ADMIN_PASSWORD = "labpass"
SERVICE_PASSWORD = "labsvc"
#: Account for a vmmonitor on the lab. The name of the install guide stays free for its test.
VMMONITOR_ACCOUNT = "vmmonitor-lab"
#: uid of the database, the broker, memcached and the guests.
NOBODY = 65534


class LabError(Exception):
    """A command of the lab failed; the message is for the user."""


@dataclasses.dataclass(frozen=True)
class Lab:
    """One lab.

    ``path`` is its directory, ``first_port`` the first of its ports, ``hosts`` the names of its
    compute hosts, as nova has them.
    """

    path: pathlib.Path
    first_port: int
    hosts: tuple[str, ...]

    def port(self, service: str) -> int:
        """Return the port of a service."""
        return self.first_port + PORTS[service]

    def migration_ports(self, host: str) -> tuple[int, int]:
        """Return the first and the last port for migrations to a host."""
        first = self.first_port + MIGRATION + self.hosts.index(host) * MIGRATIONS
        return first, first + MIGRATIONS - 1

    def url(self, service: str, path: str = "") -> str:
        """Return the address of an API."""
        return f"http://127.0.0.1:{self.port(service)}{path}"

    @property
    def keystone(self) -> str:
        """The address of keystone."""
        return self.url("keystone", "/v3")

    @property
    def transport_url(self) -> str:
        """The address of the message bus."""
        return f"rabbit://guest:guest@127.0.0.1:{self.port('rabbitmq')}/"

    @property
    def memcached(self) -> str:
        """The address of memcached."""
        return f"127.0.0.1:{self.port('memcached')}"

    @property
    def mariadb_socket(self) -> pathlib.Path:
        """The unix socket of the database."""
        return self.directory("data", "mariadb") / "socket"

    def database_url(self, name: str) -> str:
        """Return the address of a database, for SQLAlchemy."""
        socket = self.mariadb_socket
        return f"mysql+pymysql://root@localhost/{name}?charset=utf8&unix_socket={socket}"

    def libvirt_uri(self, host: str) -> str:
        """Return the address of a host's libvirtd."""
        return f"qemu:///system?socket={self.path}/hosts/{host}/run/libvirt-sock"

    def program(self, name: str) -> str:
        """Return the path of a program that is installed in the lab's venv."""
        return str(pathlib.Path(sys.executable).with_name(name))

    def directory(self, *names: str) -> pathlib.Path:
        """Return a directory below the lab's; create it if it does not exist."""
        path = self.path.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def save(self) -> None:
        """Store the data that later commands need."""
        kept = {"first_port": self.first_port, "hosts": self.hosts}
        (self.directory() / "lab.json").write_text(json.dumps(kept))


def load(path: pathlib.Path) -> Lab | None:
    """Return the lab of a directory; None without one."""
    try:
        kept = json.loads((path / "lab.json").read_text())
    except FileNotFoundError:
        return None
    return Lab(path=path, first_port=kept["first_port"], hosts=tuple(kept["hosts"]))


def directory() -> pathlib.Path:
    """Return the directory that the environment names."""
    return pathlib.Path(os.environ.get("VMMONITOR_LAB") or "/tmp/vmmonitor-lab")


def environment(lab: Lab) -> dict[str, str]:
    """Return the environment of the lab's programs."""
    sbin = "/usr/local/sbin:/usr/sbin:/sbin"
    own = os.path.dirname(sys.executable)
    return {
        "PATH": f"{own}:{os.environ.get('PATH', os.defpath)}:{sbin}",
        "HOME": str(lab.path),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }
