# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage policy explain INCIDENT``: which policy an incident got, and which one it
would get."""

import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from oslo_config import cfg

from vmmonitor.cmd import rule_words, stored
from vmmonitor.model import errors
from vmmonitor.model.incident import Incident, IncidentKind
from vmmonitor.rules import policies, replay

if TYPE_CHECKING:
    from vmmonitor.db.session import Database

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: (group, option, what it means for an incident), where the option is known.
OPTIONS = (
    ("engine", "expectation", "who is asked whether it failed"),
    ("recovery", "verdict_retry_interval", "seconds until an unknown verdict is queried again"),
    ("recovery", "unknown_limit", "seconds after which a person is told that nobody can"),
    ("recovery", "dry_run", "whether everything is only tried out"),
    ("recovery", "workers", "recoveries that one engine runs at once"),
    ("recovery", "lease", "seconds after which another engine goes on with one"),
)
#: Groups of which every option is told, where they are known: what may keep an incident waiting.
LIMITING = ("limits", "storm")
NOVA = (
    ("nova", "metadata_key", "key of the server's metadata that opts in or out"),
    ("nova", "recover_by_default", "whether a server without it is recovered"),
    ("nova", "recover_locked", "whether a locked server is recovered"),
)


def is_id(text: str) -> bool:
    """Tell whether a text is an incident's id."""
    return bool(_ID.fullmatch(text))


def explain(conf: cfg.ConfigOpts, incident_id: str, path: str) -> int:
    """Print how each policy of a file does on an incident, what it would do, and what the one did
    that it got; 1 if that cannot be told.

    :param path: the file.
    """
    try:
        rules = policies.load(path)
        with stored.opened(conf) as database:
            for line in _explained(conf, database, rules, incident_id):
                print(line)
    except errors.VmmonitorError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _explained(
    conf: cfg.ConfigOpts, database: "Database", rules: policies.Policies, incident_id: str
) -> Iterator[str]:
    from vmmonitor.db import events, incidents, timeline_entries

    with database.reader() as tx:
        incident = incidents.get(tx, incident_id)
        event_id, told = replay.policy_choice(timeline_entries.of_incident(tx, incident_id))
        _check(incident, event_id)
        chosen_by = events.get(tx, event_id)
    who = incident.instance.name or incident.instance.uuid
    at = stored.time(incident.opened_at)
    yield stored.printable(
        f"incident of instance {who} on host {incident.host}, opened {at}, {incident.state}"
    )
    event = chosen_by.event
    yield f"its policy was chosen by event {event_id}:"
    yield from rule_words.trials(rules.path, event, rules.explain(event))
    policy = rules.choose(event)
    yield from rule_words.plan(policy)
    name = incident.policy if told is None else str(told["policy"])
    old, new = replay.compare_policies(name, told, policy)
    if old == new:
        yield f"it got the same: {old.name or 'no policy'}"
    else:
        yield stored.printable(f"it got another one: {old}")
    if name and rules.get(name) is None:
        yield stored.printable(f"policy {name} is not in the file")
    yield "what else matters, as this machine is configured:"
    nova = NOVA if conf.engine.expectation == "nova" else ()
    for group, option, meaning in (*OPTIONS, *nova):
        if option in conf[group]:
            yield f"   [{group}] {option} = {conf[group][option]}: {meaning}"
    for group in LIMITING:
        for option, value in conf[group].items() if group in conf else ():
            yield f"   [{group}] {option} = {value}"


def _check(incident: Incident, event_id: str) -> None:
    """Check that there is something to explain."""
    if incident.kind != IncidentKind.INSTANCE:
        raise errors.NotFound("No policy acts on a host that is not watched")
    if not event_id:
        raise errors.NotFound("The incident does not tell which event chose its policy")
