# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-standalone``: agent, engine and API in one process, for a single KVM host."""

import contextlib
import functools
import os
import pwd
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from cheroot import wsgi
from oslo_config import cfg
from oslo_log import log

from vmmonitor.agent.machine import SpoolLock
from vmmonitor.agent.service import AgentService
from vmmonitor.api import auth, deploy
from vmmonitor.cmd import launcher
from vmmonitor.db import schema
from vmmonitor.db.session import Database, register_opts
from vmmonitor.engine.service import EngineService
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.native_threads import service
from vmmonitor.rpc import transport as transports

LOG = log.getLogger(__name__)


#: The user and the group of the process can connect.
SOCKET_MODE = 0o660


class PeerCredentials:
    """Passes the name of the user at the other end of a unix socket to the application."""

    def __init__(self, application: Callable):
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        """Call the application; the server has set the user id that the kernel reports."""
        environ[auth.NoAuth.PEER] = user_name(int(environ["X_REMOTE_UID"]))
        response: Iterable[bytes] = self._application(environ, start_response)
        return response


def user_name(uid: int) -> str:
    """Return the name of a user, or ``uid N`` if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


class ApiService(service.Service):
    """Serves the REST API in this process, over TCP and on a unix socket.

    :ivar address: host and port over TCP.
    """

    def __init__(self, conf: cfg.ConfigOpts):
        """Bind the address and the socket of the API.

        :raises vmmonitor.model.errors.VmmonitorError: one of them cannot be bound.
        """
        super().__init__()
        application = deploy.build(conf)
        self._path = os.path.abspath(conf.api.socket_path)
        tcp = wsgi.Server((conf.api.bind_host, conf.api.bind_port), application, numthreads=4)
        local = wsgi.Server(
            self._path, PeerCredentials(application), numthreads=4, peercreds_enabled=True
        )
        # TCP first: a second process fails here, before it replaces the socket of the first.
        _bind(tcp, f"{conf.api.bind_host}:{conf.api.bind_port}")
        # The server would create the socket with mode 0777.
        mask = os.umask(0o777 & ~SOCKET_MODE)
        try:
            _bind(local, self._path)
            os.chmod(self._path, SOCKET_MODE)
        except VmmonitorError:
            tcp.stop()
            raise
        finally:
            os.umask(mask)
        self._servers = {
            server: threading.Thread(target=server.serve, name=name, daemon=True)
            for name, server in (("api", tcp), ("api-socket", local))
        }
        self.address = tcp.bind_addr[:2]

    def start(self) -> None:
        """Start to serve requests."""
        for thread in self._servers.values():
            thread.start()
        LOG.info("Serving the API on http://%s:%d", *self.address)
        LOG.info("Serving the API on unix://%s", self._path)

    def stop(self, graceful: bool = False) -> None:
        """Finish running requests and stop."""
        for server, thread in self._servers.items():
            server.stop()
            thread.join(10)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        super().stop(graceful)


def _bind(server: wsgi.Server, name: str) -> None:
    try:
        server.prepare()
    except OSError as error:
        raise VmmonitorError(f"cannot serve the API on {name}: {error}") from error


def main() -> None:
    """Run until SIGTERM; SIGHUP reloads the rule files and the mutable options."""
    code = launcher.run_main("vmmonitor-standalone", _main)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _main(args: list[str]) -> None:
    conf = launcher.load_conf(args)
    _set_defaults(conf)
    _create_database(conf)
    lock = SpoolLock(conf.spool.path)
    transport = transports.new(conf, "fake://")
    # Started and stopped in this order: producers stop before their consumers.
    services = [
        AgentService(conf, transport, functools.partial(launcher.filter_file, conf)),
        ApiService(conf),
        EngineService(
            conf,
            lambda: transport,
            functools.partial(launcher.policy_file, conf),
            functools.partial(launcher.engine_filter_file, conf),
        ),
    ]
    launcher.run_services(conf, services)
    lock.release()


def _set_defaults(conf: cfg.ConfigOpts) -> None:
    """Set defaults for one host without a broker or a database server."""
    register_opts(conf)
    conf.set_default("connection", f"sqlite:///{conf.state_path}/vmmonitor.db", group="database")
    conf.set_default("allow_recovery", True, group="agent")
    # Messages do not leave this process.
    conf.set_override("signatures", "off", group="rpc")


def _create_database(conf: cfg.ConfigOpts) -> None:
    try:
        os.makedirs(conf.state_path, mode=0o750, exist_ok=True)
    except OSError as error:
        raise VmmonitorError(f"cannot create state_path: {error}") from error
    database = Database(conf)
    schema.sync(database)
    database.dispose()
