# SPDX-License-Identifier: Apache-2.0
"""Compare the decisions of stored events and incidents with those of other rules.

Pure; the memory used does not grow with the number of compared decisions.
"""

import dataclasses
import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import Decision, Event
from vmmonitor.model.timeline import TimelineEntry
from vmmonitor.rules import policies
from vmmonitor.rules.filters import Filters
from vmmonitor.rules.policies import WITHOUT_LIMIT, Policy

#: Maximum number of examples of each difference, and of distinct differences.
EXAMPLES = 3
MAX_DIFFERENCES = 1000


class PolicyAction(enum.StrEnum):
    """The action of a policy on an incident."""

    RECOVER = "recover"
    #: No step is enabled: the incident is left to an operator.
    LEAVE = "leave"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RuleOutcome:
    """The decision of a rule or a policy, made or hypothetical.

    :param name: name of the rule or policy; '' if no policy matches.
    :param action: action of the filter's decision, or a PolicyAction.
    :param detail: further text that distinguishes the outcome from others.
    """

    name: str
    action: str
    detail: str

    def __str__(self) -> str:
        """Return the outcome as text."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.action}, by {self.name or 'no policy'}{detail}"


@dataclasses.dataclass(kw_only=True, slots=True)
class Difference:
    """An old and a new outcome that differ, with the number of times."""

    old: RuleOutcome
    new: RuleOutcome
    count: int = 0
    examples: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)


class Comparison:
    """Counts the decisions that would differ.

    :ivar compared: number of compared decisions.
    :ivar different: number of decisions that differ.
    :ivar other_action: number of those whose action differs.
    :ivar omitted: number of those that belong to no listed difference, because there are too many.
    """

    def __init__(self) -> None:
        """Create an empty comparison."""
        self.compared = self.different = self.other_action = self.omitted = 0
        self._differences: dict[tuple[RuleOutcome, RuleOutcome], Difference] = {}

    def add(self, old: RuleOutcome, new: RuleOutcome, example: Mapping[str, Any]) -> None:
        """Count one decision.

        :param example: identifies the event or incident of the decision.
        """
        self.compared += 1
        if old == new:
            return
        self.different += 1
        self.other_action += old.action != new.action
        difference = self._differences.get((old, new))
        if difference is None:
            if len(self._differences) >= MAX_DIFFERENCES:
                self.omitted += 1
                return
            difference = self._differences[old, new] = Difference(old=old, new=new)
        difference.count += 1
        if len(difference.examples) < EXAMPLES:
            difference.examples.append(example)

    @property
    def differences(self) -> list[Difference]:
        """The differences, the most frequent first."""
        return sorted(self._differences.values(), key=lambda difference: -difference.count)


# -- filters -------------------------------------------------------------------------------------
def outcome_of_decision(decision: Decision) -> RuleOutcome:
    """Return the outcome of a filter's decision."""
    return RuleOutcome(name=decision.rule, action=decision.action, detail=decision.severity)


def longest_rate(filters: Filters) -> int:
    """Return the longest period of the filter's rates, in microseconds."""
    return round(max((row.rate.seconds for row in filters.rows if row.rate), default=0) * SECOND)


# -- policies ------------------------------------------------------------------------------------
def policy_choice(steps: Sequence[TimelineEntry]) -> tuple[str, Mapping[str, Any] | None]:
    """Return the event that last chose an incident's policy, and the plan of that policy.

    :param steps: timeline of the incident, oldest entry first.
    :returns: the event's id, '' if the timeline does not contain it; the plan, None likewise.
    """
    event_id = ""
    for step in reversed(steps):
        if step.kind == "hold" and "policy" in step.data:
            return str(step.data["event_id"]), step.data
        if step.kind == "decision" and not event_id:
            event_id = str(step.data.get("event_id", ""))
    return event_id, None


def compare_policies(
    name: str, plan: Mapping[str, Any] | None, policy: Policy | None
) -> tuple[RuleOutcome, RuleOutcome]:
    """Return the outcomes of the policy that applied to an incident and of another policy.

    :param name: name of the policy that applied; '' if no policy did.
    :param plan: its plan from the timeline; None to compare only the names.
    :param policy: the policy that would apply; None if no policy would.
    """
    new_name = policy.name if policy else ""
    new_plan = policies.describe(policy)
    if plan is None:
        # The old action is unknown; the same action on both sides leaves only the names to differ.
        action = _action(new_plan["steps"])
        return (
            RuleOutcome(name=name, action=action, detail=""),
            RuleOutcome(name=new_name, action=action, detail=""),
        )
    if name != new_name:
        old, new = _summary(plan), _summary(new_plan)
    else:
        old, new = _plan_changes(plan, new_plan)
    return (
        RuleOutcome(name=name, action=_action(plan["steps"]), detail=old),
        RuleOutcome(name=new_name, action=_action(new_plan["steps"]), detail=new),
    )


def _action(steps: Sequence[Mapping[str, Any]]) -> PolicyAction:
    is_enabled = any(step["enabled"] for step in steps)
    return PolicyAction.RECOVER if is_enabled else PolicyAction.LEAVE


def _summary(plan: Mapping[str, Any]) -> str:
    """Return a plan in one line."""
    steps = []
    for step in plan["steps"]:
        if step["enabled"]:
            attempts = step["attempts"]
            times = "without limit" if attempts == WITHOUT_LIMIT else f"{attempts} x"
            steps.append(f"{step['driver']} {times}")
    return "; ".join([f"hold {plan['hold']:g} s", *steps])


def _plan_changes(old_plan: Mapping[str, Any], new_plan: Mapping[str, Any]) -> tuple[str, str]:
    """Return the fields that differ in the old and the new plan, with their values there."""
    changed = [
        *_changed_fields("", {**old_plan, "steps": ()}, {**new_plan, "steps": ()}),
        *_changed_fields("step", old_plan["steps"], new_plan["steps"]),
    ]
    return (
        ", ".join(f"{path} {old}" for path, old, _ in changed),
        ", ".join(f"{path} {new}" for path, _, new in changed),
    )


def _changed_fields(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, old value, new value) of each difference.

    A key in only one of two mappings comes from another version and is skipped.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in old:
            if name in new:
                yield from _changed_fields(f"{path} {name}".strip(), old[name], new[name])
    elif isinstance(old, list) and isinstance(new, list):
        for number in range(max(len(old), len(new))):
            if number < min(len(old), len(new)):
                before, after = old[number], new[number]
            else:
                before, after = _driver_at(old, number), _driver_at(new, number)
            yield from _changed_fields(f"{path} {number + 1}", before, after)
    elif old != new:
        yield path, old, new


def _driver_at(steps: Sequence[Mapping[str, Any]], number: int) -> str:
    return str(steps[number]["driver"]) if number < len(steps) else "none"


# -- examples ------------------------------------------------------------------------------------
def example(event: Event, **facts: Any) -> dict[str, Any]:
    """Return the values that identify an event, and further facts."""
    return {
        **facts,
        "event_id": event.event_id,
        "occurred_at": event.occurred_at,
        "host": event.host,
        "instance_uuid": event.instance.uuid,
        "instance_name": event.instance.name,
        "cause": event.cause,
    }
