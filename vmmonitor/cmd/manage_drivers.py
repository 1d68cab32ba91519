# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage driver check``: whether the recovery drivers can work."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from oslo_config import cfg

from vmmonitor.bounded_call import BoundedCalls, CallUnfinished
from vmmonitor.cmd import launcher
from vmmonitor.engine.recovery.drivers import Drivers
from vmmonitor.engine.recovery.host_agents import RpcHostAgents
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.rpc import transport as transports
from vmmonitor.rules import policies

#: Default timeout of each check, in seconds.
_TIMEOUT = 30.0


def register(subparsers: Any) -> None:
    """Add ``driver`` to the subparsers of ``vmmonitor-manage``."""
    description = "check the recovery drivers"
    group = subparsers.add_parser("driver", help=description, description=description)
    verbs = group.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    description = "check whether recovery drivers can work; exit with 1 if one cannot"
    parser = verbs.add_parser("check", help=description, description=description)
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="driver to check (default: the drivers of the policies in force)",
    )
    parser.add_argument(
        "--timeout",
        type=_parse_seconds,
        default=_TIMEOUT,
        metavar="SECONDS",
        help="maximum time for each driver (default: %(default)g)",
    )
    parser.set_defaults(run=check)


def check(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Print the result for each driver; return 0 if each can work, else 1."""
    try:
        names = list(dict.fromkeys(args.names or _list_drivers_in_force(conf)))
        drivers = Drivers(conf, RpcHostAgents(transports.new(conf)))
    except VmmonitorError as error:
        print(error, file=sys.stderr)
        return 1
    calls = BoundedCalls(limit=max(1, len(names)))
    problems = []
    for name in names:
        problem, warnings = _check_driver(calls, drivers, name, args.timeout)
        problems.append(problem)
        print(f"{name}: {problem or 'OK'}", flush=True)
        for warning in warnings:
            print(f"{name}: WARNING: {warning}", flush=True)
    return int(any(problems))


def _list_drivers_in_force(conf: cfg.ConfigOpts) -> list[str]:
    """Return the drivers of the policies in force.

    :raises vmmonitor.model.errors.InvalidRules: the policy file is invalid.
    """
    loaded = policies.load(launcher.policy_file(conf))
    return [step.driver for row in loaded.rows for step in row.value.enabled_steps]


def _check_driver(
    calls: BoundedCalls, drivers: Drivers, name: str, timeout: float
) -> tuple[str, Sequence[str]]:
    """Return the problem of a driver, empty if it can work, and its warnings."""

    def check_driver() -> tuple[str, Sequence[str]]:
        driver = drivers.get(name)
        problem = str(driver.check())
        return problem, () if problem else [str(each) for each in driver.find_warnings()]

    try:
        return calls.call(f"check-{name}", check_driver, timeout)
    except (VmmonitorError, CallUnfinished) as error:
        return str(error), ()
    except Exception as error:
        # Drivers are plug-ins and may raise any exception.
        return f"{type(error).__name__}: {error}", ()


def _parse_seconds(value: str) -> float:
    seconds = float(value)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{value} must be above 0 and at most 3600")
    return seconds
