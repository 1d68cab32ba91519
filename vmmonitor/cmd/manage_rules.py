# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage filter ...`` and ``policy ...``: commands for rule files."""

import argparse
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from typing import Any

from oslo_config import cfg

from vmmonitor import plugins
from vmmonitor.cmd import manage_explain, manage_replay
from vmmonitor.model import errors
from vmmonitor.rules import defaults, filters, lint, policies

RuleCommand = Callable[[cfg.ConfigOpts, argparse.Namespace], int]

#: Name of a sample on the command line -> shipped file.
_POLICY_SAMPLES = {
    "libvirt": defaults.RECOVERY_POLICIES,
    "openstack": defaults.OPENSTACK_POLICIES,
}

#: (metavar, help) of the argument of ``explain``.
EVENT = ("EVENT.json", "JSON file with an event; - for stdin")
EVENT_OR_INCIDENT = (
    "EVENT.json|INCIDENT",
    f"{EVENT[1]}; or the id of an incident in the database",
)


def register(subparsers: Any) -> None:
    """Add ``filter`` and ``policy`` to the subparsers of ``vmmonitor-manage``.

    Each command sets ``run``: a function of (conf, args) that returns the exit code.
    """
    verbs = _add_noun(subparsers, "filter", "check and explain event filters")
    _add_check(verbs, check_filter)
    _add_explain(verbs, manage_explain.explain_filter, EVENT)
    _add_sample(verbs, "filter")
    manage_replay.register(verbs, "filter")
    verbs = _add_noun(subparsers, "policy", "check and explain recovery policies")
    _add_check(verbs, check_policy)
    _add_explain(verbs, manage_explain.explain_policy, EVENT_OR_INCIDENT)
    _add_sample(verbs, "policy")
    manage_replay.register(verbs, "policy")


def _add_noun(subparsers: Any, noun: str, description: str) -> Any:
    group = subparsers.add_parser(noun, help=description, description=description)
    return group.add_subparsers(dest="verb", metavar="COMMAND", required=True)


def _add_verb(verbs: Any, name: str, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=description, description=description
    )
    return parser


def _add_check(verbs: Any, command: RuleCommand) -> None:
    parser = _add_verb(verbs, "check", "validate a file; exit with 1 if it is invalid")
    parser.add_argument("file", metavar="FILE", help="rule file")
    parser.set_defaults(run=command)


def _add_explain(verbs: Any, command: RuleCommand, subject: tuple[str, str]) -> None:
    parser = _add_verb(verbs, "explain", "show the decision about an event and its reasons")
    metavar, description = subject
    parser.add_argument("event", metavar=metavar, help=description)
    parser.add_argument("--file", metavar="FILE", help="rule file (default: the file in force)")
    parser.set_defaults(run=command)


def _add_sample(verbs: Any, noun: str) -> None:
    parser = _add_verb(verbs, "sample", "print a file that is shipped with vmmonitor")
    if noun == "policy":
        parser.add_argument(
            "name",
            metavar="NAME",
            choices=sorted(_POLICY_SAMPLES),
            help="libvirt: policies for a KVM host without OpenStack, in force by default; "
            "openstack: policies that recover instances through nova",
        )
    parser.set_defaults(run=print_sample, name="")


def check_filter(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Validate a filter file; return 0 if it is valid, or print the errors and return 1."""
    try:
        loaded = filters.load(args.file)
    except errors.InvalidRules as error:
        print(error, file=sys.stderr)
        return 1
    return _approve(f"{len(loaded.rows)} rules", loaded.checksum, lint.lint_filters(loaded))


def check_policy(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Validate a policy file, with the driver options of its steps; return as check_filter."""
    try:
        loaded = policies.load(args.file, _check_options)
    except errors.InvalidRules as error:
        print(error, file=sys.stderr)
        return 1
    warnings = lint.lint_policies(loaded) + _list_unknown_drivers(loaded)
    return _approve(f"{len(loaded.rows)} policies", loaded.checksum, warnings)


def print_sample(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Print a shipped rule file; return 0."""
    name = _POLICY_SAMPLES.get(args.name, defaults.EVENT_FILTERS)
    with open(defaults.path(name), encoding="utf-8") as file:
        print(file.read(), end="")
    return 0


def _list_unknown_drivers(loaded: policies.Policies) -> list[str]:
    """Return a warning for each step with a driver that is not installed."""
    installed = importlib.metadata.entry_points(group="vmmonitor.drivers").names
    return [
        f"{row.name!r}: the driver {step.driver!r} is not installed here"
        for row in loaded.rows
        for step in row.value.steps
        if step.driver not in installed
    ]


def _check_options(step: policies.PolicyStep) -> None:
    """Validate the options of a step, if its driver is installed.

    :raises vmmonitor.model.errors.InvalidRules: an option is invalid.
    """
    try:
        driver = plugins.load("vmmonitor.drivers", step.driver)
    except plugins.NotInstalled:
        return
    driver.check_options(step.options)


def _approve(count: str, checksum: str, warnings: Sequence[str]) -> int:
    print(f"OK: {count}, sha256 {checksum}")
    for warning in warnings:
        print(f"warning: {warning}")
    return 0
