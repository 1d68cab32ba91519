# SPDX-License-Identifier: Apache-2.0
"""The state of an incident in sentences, and the steps that follow without an intervention."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmmonitor.client import descriptions

Incident = Mapping[str, Any]
#: (title, sentence)
Fact = tuple[str, str]

ACTIVE = ("requested", "running", "waiting")
_WITHOUT_LIMIT = -1
#: Kind of an incident -> state that lasts as long as the incident is open.
ABSENT = {"instance": "not seen running", "host": "not monitored"}
#: Beginning of a reason that repeats the headline.
_RUNS_AGAIN = "the instance runs again"
#: A later time means indefinitely.
NEVER = datetime.timedelta(days=366)


def headline(incident: Incident) -> str:
    """Return the state of an incident in one sentence."""
    kind, state = incident["kind"], incident["state"]
    sentences = {"host": descriptions.HOST_STATES, "storm": descriptions.STORM}.get(
        kind, descriptions.INSTANCE_STATES
    )
    instance = incident["instance"]
    name = instance["name"] or instance["hypervisor_name"] or instance["uuid"]
    subject = f"Instance {name}" if name else f"{kind.capitalize()} of host {incident['host']}"
    if kind == "host":
        subject = f"Host {incident['host']}"
    if kind == "instance" and state == "resolved" and not _was_seen_running(incident):
        return f"{subject} {descriptions.RESOLVED_WITHOUT_RUNNING}"
    return f"{subject} {sentences.get(state, f'is {state}.')}"


def _was_seen_running(incident: Incident) -> bool:
    """Return whether the instance was seen running, and not only its incident resolved."""
    return bool(incident["running_at"]) or incident["reason"].startswith(_RUNS_AGAIN)


def summarize(incident: Incident, now: datetime.datetime) -> Iterator[Fact]:
    """Yield the current state, its reason and the next steps.

    :param now: the client's clock.
    """
    yield "cause", _describe_cause(incident)
    if not incident["reason"].startswith(_RUNS_AGAIN):
        yield "why so", incident["reason"]
    if reason := descriptions.HOLD_REASONS.get(incident.get("held_by", "")):
        yield "held by", reason
    if downtime := _describe_downtime(incident, now):
        yield "down", downtime
    if tried := _describe_attempts(incident):
        yield "tried", tried
    yield from _list_next_steps(incident, now)
    if incident["kind"] == "instance":
        yield from _list_commands(incident)


def plan(incident: Incident) -> Mapping[str, Any]:
    """Return the plan of the policy that applies, as it was in force when it was selected.

    Return an empty mapping if the timeline does not contain it, or if an operator chose another
    policy.
    """
    plans = [
        entry["data"]
        for entry in incident["timeline"]
        if entry["kind"] == "hold" and isinstance(entry["data"].get("steps"), list)
    ]
    return plans[-1] if plans and plans[-1]["policy"] == incident["policy"] else {}


def describe_steps(steps: Sequence[Mapping[str, Any]]) -> str:
    """Return the enabled steps of a policy, in order."""
    enabled = [f"{step['driver']} ({_describe_limit(step)})" for step in steps if step["enabled"]]
    return ", then ".join(enabled) if enabled else "no step"


def _describe_limit(step: Mapping[str, Any]) -> str:
    if step.get("dry_run"):
        return "dry run"
    if step["attempts"] == _WITHOUT_LIMIT:
        return "unlimited attempts"
    return "1 attempt" if step["attempts"] == 1 else f"{step['attempts']} attempts"


def _describe_cause(incident: Incident) -> str:
    type_, _, detail = incident["cause"].partition("/")
    return f"{descriptions.describe_event(type_, detail, {})}, on host {incident['host']}"


def _describe_downtime(incident: Incident, now: datetime.datetime) -> str:
    if incident["state"] == "ignored" or incident["kind"] not in ABSENT:
        return ""
    if _is_resolved(incident):
        ended = incident["running_at"] or incident["closed_at"]
        if incident["kind"] != "host" and not _was_seen_running(incident):
            return ""
        return descriptions.format_seconds(seconds_between(incident["opened_at"], ended))
    since = descriptions.format_seconds((now - _parse(incident["opened_at"])).total_seconds())
    return f"for {since}, {ABSENT[incident['kind']]} since {format_time(incident['opened_at'])}"


def _is_resolved(incident: Incident) -> bool:
    return bool(incident["state"] == "resolved")


def _describe_attempts(incident: Incident) -> str:
    """Return the attempts that have ended; an active one belongs to the next steps."""
    ended = [recovery for recovery in incident["recoveries"] if recovery["state"] not in ACTIVE]
    if not ended:
        by_itself = _is_resolved(incident) and incident["kind"] == "instance"
        return "no driver was called" if by_itself else ""
    last = ended[-1]
    count = f"{len(ended)} attempts; the last," if len(ended) > 1 else "1 attempt,"
    state = descriptions.ATTEMPTS.get(last["state"], f"is {last['state']}")
    message = f": {last['message']}" if last["message"] else ""
    return f"{count} by driver {last['driver']}, {state}{message}"


# -- next steps ----------------------------------------------------------------------------------
def _list_next_steps(incident: Incident, now: datetime.datetime) -> Iterator[Fact]:
    state = incident["state"]
    if incident["kind"] != "instance":
        if incident["kind"] == "host" and state == "unhandled":
            yield "next", "the incident ends when the host's agent reports and monitors it again"
    elif state == "recovering":
        yield from _list_recovery_steps(incident, now)
    elif state == "pending":
        when = _format_when(incident["hold_until"], now)
        yield "next", f"{when} the verdict is requested; a failure is recovered{_by(incident)}"
    elif state == "held":
        when = _format_when(incident["hold_until"], now, never="when an operator releases it,")
        yield "next", f"{when} it is evaluated again, and recovered if no hold applies"
    elif state == "silenced":
        when = _format_when(incident["hold_until"], now, never="when the silence ends,")
        yield "next", f"{when} it is evaluated again like a new failure"
    elif state == "unhandled":
        yield "next", "no action until the instance runs, fails again, or an operator acts"
    elif state == "unrecovered":
        yield "next", "no action: an operator must act. A new failure opens a new incident"


def _by(incident: Incident) -> str:
    selected = plan(incident)
    if not selected:
        return f" by policy {incident['policy']}" if incident["policy"] else ""
    if not selected["policy"]:
        return " by an operator only: no policy matches"
    dry_run = " (dry run)" if selected.get("dry_run") else ""
    return f" by policy {selected['policy']}{dry_run}: {describe_steps(selected['steps'])}"


def _list_recovery_steps(incident: Incident, now: datetime.datetime) -> Iterator[Fact]:
    active = [recovery for recovery in incident["recoveries"] if recovery["state"] in ACTIVE]
    if not active:
        return
    recovery = active[-1]
    steps = plan(incident).get("steps", ())
    number = _format_attempt(steps, recovery["step"], recovery["attempt"])
    attempt = f"driver {recovery['driver']}, {number}"
    if recovery["state"] == "requested":
        yield "next", f"{_format_when(recovery['not_before'], now)} {attempt}"
    elif recovery["state"] == "running":
        since = (now - _parse(recovery["called_at"])).total_seconds()
        yield "now", f"{attempt}, running for {descriptions.format_seconds(since)}"
        when = _format_when(recovery["lease_until"], now)[:-1]
        yield "engine", f"if this engine stops, another takes over {when}"
    else:
        yield "now", f"{attempt}, is complete: {recovery['message']}"
        when = _format_when(recovery["wait_until"], now)[:-1]
        yield "until", f"the instance must be seen running {when}"
    if steps:
        yield "if not", _describe_failure(steps, recovery["step"], recovery["attempt"])


def _format_attempt(steps: Sequence[Mapping[str, Any]], index: int, attempt: int) -> str:
    """Return the numbers of a step and an attempt, with their totals if these are known."""
    if index >= len(steps):
        return f"step {index + 1}, attempt {attempt}"
    attempts = steps[index]["attempts"]
    limit = " (unlimited)" if attempts == _WITHOUT_LIMIT else f" of {attempts}"
    return f"step {index + 1} of {len(steps)}, attempt {attempt}{limit}"


def _describe_failure(steps: Sequence[Mapping[str, Any]], index: int, attempt: int) -> str:
    """Return the step that follows a failed attempt."""
    if index < len(steps):
        attempts = steps[index]["attempts"]
        if attempts == _WITHOUT_LIMIT:
            return "the same step again, without a limit"
        if attempt < attempts:
            return f"attempt {attempt + 1} of {attempts} of the same step"
    for number, step in enumerate(steps[index + 1 :], start=index + 2):
        if step["enabled"]:
            return f"step {number} of {len(steps)}: driver {step['driver']}"
    return "no step is left: the recovery has failed"


def _list_commands(incident: Incident) -> Iterator[Fact]:
    """Yield the commands that an operator can use."""
    ident, state = incident["incident_id"], incident["state"]
    active = [recovery for recovery in incident["recoveries"] if recovery["state"] in ACTIVE]
    if state in ("pending", "held", "silenced"):
        yield "you can", f"continue now: vmmonitor incident release {ident}"
    if state in ("held", "silenced", "unrecovered"):
        yield "you can", f"recover it regardless: vmmonitor incident recover {ident}"
    if state == "unhandled":
        acts = any(step["enabled"] for step in plan(incident).get("steps", ()))
        policy = "" if acts else " --policy NAME"
        yield "you can", f"recover it: vmmonitor incident recover {ident}{policy}"
    if state in ("unhandled", "held"):
        yield "you can", f"close the incident: vmmonitor incident resolve {ident}"
    if state == "recovering" and active:
        yield "you can", f"cancel it: vmmonitor recovery cancel {active[-1]['recovery_id']}"


# -- times ---------------------------------------------------------------------------------------
def _format_when(time: str | None, now: datetime.datetime, never: str = "later,") -> str:
    """Return the time of a next step, as the beginning of a sentence."""
    if not time:
        return "soon,"
    left = _parse(time) - now
    if left > NEVER:
        return never
    if left.total_seconds() <= 0:
        return "at any moment,"
    return f"in {descriptions.format_seconds(left.total_seconds())}, at {format_time(time)},"


def format_time(time: str) -> str:
    """Return a time of the API in seconds, without its ``T``."""
    return f"{time[:19]}Z".replace("T", " ")


def _parse(time: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(time)


def seconds_between(earlier: str, later: str) -> float:
    """Return the time from ``earlier`` to ``later``, in seconds."""
    return (_parse(later) - _parse(earlier)).total_seconds()
