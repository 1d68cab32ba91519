# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-agent``: monitors the instances of one host."""

import functools
import os
import sys

from vmmonitor.agent.machine import SpoolLock
from vmmonitor.agent.service import AgentService
from vmmonitor.cmd import launcher
from vmmonitor.rpc import transport as transports


def main() -> None:
    """Run until SIGTERM; SIGHUP reloads the filter file and the mutable options."""
    code = launcher.run_main("vmmonitor-agent", _main)
    sys.stdout.flush()
    sys.stderr.flush()
    # NOTE: a library thread may still wait for an unavailable broker. The spool is on disk, so the
    # process ends without waiting for it.
    os._exit(code)


def _main(args: list[str]) -> None:
    conf = launcher.load_conf(args)
    lock = SpoolLock(conf.spool.path)
    filter_file = functools.partial(launcher.filter_file, conf)
    launcher.run_services(conf, [AgentService(conf, transports.new(conf), filter_file)])
    lock.release()
