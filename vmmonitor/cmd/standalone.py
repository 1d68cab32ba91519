# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-standalone``: agent, engine and API in one process, for a single KVM host."""

import functools
import os
import sys
import threading

from cheroot import wsgi
from oslo_config import cfg
from oslo_log import log

from vmmonitor.agent.machine import SpoolLock
from vmmonitor.agent.service import AgentService
from vmmonitor.api import deploy
from vmmonitor.cmd import launcher
from vmmonitor.db import schema
from vmmonitor.db.session import Database, register_opts
from vmmonitor.engine.service import EngineService
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.native_threads import service
from vmmonitor.rpc import transport as transports

LOG = log.getLogger(__name__)


class ApiService(service.Service):
    """Serves the REST API in this process."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Bind the address of the API.

        :raises vmmonitor.model.errors.VmmonitorError: the address cannot be bound.
        """
        super().__init__()
        address = (conf.api.bind_host, conf.api.bind_port)
        self._server = wsgi.Server(address, deploy.build(conf), numthreads=4)
        try:
            self._server.prepare()
        except OSError as error:
            raise VmmonitorError(
                f"cannot serve the API on {address[0]}:{address[1]}: {error}"
            ) from error
        self._thread = threading.Thread(target=self._server.serve, name="api", daemon=True)

    def start(self) -> None:
        """Start to serve requests."""
        self._thread.start()
        LOG.info("Serving the API on http://%s:%d", *self._server.bind_addr[:2])

    def stop(self, graceful: bool = False) -> None:
        """Finish running requests and stop."""
        self._server.stop()
        self._thread.join(10)
        super().stop(graceful)


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
