# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage filter replay`` and ``policy replay``: what a file would have decided
differently, on what is stored."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from oslo_config import cfg

from vmmonitor.cmd import stored
from vmmonitor.model import errors
from vmmonitor.rules import filters, policies, replay
from vmmonitor.rules.replay import Comparison

if TYPE_CHECKING:
    from vmmonitor.db.session import Database

#: Names that are spelt out.
MOST_NAMES = 20
Replay = Callable[["Database", str, int], tuple[str, Comparison, list[str]]]


def register(verbs: Any, noun: str) -> None:
    """Add ``replay`` to the commands of ``filter`` or ``policy``."""
    what = "tell what a file would have decided differently, on what is stored"
    parser = verbs.add_parser("replay", help=what, description=what)
    parser.add_argument("file", metavar="FILE", help="the rule file")
    parser.add_argument(
        "--since",
        metavar="TIME",
        default="7d",
        help="how long ago to begin (30m, 1h, 7d), or when, in ISO 8601 (default: 7d)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    action, things = {
        "filter": (replay_filter, "events"),
        "policy": (replay_policy, "incidents"),
    }[noun]
    parser.set_defaults(run=lambda conf, args: _run(action, things, conf, args))


# -- filters -------------------------------------------------------------------------------------
def replay_filter(
    database: "Database", path: str, since: int
) -> tuple[str, Comparison, list[str]]:
    """Decide anew about stored events, host by host, as each agent does.

    :param since: microseconds since the epoch, by the clocks of the hosts.
    :returns: checksum of the file, what differs, and what must be known of it.
    """
    from vmmonitor.db import scan

    rules, found = filters.load(path), Comparison()
    notes = ["what was ignored then was never stored, and cannot be looked at"]
    names = {row.name for row in rules.rows} | {filters.DEFAULT, filters.UNDECIDED.rule}
    gone: set[str] = set()
    for host in scan.hosts(database):
        rules.forget()
        for one in scan.events(database, host, since - replay.longest_rate(rules)):
            decision = rules.decide(one.event)
            if one.event.occurred_at < since:
                continue
            if one.decision.rule not in names and len(gone) < replay.MAX_DIFFERENCES:
                gone.add(one.decision.rule)
            old, new = (
                replay.outcome_of_decision(one.decision),
                replay.outcome_of_decision(decision),
            )
            found.add(old, new, replay.example(one.event))
    if counting := [row.name for row in rules.rows if row.rate]:
        notes.append(
            f"rules with a rate ({_names(counting)}) count stored events only: what was ignored "
            "then is missing there"
        )
    if gone:
        notes.append(f"rules that decided then and are not in the file: {_names(gone)}")
    return rules.checksum, found, notes


# -- policies ------------------------------------------------------------------------------------
def replay_policy(
    database: "Database", path: str, since: int
) -> tuple[str, Comparison, list[str]]:
    """Choose anew a policy for each stored incident, by the event that chose the one it had.

    :param since: microseconds since the epoch.
    :returns: as ``replay_filter``.
    """
    from vmmonitor.db import scan

    rules, found = policies.load(path), Comparison()
    gone: set[str] = set()
    lost = nameless = 0
    for page in scan.incidents(database, since):
        with database.reader() as tx:
            lines = scan.steps(tx, [one.incident_id for one in page])
            told = {incident: replay.policy_choice(steps) for incident, steps in lines.items()}
            kept = scan.events_by_id(tx, [event_id for event_id, _ in told.values()])
        for incident in page:
            event_id, plan = told[incident.incident_id]
            if event_id not in kept:
                lost += 1
                continue
            nameless += plan is None
            name = incident.policy if plan is None else plan["policy"]
            if name and rules.get(name) is None and len(gone) < replay.MAX_DIFFERENCES:
                gone.add(name)
            event = kept[event_id].event
            old, new = replay.compare_policies(name, plan, rules.choose(event))
            found.add(old, new, replay.example(event, incident_id=incident.incident_id))
    return rules.checksum, found, _policy_notes(lost, nameless, gone)


def _policy_notes(lost: int, nameless: int, gone: set[str]) -> list[str]:
    notes = ["whether the instance was to run is not asked again: only the choice is replayed"]
    if lost:
        notes.append(f"{lost} more incidents were not looked at: their events are deleted")
    if nameless:
        notes.append(
            f"of {nameless} incidents only the name of the policy is known, not what it was to do"
        )
    if gone:
        notes.append(f"policies that applied then and are not in the file: {_names(gone)}")
    return notes


# -- printing ------------------------------------------------------------------------------------
def _run(action: Replay, things: str, conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    try:
        with stored.opened(conf) as database:
            since = stored.moment(args.since, database.now())
            checksum, found, notes = action(database, args.file, since)
    except ValueError as error:
        print(f"vmmonitor-manage: --since: {error}", file=sys.stderr)
        return 1
    except errors.VmmonitorError as error:
        # What is wrong with a file has its place in front.
        name = "" if isinstance(error, errors.InvalidRules) else "vmmonitor-manage: "
        print(f"{name}{error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(_form(args.file, checksum, since, things, found, notes), indent=2))
    else:
        _print(things, found, notes)
    return 0


def _form(
    path: str, checksum: str, since: int, things: str, found: Comparison, notes: Sequence[str]
) -> dict[str, Any]:
    return {
        "file": path,
        "checksum": checksum,
        "since": stored.time(since),
        "looked_at": found.compared,
        "of": things,
        "differ": found.different,
        "other_action": found.other_action,
        "pairs": [
            {
                "count": pair.count,
                "old": _choice(pair.old),
                "new": _choice(pair.new),
                "examples": [
                    {**one, "occurred_at": stored.time(one["occurred_at"])}
                    for one in pair.examples
                ],
            }
            for pair in found.differences
        ],
        "in_no_pair": found.omitted,
        "notes": notes,
    }


def _choice(choice: replay.RuleOutcome) -> dict[str, str]:
    return {"name": choice.name, "action": choice.action, "detail": choice.detail}


def _print(things: str, found: Comparison, notes: Sequence[str]) -> None:
    for pair in found.differences:
        print(stored.printable(f"{pair.count} x  was: {pair.old}"))
        print(f"{'':{len(str(pair.count))}}    now: {pair.new}")
        for one in pair.examples:
            ident = one.get("incident_id") or one["event_id"]
            who = one["instance_name"] or one["instance_uuid"]
            at = stored.time(one["occurred_at"])
            print(stored.printable(f"      {at}  {one['host']}  {who}  {one['cause']}  {ident}"))
    if found.omitted:
        print(f"{found.omitted} more, in too many pairs to tell them apart")
    for note in notes:
        print(stored.printable(f"note: {note}"))
    other = f", {found.other_action} of them with another action" if found.different else ""
    print(
        f"{found.compared} {things} looked at, "
        f"{found.different} would be decided differently{other}"
    )


def _names(names: Sequence[str] | set[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - MOST_NAMES} more" if len(listed) > MOST_NAMES else ""
    return ", ".join(listed[:MOST_NAMES]) + more
