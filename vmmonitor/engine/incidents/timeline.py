# SPDX-License-Identifier: Apache-2.0
"""What time lines say of questions and their answers, of plans and of calls. Pure.

The message of a line is for whoever reads the line alone; its data says the same in parts, of
which ``incident explain`` makes its story.
"""

import dataclasses
from typing import Any

from vmmonitor.expectation import Expectation
from vmmonitor.model.event import Event
from vmmonitor.model.incident import Verdict
from vmmonitor.model.recovery import Outcome, Recovery
from vmmonitor.rules import policies
from vmmonitor.rules.policies import WITHOUT_LIMIT, Policy, PolicyStep

#: Microseconds from which on a line says how long an answer took.
TOLD = 1000


# -- the expectation ---------------------------------------------------------------------------
def answered(verdict: Verdict, expectation: Expectation, took: int) -> Verdict:
    """Return a verdict that says who was asked, and how long the answer took.

    :param took: microseconds.
    """
    return dataclasses.replace(
        verdict,
        asked=verdict.asked or expectation.ASKED,
        question=verdict.question or expectation.QUESTION,
        took=took,
    )


def message(verdict: Verdict) -> str:
    """Return a question and its answer as one line."""
    if not verdict.asked:
        return f"{verdict.kind}: {verdict.reason}"
    took = f" ({verdict.took / 1000:,.0f} ms)" if verdict.took >= TOLD else ""
    asked = f"asked {verdict.asked} {verdict.question}"
    return f"{asked}: {verdict.reason} -> {verdict.kind}{took}"


def data(verdict: Verdict) -> dict[str, Any]:
    """Return the parts of ``message``."""
    return {
        "asked": verdict.asked,
        "question": verdict.question,
        "answer": verdict.reason,
        "verdict": verdict.kind,
        "ms": verdict.took / 1000,
    }


# -- the policy --------------------------------------------------------------------------------
def chosen(policy: Policy | None, event: Event) -> dict[str, Any]:
    """Return what a policy would do about the event that chose it, as it was in force then."""
    name = policy.name if policy else ""
    return {"event_id": event.event_id, "policy": name, **policies.describe(policy)}


def hold_message(policy: Policy | None) -> str:
    """Return the message of a hold."""
    if policy is None:
        return "no policy matches: nothing will act"
    if not policy.hold:
        return f"policy {policy.name}: no hold"
    return f"policy {policy.name}: held for {policy.hold:g} s"


def next_attempt(step: PolicyStep, attempt: int, delay: float) -> str:
    """Return the line that says that the same is tried again.

    :param delay: seconds.
    """
    if step.attempts == WITHOUT_LIMIT:
        return f"attempt {attempt}, of any number, in {delay:.1f} s"
    return f"attempt {attempt} of {step.attempts} in {delay:.1f} s"


def next_step(policy: Policy, index: int) -> str:
    """Return the line that says that another step is tried.

    :param index: of the step, from 0.
    """
    return f"next step, {index + 1} of {len(policy.steps)}: {policy.steps[index].driver}"


# -- the driver --------------------------------------------------------------------------------
def call(policy: Policy, recovery: Recovery) -> dict[str, Any]:
    """Return what a driver is asked, as data of the line that says that it is called."""
    step = policy.steps[recovery.step]
    return {
        "asked": recovery.driver,
        "question": "to bring it back",
        "attempt": recovery.attempt,
        "attempts": step.attempts,
        "step": recovery.step + 1,
        "steps": len(policy.steps),
        "timeout": step.timeout,
    }


def answer(outcome: Outcome, step: PolicyStep, recovery: Recovery, now: int) -> dict[str, Any]:
    """Return what a driver answered, as data of the line that says what came of it.

    :param now: microseconds since the epoch, engines' clock.
    """
    told: dict[str, Any] = {
        "asked": recovery.driver,
        "answer": outcome.message,
        "outcome": outcome.move,
        "wait": step.wait,
    }
    if recovery.called_at is not None:
        told["ms"] = (now - recovery.called_at) / 1000
    return told
