# SPDX-License-Identifier: Apache-2.0
"""What other rules would have made of what happened. Pure; its memory does not grow with what is
looked at."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmmonitor.model.event import Decision, Event
from vmmonitor.model.incident import Step
from vmmonitor.rules import plan
from vmmonitor.rules.filters import Filters
from vmmonitor.rules.policies import WITHOUT_LIMIT, Policy

#: Examples that are kept of each pair, and pairs that are told apart.
EXAMPLES = 3
MAX_PAIRS = 1000
SECOND = 1_000_000
#: Outcome of a policy that has a step to try, and of one that has none.
RECOVER = "recover"
LEAVE = "leave"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What was decided, or would be.

    :param name: of the rule or the policy; empty if no policy matches.
    :param action: what follows: one of an event's ACTIONS; RECOVER or LEAVE for a policy.
    :param detail: what else tells it from another choice, for a person.
    """

    name: str
    action: str
    detail: str

    def __str__(self) -> str:
        """Return it for a person."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.action}, by {self.name or 'no policy'}{detail}"


@dataclasses.dataclass(kw_only=True, slots=True)
class Pair:
    """An old and a new choice that differ, as often as that was found."""

    old: Choice
    new: Choice
    count: int = 0
    examples: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)


class Differences:
    """Counts what would be decided differently.

    :ivar looked_at: all of it.
    :ivar differ: what would be decided differently.
    :ivar acted: of that, what would be followed by another action.
    :ivar untold: of that, what belongs to no pair, as there were too many.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.looked_at = self.differ = self.acted = self.untold = 0
        self._pairs: dict[tuple[Choice, Choice], Pair] = {}

    def look(self, old: Choice, new: Choice, example: Mapping[str, Any]) -> None:
        """Count one choice.

        :param example: what names the thing on which it was made.
        """
        self.looked_at += 1
        if old == new:
            return
        self.differ += 1
        self.acted += old.action != new.action
        pair = self._pairs.get((old, new))
        if pair is None:
            if len(self._pairs) >= MAX_PAIRS:
                self.untold += 1
                return
            pair = self._pairs[old, new] = Pair(old=old, new=new)
        pair.count += 1
        if len(pair.examples) < EXAMPLES:
            pair.examples.append(example)

    @property
    def pairs(self) -> list[Pair]:
        """The pairs, the most frequent first."""
        return sorted(self._pairs.values(), key=lambda pair: -pair.count)


# -- filters -------------------------------------------------------------------------------------
def of_decision(decision: Decision) -> Choice:
    """Return the choice that a filter made."""
    return Choice(name=decision.rule, action=decision.action, detail=decision.severity)


def memory(filters: Filters) -> int:
    """Return for how long a filter remembers events, in microseconds."""
    return round(max((row.rate.seconds for row in filters.rows if row.rate), default=0) * SECOND)


# -- policies ------------------------------------------------------------------------------------
def deciding(steps: Sequence[Step]) -> tuple[str, Mapping[str, Any] | None]:
    """Return the id of the event that chose an incident's policy last, empty if its time line
    does not tell it, and that policy's plan, None if that is not told.

    :param steps: the incident's, in the order in which they were written.
    """
    event_id = ""
    for step in reversed(steps):
        if step.kind == "hold" and "policy" in step.data:
            return str(step.data["event_id"]), step.data
        if step.kind == "decision" and not event_id:
            event_id = str(step.data.get("event_id", ""))
    return event_id, None


def of_policies(
    name: str, told: Mapping[str, Any] | None, policy: Policy | None
) -> tuple[Choice, Choice]:
    """Return what a policy was to do about an incident, and what another one would.

    :param name: of the policy that applied; empty if none did.
    :param told: its plan, as the time line tells it; None: only the names are compared.
    :param policy: what would apply; None if none would.
    """
    new_name = policy.name if policy else ""
    now = plan.of(policy)
    if told is None:
        # What it was to do is not known: so that nothing differs but the name.
        action = _action(now["steps"])
        return (
            Choice(name=name, action=action, detail=""),
            Choice(name=new_name, action=action, detail=""),
        )
    old, new = (_plan(told), _plan(now)) if name != new_name else _changes(told, now)
    return (
        Choice(name=name, action=_action(told["steps"]), detail=old),
        Choice(name=new_name, action=_action(now["steps"]), detail=new),
    )


def _action(steps: Sequence[Mapping[str, Any]]) -> str:
    return RECOVER if any(step["enabled"] for step in steps) else LEAVE


def _plan(told: Mapping[str, Any]) -> str:
    """Return a plan in one line."""
    steps = [
        f"{step['driver']} {'without limit' if often == WITHOUT_LIMIT else f'{often} x'}"
        for step in told["steps"]
        if step["enabled"] and (often := step["attempts"])
    ]
    return "; ".join([f"hold {told['hold']:g} s", *steps])


def _changes(told: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str]:
    """Return what differs between two plans of one name, each with its own value."""
    changed = [
        *_differing("", {**told, "steps": ()}, {**now, "steps": ()}),
        *_differing("step", told["steps"], now["steps"]),
    ]
    return (
        ", ".join(f"{path} {old}" for path, old, _ in changed),
        ", ".join(f"{path} {new}" for path, _, new in changed),
    )


def _differing(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield (where, old, new); what only one of two mappings has is of another version."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in old:
            if name in new:
                yield from _differing(f"{path} {name}".strip(), old[name], new[name])
    elif isinstance(old, list) and isinstance(new, list):
        for number in range(max(len(old), len(new))):
            pair = (old[number : number + 1], new[number : number + 1])
            both = pair[0] and pair[1]
            before, after = (
                (pair[0][0], pair[1][0]) if both else (_driver(pair[0]), _driver(pair[1]))
            )
            yield from _differing(f"{path} {number + 1}", before, after)
    elif old != new:
        yield path, old, new


def _driver(steps: Sequence[Mapping[str, Any]]) -> str:
    return str(steps[0]["driver"]) if steps else "none"


# -- examples ------------------------------------------------------------------------------------
def example(event: Event, **facts: Any) -> dict[str, Any]:
    """Return what names an event to a person."""
    return {
        **facts,
        "event_id": event.event_id,
        "occurred_at": event.occurred_at,
        "host": event.host,
        "instance_uuid": event.instance.uuid,
        "instance_name": event.instance.name,
        "cause": event.cause,
    }
