# SPDX-License-Identifier: Apache-2.0
"""What is allowed in a rule file, and yet surely not meant."""

from collections.abc import Sequence
from typing import Any

from vmmonitor.model import event as events
from vmmonitor.model.event import Event
from vmmonitor.model.instance import Instance
from vmmonitor.rules.filters import Filters
from vmmonitor.rules.ordered import Row
from vmmonitor.rules.policies import WITHOUT_LIMIT, Policies, Policy

#: First part of an event's type -> the source that says it, where that is not libvirt.
SAID_BY = {"recovery": events.AGENT_SOURCE, "liveness": "liveness"}


def warnings(filters: Filters) -> list[str]:
    """Return, for a person, what in a filter file is surely not meant; empty if nothing is."""
    found = _unreachable(filters.rows)
    found += [_unresolvable(filters, kind) for kind in sorted(events.RUNNING_AGAIN)]
    if all(row.value.action != events.INCIDENT for row in filters.rows):
        found.append("no rule opens an incident")
    found += [
        f"{row.name!r} asks for evidence of what it ignores: there will be none"
        for row in filters.rows
        if row.value.evidence and row.value.action == events.IGNORE
    ]
    return [warning for warning in found if warning]


def policy_warnings(policies: Policies) -> list[str]:
    """Return the same for a file of recovery policies. Knows nothing of installed drivers."""
    found = _unreachable(policies.rows)
    found += [f"step list {name!r} is not used" for name in policies.unused_step_lists]
    for row in policies.rows:
        found += _useless_steps(row.value)
    return found


def _unreachable(rows: Sequence[Row[Any]]) -> list[str]:
    """Return the rows that an earlier one always forestalls. Only one-to-one cases are found."""
    found = []
    for number, row in enumerate(rows):
        # One with a rate lets the first events by.
        earlier = next(
            (one for one in rows[:number] if not one.rate and row.match.implies(one.match)), None
        )
        if earlier:
            found.append(
                f"{row.name!r} can never decide: {earlier.name!r} before it matches "
                "every event that it matches"
            )
    return found


def _unresolvable(filters: Filters, kind: str) -> str:
    """Return the warning if an instance that runs again is not told; empty if it is."""
    source = SAID_BY.get(kind.partition(".")[0], "libvirt")
    decision = filters.decide(
        Event(
            event_id="example",
            host="example",
            instance=Instance(uuid="00000000-0000-0000-0000-000000000000"),
            source=source,
            type=kind,
            detail="",
            occurred_at=0,
        )
    )
    if decision.action != events.IGNORE:
        return ""
    return (
        f"{decision.rule!r} ignores {kind}: incidents are not resolved by it when their "
        "instance runs again"
    )


def _useless_steps(policy: Policy) -> list[str]:
    found = []
    for number, step in enumerate(policy.steps[:-1], start=1):
        if step.enabled and step.attempts == WITHOUT_LIMIT:
            reason = f"step {number} ({step.driver}) never ends"
            found.append(f"{policy.name!r}: the steps after it are never tried: {reason}")
            break
    if policy.steps and not policy.enabled_steps:
        found.append(f"{policy.name!r}: no step is enabled: its incidents are not recovered")
    return found
