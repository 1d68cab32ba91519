# SPDX-License-Identifier: Apache-2.0
"""Texts and data of timeline entries about verdicts, policies and driver calls. Pure.

The message of an entry is for operators. Its data has the same content in parts;
``incident explain`` composes its output from them.
"""

import dataclasses
from typing import Any

from vmmonitor.expectation import Expectation
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Verdict
from vmmonitor.model.recovery import Outcome, Recovery
from vmmonitor.rules import policies
from vmmonitor.rules.policies import WITHOUT_LIMIT, Policy, PolicyStep

#: Minimum duration of a query, in microseconds, that a message contains.
MIN_DURATION = 1000


# -- the expectation ---------------------------------------------------------------------------
def with_query(verdict: Verdict, expectation: Expectation, took: int) -> Verdict:
    """Return a verdict with the service that was queried, and the duration of the query.

    :param took: microseconds.
    """
    return dataclasses.replace(
        verdict,
        asked=verdict.asked or expectation.ASKED,
        question=verdict.question or expectation.QUESTION,
        took=took,
    )


def verdict_message(verdict: Verdict) -> str:
    """Return the message about a query of the expectation and its answer."""
    if not verdict.asked:
        return f"{verdict.kind}: {verdict.reason}"
    took = f" ({verdict.took / 1000:,.0f} ms)" if verdict.took >= MIN_DURATION else ""
    asked = f"asked {verdict.asked} {verdict.question}"
    return f"{asked}: {verdict.reason} -> {verdict.kind}{took}"


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """Return the parts of ``verdict_message``."""
    return {
        "asked": verdict.asked,
        "question": verdict.question,
        "answer": verdict.reason,
        "verdict": verdict.kind,
        "ms": verdict.took / 1000,
    }


# -- the policy --------------------------------------------------------------------------------
def policy_data(policy: Policy | None, event: Event) -> dict[str, Any]:
    """Return a policy as it was in force when an event selected it."""
    name = policy.name if policy else ""
    return {"event_id": event.event_id, "policy": name, **policies.describe(policy)}


def hold_message(policy: Policy | None) -> str:
    """Return the message of a hold."""
    if policy is None:
        return "no policy matches: no recovery"
    if not policy.hold:
        return f"policy {policy.name}: no hold"
    return f"policy {policy.name}: held for {policy.hold:g} s"


def next_attempt_message(step: PolicyStep, attempt: int, delay: float) -> str:
    """Return the message about the next attempt of the same step.

    :param delay: seconds.
    """
    if step.attempts == WITHOUT_LIMIT:
        return f"attempt {attempt}, of any number, in {delay:.1f} s"
    return f"attempt {attempt} of {step.attempts} in {delay:.1f} s"


def next_step_message(policy: Policy, index: int, delay: float = 0.0) -> str:
    """Return the message about the next step.

    :param index: of the step, from 0.
    :param delay: time until an order of the step before has expired, in seconds.
    """
    message = f"next step, {index + 1} of {len(policy.steps)}: {policy.steps[index].driver}"
    wait = f"in {delay:.1f} s, when the order without an answer has expired"
    return f"{message}, {wait}" if delay > 0 else message


# -- the driver --------------------------------------------------------------------------------
def call_data(policy: Policy, recovery: Recovery) -> dict[str, Any]:
    """Return the data of the entry about the call of a driver."""
    step = policy.steps[recovery.step]
    return {
        "asked": recovery.driver,
        "question": "to recover the instance",
        "attempt": recovery.attempt,
        "attempts": step.attempts,
        "step": recovery.step + 1,
        "steps": len(policy.steps),
        "timeout": step.timeout,
    }


def outcome_data(
    outcome: Outcome, step: PolicyStep, recovery: Recovery, now: int
) -> dict[str, Any]:
    """Return the data of the entry about the answer of a driver.

    :param now: microseconds since the epoch, engines' clock.
    """
    data: dict[str, Any] = {
        "asked": recovery.driver,
        "answer": outcome.message,
        "outcome": outcome.move,
        "wait": step.wait,
    }
    if recovery.called_at is not None:
        data["ms"] = (now - recovery.called_at) / 1000
    return data
