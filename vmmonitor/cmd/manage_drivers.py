# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage driver check``: whether the recovery drivers could work now."""

import argparse
import queue
import sys
import threading
from typing import Any

from oslo_config import cfg

from vmmonitor.cmd.rule_files import policy_file
from vmmonitor.engine.recovery.drivers import Drivers
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.rpc import transport as transports
from vmmonitor.rpc.agent_api import AgentAPI
from vmmonitor.rules import policies

#: Seconds for each driver, unless the operator says otherwise.
TIMEOUT = 30.0


def register(subparsers: Any) -> None:
    """Add ``driver`` to the sub-commands of an argparse parser."""
    what = "the recovery drivers"
    group = subparsers.add_parser("driver", help=what, description=what)
    verbs = group.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    what = "tell whether drivers could recover instances now, from here; 1 if one could not"
    parser = verbs.add_parser("check", help=what, description=what)
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="a driver; those of the policies in force if none is given",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help="longest time for each (default: %(default)g)",
    )
    parser.set_defaults(run=check)


def check(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Print a line for each driver; 0 if all are well, else 1."""
    try:
        names = args.names or _in_force(conf)
        built = Drivers(conf, AgentAPI(transports.new(conf)).recover_instance)
    except VmmonitorError as error:
        print(error, file=sys.stderr)
        return 1
    problems = []
    for name in dict.fromkeys(names):
        problem = _problem(built, name, args.timeout)
        problems.append(problem)
        print(f"{name}: {problem or 'OK'}", flush=True)
    return int(any(problems))


def _in_force(conf: cfg.ConfigOpts) -> list[str]:
    """Return the drivers of the policies in force.

    :raises vmmonitor.model.errors.InvalidRules: the file is broken.
    """
    loaded = policies.load(policy_file(conf))
    return [step.driver for row in loaded.rows for step in row.value.enabled_steps]


def _problem(built: Drivers, name: str, seconds: float) -> str:
    """Ask one driver, for so long and no longer; empty if it has no problem."""
    told: queue.SimpleQueue[str] = queue.SimpleQueue()

    def ask() -> None:
        try:
            told.put(built.get(name).check())
        except VmmonitorError as error:
            told.put(str(error))
        except Exception as error:
            # Also what somebody's driver raises.
            told.put(f"{type(error).__name__}: {error}")

    threading.Thread(target=ask, name=f"check-{name}", daemon=True).start()
    try:
        return told.get(timeout=seconds)
    except queue.Empty:
        return f"no answer within {seconds:g} s"


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 and 3600")
    return seconds
