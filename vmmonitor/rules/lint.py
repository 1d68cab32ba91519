# SPDX-License-Identifier: Apache-2.0
"""Find parts of a valid rule file that are probably mistakes."""

from collections.abc import Sequence
from typing import Any

from vmmonitor.model import event as events
from vmmonitor.model.event import Event
from vmmonitor.model.instance import Instance
from vmmonitor.rules.filters import Filters
from vmmonitor.rules.policies import WITHOUT_LIMIT, Policies, Policy
from vmmonitor.rules.ruleset import Row

#: First part of an event's type -> its source, where that is not libvirt.
SOURCE_OF = {"recovery": events.AGENT_SOURCE, "liveness": "liveness"}


def lint_filters(filters: Filters) -> list[str]:
    """Return a warning for each probable mistake in a filter file."""
    found = _unreachable_rows(filters.rows)
    found += [_ignored_end(filters, kind) for kind in sorted(events.RUNNING_AGAIN)]
    if all(row.value.action != events.INCIDENT for row in filters.rows):
        found.append("no rule opens an incident")
    found += [
        f"{row.name!r} requests evidence but ignores the event: no evidence is captured"
        for row in filters.rows
        if row.value.evidence and row.value.action == events.IGNORE
    ]
    return [warning for warning in found if warning]


def lint_policies(policies: Policies) -> list[str]:
    """Return a warning for each probable mistake in a policy file, installed drivers aside."""
    found = _unreachable_rows(policies.rows)
    found += [f"step list {name!r} is not used" for name in policies.unused_step_lists]
    for row in policies.rows:
        found += _useless_steps(row.value)
    return found


def _unreachable_rows(rows: Sequence[Row[Any]]) -> list[str]:
    """Return a warning for each row that never decides because of one earlier row.

    Rows that only several earlier rows together make unreachable are not found.
    """
    found = []
    for number, row in enumerate(rows):
        # A row with a rate does not decide about the first events that it matches.
        earlier = next(
            (
                other
                for other in rows[:number]
                if not other.rate and row.match.implies(other.match)
            ),
            None,
        )
        if earlier:
            found.append(
                f"{row.name!r} can never decide: {earlier.name!r} before it matches "
                "every event that it matches"
            )
    return found


def _ignored_end(filters: Filters, kind: str) -> str:
    """Return a warning if the filter ignores a type that resolves incidents, else ''."""
    source = SOURCE_OF.get(kind.partition(".")[0], "libvirt")
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
        f"{decision.rule!r} ignores {kind}: the event does not resolve incidents when their "
        "instance runs again"
    )


def _useless_steps(policy: Policy) -> list[str]:
    found = []
    for number, step in enumerate(policy.steps[:-1], start=1):
        if step.enabled and step.attempts == WITHOUT_LIMIT:
            reason = f"step {number} ({step.driver}) has no limit of attempts"
            found.append(f"{policy.name!r}: the later steps never run: {reason}")
            break
    if policy.steps and not policy.enabled_steps:
        found.append(f"{policy.name!r}: no step is enabled: its incidents are not recovered")
    return found
