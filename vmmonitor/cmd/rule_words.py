# SPDX-License-Identifier: Apache-2.0
"""How rules and policies did on an event, as ``vmmonitor-manage`` prints it."""

from collections.abc import Iterator, Sequence

from vmmonitor.model.event import Event
from vmmonitor.rules.policies import WITHOUT_LIMIT, Policy, WaitCondition
from vmmonitor.rules.ruleset import Trial


def trials(path: str, event: Event, tried: Sequence[Trial]) -> Iterator[str]:
    """Yield one line for each row of a file that was tried on an event."""
    yield f"{event.cause} from {event.source}, by {path}:"
    for trial in tried:
        yield f"  {trial}"


def plan(policy: Policy | None) -> Iterator[str]:
    """Yield what a policy does, step by step."""
    if policy is None:
        yield "-> no policy: an incident stays open"
        return
    yield f"-> {policy.name}: hold {policy.hold:g} s"
    for number, step in enumerate(policy.steps, start=1):
        if not step.enabled:
            yield f"   step {number}: {step.driver}, disabled"
            continue
        often = "without limit" if step.attempts == WITHOUT_LIMIT else step.attempts
        long = f" {step.wait:g} s" if step.wait_for == WaitCondition.RUNNING else ""
        yield (
            f"   step {number}: {step.driver}, attempts {often}, timeout {step.timeout:g} s, "
            f"wait for {step.wait_for}{long}"
        )
