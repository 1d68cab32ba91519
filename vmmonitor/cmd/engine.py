# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-engine``: takes, stores and acts on what the agents send."""

import functools
import gc
import sys

import cotyledon
from cotyledon import oslo_config_glue
from oslo_config import cfg

from vmmonitor.cmd import rule_files, start
from vmmonitor.db import schema
from vmmonitor.db.session import Database
from vmmonitor.engine.service import EngineService, check
from vmmonitor.rpc import transport as transports


class Worker(cotyledon.Service):
    """One engine process.

    NOTE: oslo.service's own launcher wraps a service in one of these too, but in one that ends
    the process at SIGHUP: a broken policy file would then stop the engine instead of being
    refused.
    """

    name = "vmmonitor-engine"

    def __init__(self, worker_id: cotyledon.types.WorkerId, conf: cfg.ConfigOpts):
        """Build everything anew: this is after the fork."""
        super().__init__(worker_id)
        self._service = new(conf)

    def run(self) -> None:
        """Start; cotyledon then waits for signals."""
        self._service.start()
        # Batches are thousands of objects: Python looks for cycles all the time, and need not do
        # so in everything that was imported too. (Not more rarely: what fails while the database
        # or the broker is away leaves cycles, tens of megabytes of them in a minute.)
        gc.freeze()

    def terminate(self) -> None:
        """Stop in order."""
        self._service.stop(graceful=True)

    def reload(self) -> None:
        """Read policies and filters again."""
        self._service.reset()


def new(conf: cfg.ConfigOpts) -> EngineService:
    """Return an engine that is not started yet."""
    return EngineService(
        conf,
        functools.partial(transports.new, conf),
        functools.partial(rule_files.policy_file, conf),
        functools.partial(rule_files.engine_filter_file, conf),
    )


def main() -> None:
    """Run ``[engine] workers`` processes until SIGTERM; SIGHUP reads the policies again."""
    sys.exit(start.plainly("vmmonitor-engine", _main))


def _main(args: list[str]) -> None:
    conf = start.configured(args)
    check(conf, rule_files.policy_file(conf), rule_files.engine_filter_file(conf))
    database = Database(conf)
    schema.ensure_current(database)
    database.dispose()
    manager = cotyledon.ServiceManager()
    manager.add(Worker, workers=conf.engine.workers, args=(conf,))
    oslo_config_glue.setup(manager, conf, reload_method="mutate")
    manager.run()
