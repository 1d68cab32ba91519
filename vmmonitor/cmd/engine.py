# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-engine``: stores events and recovers instances."""

import functools
import gc
import sys

import cotyledon
from cotyledon import oslo_config_glue
from oslo_config import cfg

from vmmonitor.cmd import launcher
from vmmonitor.db import schema
from vmmonitor.db.session import Database
from vmmonitor.engine.service import EngineService, check
from vmmonitor.rpc import transport as transports


class EngineWorker(cotyledon.Service):
    """One engine process.

    NOTE: oslo.service's launcher also wraps a service in a cotyledon service, but in one that ends
    the process on SIGHUP. An invalid policy file would then stop the engine instead of being
    rejected.
    """

    name = "vmmonitor-engine"

    def __init__(self, worker_id: cotyledon.types.WorkerId, conf: cfg.ConfigOpts):
        """Create the engine; this runs after the fork."""
        super().__init__(worker_id)
        self._service = new(conf)

    def run(self) -> None:
        """Start the engine; cotyledon then waits for signals."""
        self._service.start()
        # A batch has thousands of objects, so the garbage collector runs often. It need not scan
        # the imported modules. (A lower frequency does not help: errors while the database or the
        # broker is unavailable leave tens of megabytes of cycles per minute.)
        gc.freeze()

    def terminate(self) -> None:
        """Stop the engine in order."""
        self._service.stop(graceful=True)

    def reload(self) -> None:
        """Reload the policies and filters."""
        self._service.reset()


def new(conf: cfg.ConfigOpts) -> EngineService:
    """Return an engine that is not started yet."""
    return EngineService(
        conf,
        functools.partial(transports.new, conf),
        functools.partial(launcher.policy_file, conf),
        functools.partial(launcher.engine_filter_file, conf),
    )


def main() -> None:
    """Run ``[engine] workers`` processes until SIGTERM; SIGHUP reloads the rule files."""
    sys.exit(launcher.run_main("vmmonitor-engine", _main))


def _main(args: list[str]) -> None:
    conf = launcher.load_conf(args)
    check(conf, launcher.policy_file(conf), launcher.engine_filter_file(conf))
    database = Database(conf)
    schema.ensure_current(database)
    database.dispose()
    manager = cotyledon.ServiceManager()
    manager.add(EngineWorker, workers=conf.engine.workers, args=(conf,))
    oslo_config_glue.setup(manager, conf, reload_method="mutate")
    manager.run()
