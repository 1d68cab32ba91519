# SPDX-License-Identifier: Apache-2.0
"""``vmmonitor-manage filter replay`` and ``policy replay``: the stored events and incidents that a
rule file would decide differently."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from oslo_config import cfg

from vmmonitor import text
from vmmonitor.cmd import offline_db
from vmmonitor.model import errors
from vmmonitor.rules import filters, policies, replay
from vmmonitor.rules.replay import Comparison

if TYPE_CHECKING:
    from vmmonitor.db.session import Database

#: Maximum number of names to list.
MAX_NAMES = 20
#: Returns the checksum of the file, the comparison, and notes on its limits.
Replay = Callable[["Database", str, int], tuple[str, Comparison, list[str]]]


def register(verbs: Any, noun: str) -> None:
    """Add ``replay`` to the commands of ``filter`` or ``policy``."""
    things = "events" if noun == "filter" else "incidents"
    description = f"list the stored {things} that a file would decide differently"
    parser = verbs.add_parser("replay", help=description, description=description)
    parser.add_argument("file", metavar="FILE", help="rule file")
    parser.add_argument(
        "--since",
        metavar="TIME",
        default="7d",
        help="start: a duration before now (30m, 1h, 7d) or an ISO 8601 time (default: 7d)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    command = replay_filter if noun == "filter" else replay_policy
    parser.set_defaults(run=functools.partial(_run, command, things))


# -- filters -------------------------------------------------------------------------------------
def replay_filter(
    database: "Database", path: str, since: int
) -> tuple[str, Comparison, list[str]]:
    """Decide again about stored events, host by host like their agents.

    :param since: microseconds since the epoch, by the clocks of the hosts.
    :returns: checksum of the file, the differences, and notes on their limits.
    """
    from vmmonitor.db import scan

    rules, found = filters.load(path), Comparison()
    notes = ["ignored events are not stored, so they are not part of the comparison"]
    names = {row.name for row in rules.rows} | {filters.DEFAULT, filters.FILTER_FAILED.rule}
    missing: set[str] = set()
    for host in scan.hosts(database):
        rules.forget()
        for stored in scan.events(database, host, since - replay.longest_rate(rules)):
            decision = rules.decide(stored.event)
            if stored.event.occurred_at < since:
                continue
            if stored.decision.rule not in names and len(missing) < replay.MAX_DIFFERENCES:
                missing.add(stored.decision.rule)
            old = replay.outcome_of_decision(stored.decision)
            new = replay.outcome_of_decision(decision)
            found.add(old, new, replay.example(stored.event))
    if counting := [row.name for row in rules.rows if row.rate]:
        notes.append(
            f"rules with a rate ({_format_names(counting)}) count stored events only, without "
            "the ignored ones"
        )
    if missing:
        notes.append(
            f"rules that made decisions but are not in the file: {_format_names(missing)}"
        )
    return rules.checksum, found, notes


# -- policies ------------------------------------------------------------------------------------
def replay_policy(
    database: "Database", path: str, since: int
) -> tuple[str, Comparison, list[str]]:
    """Select a policy again for each stored incident, by the event that selected its policy.

    :param since: microseconds since the epoch.
    :returns: as ``replay_filter``.
    """
    from vmmonitor.db import scan

    rules, found = policies.load(path), Comparison()
    missing: set[str] = set()
    lost = without_plan = 0
    for page in scan.incidents(database, since):
        with database.reader() as tx:
            timelines = scan.steps(tx, [incident.incident_id for incident in page])
            choices = {
                ident: replay.policy_choice(entries) for ident, entries in timelines.items()
            }
            events = scan.events_by_id(tx, [event_id for event_id, _ in choices.values()])
        for incident in page:
            event_id, plan = choices[incident.incident_id]
            if event_id not in events:
                lost += 1
                continue
            without_plan += plan is None
            name = incident.policy if plan is None else plan["policy"]
            if name and rules.get(name) is None and len(missing) < replay.MAX_DIFFERENCES:
                missing.add(name)
            event = events[event_id].event
            old, new = replay.compare_policies(name, plan, rules.choose(event))
            found.add(old, new, replay.example(event, incident_id=incident.incident_id))
    return rules.checksum, found, _list_policy_notes(lost, without_plan, missing)


def _list_policy_notes(lost: int, without_plan: int, missing: set[str]) -> list[str]:
    notes = ["only the selection is replayed: no verdict is requested"]
    if lost:
        notes.append(f"{lost} more incidents were not compared: their events are deleted")
    if without_plan:
        notes.append(
            f"of {without_plan} incidents only the name of the policy is stored, not its steps"
        )
    if missing:
        notes.append(f"policies that applied but are not in the file: {_format_names(missing)}")
    return notes


# -- printing ------------------------------------------------------------------------------------
def _run(command: Replay, things: str, conf: cfg.ConfigOpts, args: argparse.Namespace) -> int:
    try:
        with offline_db.open_database(conf) as database:
            since = offline_db.parse_time(args.since, database.now())
            checksum, found, notes = command(database, args.file, since)
    except ValueError as error:
        print(f"vmmonitor-manage: --since: {error}", file=sys.stderr)
        return 1
    except errors.VmmonitorError as error:
        # An error in a file begins with its place.
        name = "" if isinstance(error, errors.InvalidRules) else "vmmonitor-manage: "
        print(f"{name}{error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(_to_json(args.file, checksum, since, things, found, notes), indent=2))
    else:
        _print(things, found, notes)
    return 0


def _to_json(
    path: str, checksum: str, since: int, things: str, found: Comparison, notes: Sequence[str]
) -> dict[str, Any]:
    return {
        "file": path,
        "checksum": checksum,
        "since": offline_db.format_time(since),
        "compared": found.compared,
        "of": things,
        "different": found.different,
        "other_action": found.other_action,
        "differences": [
            {
                "count": difference.count,
                "old": _outcome_to_json(difference.old),
                "new": _outcome_to_json(difference.new),
                "examples": [
                    {**example, "occurred_at": offline_db.format_time(example["occurred_at"])}
                    for example in difference.examples
                ],
            }
            for difference in found.differences
        ],
        "omitted": found.omitted,
        "notes": notes,
    }


def _outcome_to_json(outcome: replay.RuleOutcome) -> dict[str, str]:
    return {"name": outcome.name, "action": outcome.action, "detail": outcome.detail}


def _print(things: str, found: Comparison, notes: Sequence[str]) -> None:
    for difference in found.differences:
        print(text.printable(f"{difference.count} x  was: {difference.old}"))
        print(f"{'':{len(str(difference.count))}}    now: {difference.new}")
        for example in difference.examples:
            ident = example.get("incident_id") or example["event_id"]
            name = example["instance_name"] or example["instance_uuid"]
            at = offline_db.format_time(example["occurred_at"])
            fields = ("", at, example["host"], name, example["cause"], ident)
            print(text.printable(f"    {'  '.join(fields)}"))
    if found.omitted:
        print(f"{found.omitted} more differences are not listed: there are too many distinct ones")
    for note in notes:
        print(text.printable(f"note: {note}"))
    other = f", {found.other_action} of them with another action" if found.different else ""
    print(
        f"compared {found.compared} {things}: "
        f"{found.different} would be decided differently{other}"
    )


def _format_names(names: Sequence[str] | set[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - MAX_NAMES} more" if len(listed) > MAX_NAMES else ""
    return ", ".join(listed[:MAX_NAMES]) + more
