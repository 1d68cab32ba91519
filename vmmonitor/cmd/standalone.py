# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-standalone``: agent, engine and API in one process, for one KVM host."""

import functools
import os
import sys
import threading

from cheroot import wsgi
from oslo_config import cfg
from oslo_log import log

from vmmonitor.agent.service import AgentService
from vmmonitor.api import deploy
from vmmonitor.cmd import rule_files, start
from vmmonitor.db import schema
from vmmonitor.db.session import Database, register_opts
from vmmonitor.engine.service import EngineService
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.native_threads import service
from vmmonitor.rpc import transport as transports

LOG = log.getLogger(__name__)


class ApiService(service.Service):
    """The REST API, served by this process."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Take the address.

        :raises vmmonitor.model.errors.VmmonitorError: it is taken already.
        """
        super().__init__()
        address = (conf.api.bind_host, conf.api.bind_port)
        self._server = wsgi.Server(address, deploy.build(conf), numthreads=4)
        try:
            self._server.prepare()
        except OSError as error:
            raise VmmonitorError(
                f"the API cannot be served on {address[0]}:{address[1]}: {error}"
            ) from error
        self._thread = threading.Thread(target=self._server.serve, name="api", daemon=True)

    def start(self) -> None:
        """Serve."""
        self._thread.start()
        LOG.info("The API answers on http://%s:%d", *self._server.bind_addr[:2])

    def stop(self, graceful: bool = False) -> None:
        """Finish the requests that are under way."""
        self._server.stop()
        self._thread.join(10)
        super().stop(graceful)


def main() -> None:
    """Run until SIGTERM; SIGHUP reads both rule files and the mutable options again."""
    code = start.plainly("vmmonitor-standalone", _main)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _main(args: list[str]) -> None:
    conf = start.configured(args)
    _set_defaults(conf)
    _make_database(conf)
    transport = transports.new(conf, "fake://")
    # They are stopped in this order: what gives before what takes.
    services = [
        AgentService(conf, transport, functools.partial(rule_files.filter_file, conf)),
        ApiService(conf),
        EngineService(
            conf,
            lambda: transport,
            functools.partial(rule_files.policy_file, conf),
            functools.partial(rule_files.engine_filter_file, conf),
        ),
    ]
    start.run_here(conf, services)


def _set_defaults(conf: cfg.ConfigOpts) -> None:
    """Whatever needs another machine is not needed here; what is configured goes first."""
    register_opts(conf)
    conf.set_default("connection", f"sqlite:///{conf.state_path}/vmmonitor.db", group="database")
    conf.set_default("allow_recovery", True, group="agent")


def _make_database(conf: cfg.ConfigOpts) -> None:
    try:
        os.makedirs(conf.state_path, mode=0o750, exist_ok=True)
    except OSError as error:
        raise VmmonitorError(f"state_path cannot be made: {error}") from error
    database = Database(conf)
    schema.sync(database)
    database.dispose()
