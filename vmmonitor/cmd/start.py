# SPDX-License-Identifier: Apache-2.0
"""What the programs have in common: configuration, logging, signals, and plain errors."""

import queue
import signal
import sys
from collections.abc import Callable, Sequence

from oslo_config import cfg
from oslo_log import log

from vmmonitor import conf as options
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.native_threads import service

LOG = log.getLogger(__name__)


def plainly(program: str, main: Callable[[list[str]], int | None]) -> int:
    """Run a program's body; what is wrong with its surroundings becomes one line on stderr.

    :returns: the exit code: 1 after such an error.
    """
    try:
        return main(sys.argv[1:]) or 0
    except (VmmonitorError, cfg.Error, log.LogConfigError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1


def configured(args: list[str]) -> cfg.ConfigOpts:
    """Read the configuration and set up logging.

    :raises oslo_config.cfg.Error: an option or a file is wrong.
    """
    conf = options.new(args)
    log.setup(conf, "vmmonitor")
    return conf


def run_here(conf: cfg.ConfigOpts, services: Sequence[service.Service]) -> None:
    """Run services in this very process until SIGTERM or SIGINT; SIGHUP reloads.

    NOTE: oslo.service's own ``launch`` forks a child even for one worker, which would cost the
    agent twice its memory and part a standalone service's in-process bus.
    """
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: signals.put(received))
    launcher = service.Launcher(conf, restart_method="mutate")
    for one in services:
        launcher.launch_service(one)
    while signals.get() == signal.SIGHUP:
        LOG.info("Reloading")
        try:
            launcher.restart()
        except cfg.Error as error:
            LOG.error("The new configuration is refused: %s", error)
    LOG.info("Stopping")
    launcher.stop()
    LOG.info("Stopped")
