# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-agent``: watches the instances of one host."""

import functools
import os
import sys

from vmmonitor.agent.service import AgentService
from vmmonitor.cmd import rule_files, start
from vmmonitor.rpc import transport as transports


def main() -> None:
    """Run until SIGTERM; SIGHUP reads the filter file and the mutable options again."""
    code = start.plainly("vmmonitor-agent", _main)
    sys.stdout.flush()
    sys.stderr.flush()
    # NOTE: a thread of a library may still wait for a broker that is away; what matters is on
    # the disk by now, so it is not waited for.
    os._exit(code)


def _main(args: list[str]) -> None:
    conf = start.configured(args)
    agent = AgentService(
        conf, transports.new(conf), functools.partial(rule_files.filter_file, conf)
    )
    start.run_here(conf, [agent])
