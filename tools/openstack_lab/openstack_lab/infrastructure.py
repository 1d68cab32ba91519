# SPDX-License-Identifier: Apache-2.0
"""Start the lab's own MariaDB, RabbitMQ and memcached."""

import functools
import os
import shutil

import pymysql

from openstack_lab.lab import NOBODY, Lab, LabError
from openstack_lab.service import run
from openstack_lab.units import Unit, Units, listens

START_S = 180.0
DATABASES = (
    *("keystone", "placement", "glance", "nova", "nova_api", "nova_cell0"),
    *("masakari", "mistral"),
)
#: Disables the busy waiting of idle Erlang schedulers, which costs other processes CPU time.
ERLANG_FLAGS = "+sbwt none +sbwtdcpu none +sbwtdio none"
# Nodes of other hosts must not reach this one.
ERLANG_FLAGS += " -kernel inet_dist_use_interface {127,0,0,1}"
#: Not Debian's rabbitmq-server in the PATH, which changes to the user rabbitmq.
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"


def start(lab: Lab, units: Units) -> None:
    """Start the units, and create the missing databases.

    :raises LabError: a unit does not start.
    """
    _make_database_files(lab, units)
    units.start(_mariadb(lab))
    units.start(_rabbitmq(lab))
    units.start(_memcached(lab))
    units.wait("mariadb", lambda: _connected(lab), START_S)
    for name in DATABASES:
        sql(lab, f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb3")
    for name in ("rabbitmq", "memcached"):
        units.wait(name, functools.partial(listens, lab.port(name)), START_S)


def sql(lab: Lab, statement: str) -> list[tuple]:
    """Execute a statement; returns the rows."""
    connection = pymysql.connect(
        unix_socket=str(lab.mariadb_socket), user="root", autocommit=True, connect_timeout=10
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _connected(lab: Lab) -> bool:
    try:
        return bool(sql(lab, "SELECT 1"))
    except pymysql.MySQLError:
        return False


def _make_database_files(lab: Lab, units: Units) -> None:
    data = lab.directory("data", "mariadb")
    done = lab.directory("etc") / ".mariadb"
    if done.exists():
        return
    shutil.rmtree(data)
    data.mkdir(mode=0o700)
    os.chown(data, NOBODY, NOBODY)
    command = [_found("mariadb-install-db"), "--no-defaults", "--skip-test-db"]
    command += ["--auth-root-authentication-method=normal", f"--datadir={data}"]
    run(lab, command, units.log("mariadb-setup"), NOBODY)
    done.touch()


def _mariadb(lab: Lab) -> Unit:
    data = lab.directory("data", "mariadb")
    options = [
        "--no-defaults",
        f"--datadir={data}",
        f"--socket={lab.mariadb_socket}",
        "--skip-networking",
        "--max-connections=800",
        "--innodb-buffer-pool-size=256M",
        "--performance-schema=OFF",
    ]
    return Unit(name="mariadb", argv=[_found("mariadbd"), *options], user=NOBODY)


def _rabbitmq(lab: Lab) -> Unit:
    home = lab.directory("data", "rabbitmq")
    os.chown(home, NOBODY, NOBODY)
    home.chmod(0o700)
    ports = {name: lab.port(name) for name in ("rabbitmq", "rabbitmq-dist", "epmd")}
    environment = {
        "HOME": str(home),
        "RABBITMQ_NODENAME": f"lab{ports['rabbitmq']}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(ports["rabbitmq"]),
        "RABBITMQ_DIST_PORT": str(ports["rabbitmq-dist"]),
        "ERL_EPMD_PORT": str(ports["epmd"]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_BASE": str(home),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_FLAGS,
    }
    program = RABBITMQ if os.path.exists(RABBITMQ) else _found("rabbitmq-server")
    return Unit(
        name="rabbitmq",
        argv=[program],
        env=environment,
        ports=[ports["rabbitmq"], ports["rabbitmq-dist"]],
        user=NOBODY,
    )


def _memcached(lab: Lab) -> Unit:
    """Return the cache of keystonemiddleware; without it keystone is queried for every token."""
    port = lab.port("memcached")
    argv = [_found("memcached"), "-l", "127.0.0.1", "-p", str(port), "-m", "64"]
    return Unit(name="memcached", argv=argv, ports=[port], user=NOBODY)


def _found(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        raise LabError(f"{program} is not installed: see bindep.txt, profile lab")
    return path
