# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage filter explain`` and ``policy explain``.

They show the rule or policy that decides about an event, and the policy that an incident got and
would get now.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from oslo_config import cfg

from vmmonitor import text
from vmmonitor.cmd import launcher, offline_db
from vmmonitor.model import errors
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Incident, IncidentKind
from vmmonitor.rpc import event_wire
from vmmonitor.rules import filters, policies, replay
from vmmonitor.rules.policies import WITHOUT_LIMIT, Policy, WaitCondition
from vmmonitor.rules.ruleset import Trial

if TYPE_CHECKING:
    from vmmonitor.db.session import Database

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Defaults of the fields that an event on the command line may omit.
_EVENT_DEFAULTS = {
    "event_id": "00000000-0000-0000-0000-000000000000",
    "host": "example",
    "source": "libvirt",
    "occurred_at": 0,
}
_INSTANCE_DEFAULTS = {"uuid": "00000000-0000-0000-0000-000000000000"}

#: (group, option, effect on an incident)
_OPTIONS = (
    ("engine", "expectation", "source of the verdict"),
    ("recovery", "verdict_retry_interval", "seconds until an unknown verdict is queried again"),
    ("recovery", "unknown_limit", "seconds until an incident with an unknown verdict is held"),
    ("recovery", "dry_run", "whether drivers are not called"),
    ("recovery", "workers", "concurrent recoveries of one engine process"),
    ("recovery", "lease", "seconds until another engine takes over a recovery"),
)
#: Groups of the options that can delay a recovery; each option is printed.
LIMITING = ("limits", "storm")
NOVA = (
    ("nova", "metadata_key", "key of the server metadata that enables or disables recovery"),
    ("nova", "recover_by_default", "whether servers without a setting are recovered"),
    ("nova", "recover_locked", "whether locked servers are recovered"),
)


def explain_filter(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Print the result of each rule for an event and the decision; return 1 for invalid input."""
    try:
        event = _read_event(args.event)
        loaded = filters.load(args.file or launcher.filter_file(conf))
    except errors.VmmonitorError as error:
        print(error, file=sys.stderr)
        return 1
    _print(_format_trials(loaded.path, event, loaded.explain(event)))
    decision = loaded.decide(event)
    evidence = f", with {', '.join(decision.evidence)}" if decision.evidence else ""
    print(f"-> {decision.action}, {decision.severity}, by {decision.rule}{evidence}")
    return 0


def explain_policy(conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    """Print the result of each policy for an event or an incident, and the steps of the selected
    policy; return 1 for invalid input.
    """
    path = args.file or launcher.policy_file(conf)
    try:
        if is_id(args.event):
            loaded = policies.load(path)
            with offline_db.open_database(conf) as database:
                _print(_explain_incident(conf, database, loaded, args.event))
            return 0
        event = _read_event(args.event)
        loaded = policies.load(path)
    except errors.VmmonitorError as error:
        print(error, file=sys.stderr)
        return 1
    _print(_format_trials(loaded.path, event, loaded.explain(event)))
    _print(_format_plan(loaded.choose(event)))
    return 0


def is_id(value: str) -> bool:
    """Return whether a text is the id of an incident."""
    return bool(_ID.fullmatch(value))


def _explain_incident(
    conf: cfg.ConfigOpts, database: "Database", rules: policies.Policies, incident_id: str
) -> Iterator[str]:
    from vmmonitor.db import events, incidents, timeline_entries

    with database.reader() as tx:
        incident = incidents.get(tx, incident_id)
        entries = timeline_entries.of_incident(tx, incident_id)
        event_id, plan = replay.policy_choice(entries)
        _check_policy_event(incident, event_id)
        event = events.get(tx, event_id).event
    name = incident.instance.name or incident.instance.uuid
    opened_at = offline_db.format_time(incident.opened_at)
    yield text.printable(
        f"incident of instance {name} on host {incident.host}, opened {opened_at}, "
        f"{incident.state}"
    )
    yield f"its policy was selected by event {event_id}:"
    yield from _format_trials(rules.path, event, rules.explain(event))
    policy = rules.choose(event)
    yield from _format_plan(policy)
    policy_name = incident.policy if plan is None else str(plan["policy"])
    old, new = replay.compare_policies(policy_name, plan, policy)
    if old == new:
        yield f"the incident got the same policy: {old.name or 'no policy'}"
    else:
        yield text.printable(f"the incident got another policy: {old}")
    if policy_name and rules.get(policy_name) is None:
        yield text.printable(f"policy {policy_name} is not in the file")
    yield from _format_options(conf)


def _format_options(conf: cfg.ConfigOpts) -> Iterator[str]:
    yield "options of this host that affect the recovery:"
    nova = NOVA if conf.engine.expectation == "nova" else ()
    for group, option, effect in (*_OPTIONS, *nova):
        yield f"   [{group}] {option} = {conf[group][option]}: {effect}"
    for group in LIMITING:
        for option, value in conf[group].items():
            yield f"   [{group}] {option} = {value}"


def _check_policy_event(incident: Incident, event_id: str) -> None:
    """Check that an event selected the policy of an incident.

    :raises vmmonitor.model.errors.NotFound: no event did.
    """
    if incident.kind != IncidentKind.INSTANCE:
        raise errors.NotFound("Policies apply only to incidents of instances")
    if not event_id:
        raise errors.NotFound("The timeline does not contain the event that selected the policy")


def _format_trials(path: str, event: Event, trials: Sequence[Trial]) -> Iterator[str]:
    """Yield one line for each row of a rule file that was compared with an event."""
    yield f"{event.cause} from {event.source}, by {path}:"
    for trial in trials:
        yield f"  {trial}"


def _format_plan(policy: Policy | None) -> Iterator[str]:
    """Yield the steps of a policy."""
    if policy is None:
        yield "-> no policy: the incident becomes unhandled"
        return
    yield f"-> {policy.name}: hold {policy.hold:g} s"
    for number, step in enumerate(policy.steps, start=1):
        if not step.enabled:
            yield f"   step {number}: {step.driver}, disabled"
            continue
        attempts = "unlimited" if step.attempts == WITHOUT_LIMIT else step.attempts
        wait = f" {step.wait:g} s" if step.wait_for == WaitCondition.RUNNING else ""
        yield (
            f"   step {number}: {step.driver}, attempts {attempts}, timeout {step.timeout:g} s, "
            f"wait for {step.wait_for}{wait}"
        )


def _read_event(path: str) -> Event:
    """Return the event in a JSON file; fields that rules do not need may be omitted.

    :param path: path of the file; ``-`` for stdin.
    :raises vmmonitor.model.errors.InvalidMessage: the file cannot be read, or is not an event.
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
        raise errors.InvalidMessage(f"{path}: not valid JSON: {error}") from None
    if isinstance(form, dict):
        form = _EVENT_DEFAULTS | form
        instance = form.get("instance", {})
        if isinstance(instance, dict):
            form["instance"] = _INSTANCE_DEFAULTS | instance
    try:
        return event_wire.read_event(form)
    except errors.InvalidMessage as error:
        raise errors.InvalidMessage(f"{path}: {error}") from None


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        print(line)
