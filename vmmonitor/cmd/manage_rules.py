# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage filter ...`` and ``policy ...``: rule files, checked and explained."""

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from oslo_config import cfg

from vmmonitor import plugins
from vmmonitor.cmd import manage_incident, manage_replay, rule_words
from vmmonitor.cmd.rule_files import filter_file, policy_file
from vmmonitor.model import errors
from vmmonitor.model.event import Event
from vmmonitor.rpc import event_wire
from vmmonitor.rules import defaults, filters, lint, policies

#: What an event needs and a question about rules does not.
_FILLED = {"event_id": "example", "host": "example", "source": "libvirt", "occurred_at": 0}
_NOBODY = {"uuid": "00000000-0000-0000-0000-000000000000"}

#: Name of a sample on the command line -> shipped file.
_POLICY_SAMPLES = {
    "libvirt": defaults.RECOVERY_POLICIES,
    "openstack": defaults.OPENSTACK_POLICIES,
}

#: What can be explained, and what that is.
EVENT = ("EVENT.json", "file with an event as JSON; - is stdin")
SUBJECT = (
    "EVENT.json|INCIDENT",
    f"{EVENT[1]}; or the id of an incident, which is looked up in the database",
)


def register(subparsers: Any) -> None:
    """Add ``filter`` and ``policy`` to the sub-commands of an argparse parser.

    Each leaves a function of (conf, args) in ``args.run`` that returns the exit code.
    """
    _add(subparsers, "filter", "the rules that decide about events", check_filter, explain_filter)
    _add(subparsers, "policy", "the recovery policies", check_policy, explain_policy, SUBJECT)


def _add(
    subparsers: Any,
    noun: str,
    what: str,
    checks: Callable[[cfg.ConfigOpts, argparse.Namespace], int],
    explains: Callable[[cfg.ConfigOpts, argparse.Namespace], int],
    subject: tuple[str, str] = EVENT,
) -> None:
    group = subparsers.add_parser(noun, help=what, description=what)
    verbs = group.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    parser = _verb(verbs, "check", "tell whether a file is sound; 1 if it is not")
    parser.add_argument("file", metavar="FILE", help="the rule file")
    parser.set_defaults(run=checks)
    parser = _verb(verbs, "explain", "tell what would be decided on an event, and why")
    parser.add_argument("event", metavar=subject[0], help=subject[1])
    parser.add_argument(
        "--file", metavar="FILE", help="the rule file; the one in force if not given"
    )
    parser.set_defaults(run=explains)
    _add_sample(verbs, noun)
    manage_replay.register(verbs, noun)


def _add_sample(verbs: Any, noun: str) -> None:
    parser = _verb(verbs, "sample", "print a file that is shipped with vmmonitor")
    if noun == "policy":
        parser.add_argument(
            "name",
            metavar="NAME",
            choices=sorted(_POLICY_SAMPLES),
            help="libvirt: policies for a KVM host without OpenStack, in force by default; "
            "openstack: policies that recover instances through nova",
        )
    parser.set_defaults(run=print_sample, name="")


def _verb(verbs: Any, name: str, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=what)
    return parser


def check_filter(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Tell whether a filter file is sound; 0 if it is, 1 with the reasons on stderr if not."""
    try:
        loaded = filters.load(args.file)
    except errors.InvalidRules as error:
        return _refuse(error)
    return _approve(f"{len(loaded.rows)} rules", loaded.checksum, lint.lint_filters(loaded))


def check_policy(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Tell the same of a file of recovery policies, and which drivers are not installed."""
    try:
        loaded = policies.load(args.file, _check_options)
    except errors.InvalidRules as error:
        return _refuse(error)
    warnings = lint.lint_policies(loaded) + _unknown_drivers(loaded)
    return _approve(f"{len(loaded.rows)} policies", loaded.checksum, warnings)


def explain_filter(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Print how each rule does on an event, and the decision; 1 if either cannot be read."""
    try:
        event = _read(args.event)
        loaded = filters.load(args.file or filter_file(conf))
    except errors.VmmonitorError as error:
        return _refuse(error)
    _print([*rule_words.trials(loaded.path, event, loaded.explain(event))])
    decision = loaded.decide(event)
    asked = f", with {', '.join(decision.evidence)}" if decision.evidence else ""
    print(f"-> {decision.action}, {decision.severity}, by {decision.rule}{asked}")
    return 0


def explain_policy(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Print how each policy does on an event, and what would be done; 1 as above."""
    path = args.file or policy_file(conf)
    if manage_incident.is_id(args.event):
        return manage_incident.explain(conf, args.event, path)
    try:
        event = _read(args.event)
        loaded = policies.load(path)
    except errors.VmmonitorError as error:
        return _refuse(error)
    _print([*rule_words.trials(loaded.path, event, loaded.explain(event))])
    _print([*rule_words.plan(loaded.choose(event))])
    return 0


def print_sample(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Print a shipped rule file, to be redirected beside vmmonitor.conf; return 0."""
    name = _POLICY_SAMPLES.get(args.name, defaults.EVENT_FILTERS)
    with open(defaults.path(name), encoding="utf-8") as file:
        print(file.read(), end="")
    return 0


def _read(path: str) -> Event:
    """Return the event in a file; what no rule needs may be left out.

    :raises vmmonitor.model.errors.InvalidMessage: it cannot be read.
    """
    try:
        if path == "-":
            form = json.load(sys.stdin)
        else:
            with open(path, encoding="utf-8") as file:
                form = json.load(file)
    except OSError as error:
        raise errors.InvalidMessage(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise errors.InvalidMessage(f"{path}: this is not JSON: {error}") from None
    if isinstance(form, dict):
        form = _FILLED | form
        instance = form.get("instance", {})
        if isinstance(instance, dict):
            form["instance"] = _NOBODY | instance
    try:
        return event_wire.read_event(form)
    except errors.InvalidMessage as error:
        raise errors.InvalidMessage(f"{path}: {error}") from None


def _unknown_drivers(loaded: policies.Policies) -> list[str]:
    installed = importlib.metadata.entry_points(group="vmmonitor.drivers").names
    return [
        f"{row.name!r}: the driver {step.driver!r} is not installed here"
        for row in loaded.rows
        for step in row.value.steps
        if step.driver not in installed
    ]


def _check_options(step: policies.PolicyStep) -> None:
    """Refuse options that the step's driver does not know, if that is installed here.

    :raises vmmonitor.model.errors.InvalidRules: they make no sense.
    """
    try:
        driver = plugins.load("vmmonitor.drivers", step.driver)
    except plugins.NotInstalled:
        return
    driver.check_options(step.options)


def _print(lines: Sequence[str]) -> None:
    print("\n".join(lines))


def _approve(count: str, checksum: str, warnings: Sequence[str]) -> int:
    print(f"OK: {count}, sha256 {checksum}")
    for warning in warnings:
        print(f"warning: {warning}")
    return 0


def _refuse(error: errors.VmmonitorError) -> int:
    print(error, file=sys.stderr)
    return 1
