# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the programs: configuration, logging, rule files, signals and errors."""

import queue
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from oslo_config import cfg
from oslo_log import log

from vmmonitor import conf as options
from vmmonitor import log_setup
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.rules import defaults

if TYPE_CHECKING:
    from vmmonitor.native_threads import service

LOG = log.getLogger(__name__)


def run_main(program: str, main: Callable[[list[str]], int | None]) -> int:
    """Run the main function of a program, and print an expected error as one line.

    :returns: the exit code; 1 after any error.
    """
    try:
        return main(sys.argv[1:]) or 0
    except (VmmonitorError, cfg.Error, log.LogConfigError) as error:
        print(f"{program}: {error}", file=sys.stderr)
    except Exception:
        # Threads of libraries would keep the failed process alive.
        traceback.print_exc()
    return 1


def load_conf(args: list[str]) -> cfg.ConfigOpts:
    """Return the configuration, and set up logging.

    :raises oslo_config.cfg.Error: an option or a file is invalid.
    """
    conf = options.new(args)
    _check_values(conf)
    log_setup.setup(conf)
    return conf


def _check_values(conf: cfg.ConfigOpts) -> None:
    """Read each option once: oslo.config reports an invalid value only when it is read.

    :raises oslo_config.cfg.Error: a value is invalid.
    """
    for group, opts in options.list_opts():
        for opt in opts:
            getattr(conf[group.name] if group else conf, opt.dest)


# -- rule files ----------------------------------------------------------------------------------
def filter_file(conf: cfg.ConfigOpts) -> str:
    """Return the path of the agent's filter file in force."""
    return _find_rule_file(conf, conf.agent.filter_file, defaults.EVENT_FILTERS)


def engine_filter_file(conf: cfg.ConfigOpts) -> str:
    """Return the path of the engine's filter file in force."""
    configured = conf.engine.filter_file or conf.agent.filter_file
    return _find_rule_file(conf, configured, defaults.EVENT_FILTERS)


def policy_file(conf: cfg.ConfigOpts) -> str:
    """Return the path of the recovery policy file in force."""
    return _find_rule_file(conf, conf.recovery.policy_file, defaults.RECOVERY_POLICIES)


def _find_rule_file(conf: cfg.ConfigOpts, configured: str, name: str) -> str:
    return configured or conf.find_file(name) or defaults.path(name)


# -- running -------------------------------------------------------------------------------------
def run_services(conf: cfg.ConfigOpts, services: Sequence["service.Service"]) -> None:
    """Run services in this process until SIGTERM or SIGINT; SIGHUP reloads them.

    NOTE: ``oslo_service.launch`` forks a child even for one worker. The child would double the
    memory of the agent, and separate a standalone service from its in-process message bus. Its
    ``Launcher`` starts services in other threads: a service that cannot start would leave an idle
    process.

    :param services: started in this order, and stopped in the same order.
    :raises Exception: the error of a service that cannot start.
    """
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: signals.put(received))
    for each in services:
        each.start()
    while signals.get() == signal.SIGHUP:
        LOG.info("Reloading the configuration and the rule files")
        _reload(conf, services)
    LOG.info("Stopping")
    for each in services:
        each.stop()
    LOG.info("Stopped")


def _reload(conf: cfg.ConfigOpts, services: Sequence["service.Service"]) -> None:
    """Apply the new configuration files; if a value is invalid, keep the old ones."""
    try:
        _check_values(options.new(sys.argv[1:]))
        conf.mutate_config_files()
        for each in services:
            each.reset()
    except cfg.Error as error:
        LOG.error("Rejected the new configuration, the old one stays in force: %s", error)
    except Exception:
        LOG.exception("Reload failed")
