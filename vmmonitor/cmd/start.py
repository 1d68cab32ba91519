# SPDX-License-Identifier: Apache-2.0
"""What the programs have in common: configuration, logging, signals, and plain errors."""

import queue
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from oslo_config import cfg
from oslo_log import log

from vmmonitor import conf as options
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.native_threads import service

LOG = log.getLogger(__name__)


def plainly(program: str, main: Callable[[list[str]], int | None]) -> int:
    """Run a program's body; what is wrong with its surroundings becomes one line on stderr.

    :returns: the exit code: 1 after such an error, and after any other.
    """
    try:
        return main(sys.argv[1:]) or 0
    except (VmmonitorError, cfg.Error, log.LogConfigError) as error:
        print(f"{program}: {error}", file=sys.stderr)
    except Exception:
        # Threads of libraries would keep a process alive that does nothing any more.
        traceback.print_exc()
    return 1


def configured(args: list[str]) -> cfg.ConfigOpts:
    """Read the configuration and set up logging.

    :raises oslo_config.cfg.Error: an option or a file is wrong.
    """
    conf = options.new(args)
    _check(conf)
    log.setup(conf, "vmmonitor")
    return conf


def _check(conf: cfg.ConfigOpts) -> None:
    """Read every option once: oslo.config finds a wrong value only where it is used.

    :raises oslo_config.cfg.Error: a value is wrong.
    """
    for group, opts in options.list_opts():
        for opt in opts:
            getattr(conf[group.name] if group else conf, opt.dest)


def run_here(conf: cfg.ConfigOpts, services: Sequence[service.Service]) -> None:
    """Run services in this very process until SIGTERM or SIGINT; SIGHUP reloads.

    NOTE: oslo.service's own ``launch`` forks a child even for one worker, which would cost the
    agent twice its memory and part a standalone service's in-process bus. Its ``Launcher`` starts
    services in threads of its own: one that cannot start would leave the process idle for ever.

    :raises Exception: whatever keeps a service from starting.
    """
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: signals.put(received))
    for one in services:
        one.start()
    while signals.get() == signal.SIGHUP:
        LOG.info("Reloading")
        _reload(conf, services)
    LOG.info("Stopping")
    for one in services:
        one.stop()
    LOG.info("Stopped")


def _reload(conf: cfg.ConfigOpts, services: Sequence[service.Service]) -> None:
    """Take over the new files, or none of them."""
    try:
        _check(options.new(sys.argv[1:]))
        conf.mutate_config_files()
        for one in services:
            one.reset()
    except cfg.Error as error:
        LOG.error("The new configuration is refused, the old one stays in force: %s", error)
    except Exception:
        LOG.exception("Reloading failed")
