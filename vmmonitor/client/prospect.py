# SPDX-License-Identifier: Apache-2.0
"""How it stands with an incident, and what happens next, if nobody does anything."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmmonitor.client import words

Incident = Mapping[str, Any]
Line = tuple[str, str]

ACTIVE = ("requested", "running", "waiting")
WITHOUT_LIMIT = -1
#: Kind of an incident -> what goes on as long as it does.
ABSENT = {"instance": "not seen running", "host": "not watched"}
#: What the headline says already.
RUNS_AGAIN = "the instance runs again"
#: A time further away than this stands for never.
NEVER = datetime.timedelta(days=366)


def headline(incident: Incident) -> str:
    """Return in one sentence how it stands."""
    kind, state = incident["kind"], incident["state"]
    states = {"host": words.HOST, "storm": words.STORM}.get(kind, words.INSTANCE)
    instance = incident["instance"]
    who = instance["name"] or instance["hypervisor_name"] or instance["uuid"]
    subject = f"Instance {who}" if who else f"{kind.capitalize()} of host {incident['host']}"
    if kind == "host":
        subject = f"Host {incident['host']}"
    if kind == "instance" and state == "resolved" and not _runs(incident):
        return f"{subject} {words.SETTLED}"
    return f"{subject} {states.get(state, f'is {state}.')}"


def _runs(incident: Incident) -> bool:
    """Tell whether the instance was seen running, and not only its incident ended."""
    return bool(incident["running_at"]) or incident["reason"].startswith(RUNS_AGAIN)


def standing(incident: Incident, now: datetime.datetime) -> Iterator[Line]:
    """Yield (title, sentence) of what is so now, why, and what comes next.

    :param now: the client's clock.
    """
    yield "cause", _cause(incident)
    if not incident["reason"].startswith(RUNS_AGAIN):
        yield "why so", incident["reason"]
    if by := words.HELD_BY.get(incident.get("held_by", "")):
        yield "held by", by
    if down := _downtime(incident, now):
        yield "down", down
    if tried := _tried(incident):
        yield "tried", tried
    yield from _coming(incident, now)
    if incident["kind"] == "instance":
        yield from _by_hand(incident)


def plan(incident: Incident) -> Mapping[str, Any]:
    """Return the plan of the policy that applies, as it was in force when an event chose it; empty
    if the time line does not tell it, or an operator chose another one."""
    plans = [
        line["data"]
        for line in incident["timeline"]
        if line["kind"] == "hold" and isinstance(line["data"].get("steps"), list)
    ]
    return plans[-1] if plans and plans[-1]["policy"] == incident["policy"] else {}


def steps_in_words(steps: Sequence[Mapping[str, Any]]) -> str:
    """Return what a policy would try, in order."""
    tried = [f"{one['driver']} ({_often(one)})" for one in steps if one["enabled"]]
    return ", then ".join(tried) if tried else "nothing is done"


def _often(step: Mapping[str, Any]) -> str:
    if step.get("dry_run"):
        return "only tried out"
    if step["attempts"] == WITHOUT_LIMIT:
        return "until it works"
    return "once" if step["attempts"] == 1 else f"at most {step['attempts']} times"


def _cause(incident: Incident) -> str:
    type_, _, detail = incident["cause"].partition("/")
    return f"{words.event(type_, detail, {})}, on host {incident['host']}"


def _downtime(incident: Incident, now: datetime.datetime) -> str:
    if incident["state"] == "ignored" or incident["kind"] not in ABSENT:
        return ""
    word = ABSENT[incident["kind"]]
    if _is_well(incident):
        ended = incident["running_at"] or incident["closed_at"]
        known = incident["kind"] == "host" or _runs(incident)
        return words.span(between(incident["opened_at"], ended)) if known else ""
    since = words.span((now - _moment(incident["opened_at"])).total_seconds())
    return f"for {since} now, {word} since {clock(incident['opened_at'])}"


def _is_well(incident: Incident) -> bool:
    return bool(incident["state"] == "resolved")


def _tried(incident: Incident) -> str:
    """Return what was done that has an end; what has none is told as what comes next."""
    ended = [one for one in incident["recoveries"] if one["state"] not in ACTIVE]
    if not ended:
        by_itself = _is_well(incident) and incident["kind"] == "instance"
        return "nothing: no driver was called" if by_itself else ""
    last = ended[-1]
    count = f"{len(ended)} attempts; the last," if len(ended) > 1 else "one attempt,"
    state = words.ATTEMPTS.get(last["state"], f"is {last['state']}")
    message = f": {last['message']}" if last["message"] else ""
    return f"{count} by driver {last['driver']}, {state}{message}"


# -- what comes next -----------------------------------------------------------------------------
def _coming(incident: Incident, now: datetime.datetime) -> Iterator[Line]:
    state = incident["state"]
    if incident["kind"] != "instance":
        if incident["kind"] == "host" and state == "unhandled":
            yield "next", "it ends by itself when the host's agent reports and sees its host again"
    elif state == "recovering":
        yield from _recovering(incident, now)
    elif state == "pending":
        what = "it is asked whether this was a failure, and if so it is recovered"
        yield "next", f"{_when(incident['hold_until'], now)} {what}{_by(incident)}"
    elif state == "held":
        when = _when(incident["hold_until"], now, never="when somebody releases it,")
        yield (
            "next",
            f"{when} it is looked at again, and recovered only if nothing stands in the way",
        )
    elif state == "silenced":
        when = _when(incident["hold_until"], now, never="when the silence ends,")
        yield "next", f"{when} it is looked at again, as if it had just failed"
    elif state == "unhandled":
        yield "next", "nothing, until the instance runs again, fails anew, or somebody acts"
    elif state == "unrecovered":
        yield "next", "nothing: somebody has to look. A new failure opens a new incident"


def _by(incident: Incident) -> str:
    told = plan(incident)
    if not told:
        return f" by policy {incident['policy']}" if incident["policy"] else ""
    if not told["policy"]:
        return "; but no policy matches, so nothing will act"
    tried_out = ", only tried out (dry run)" if told.get("dry_run") else ""
    return f" by policy {told['policy']}: {steps_in_words(told['steps'])}{tried_out}"


def _recovering(incident: Incident, now: datetime.datetime) -> Iterator[Line]:
    active = [one for one in incident["recoveries"] if one["state"] in ACTIVE]
    if not active:
        return
    one = active[-1]
    steps = plan(incident).get("steps", ())
    what = f"driver {one['driver']}, {_numbered(steps, one['step'], one['attempt'])}"
    if one["state"] == "requested":
        yield "next", f"{_when(one['not_before'], now)} {what}"
    elif one["state"] == "running":
        since = words.span((now - _moment(one["called_at"])).total_seconds())
        yield "now", f"{what}, has been at work for {since}"
        yield "engine", f"if it dies, another takes over {_when(one['lease_until'], now)[:-1]}"
    else:
        yield "now", f"{what}, has done its part: {one['message']}"
        yield "until", f"the instance must be seen running {_when(one['wait_until'], now)[:-1]}"
    if steps:
        yield "if not", _after(steps, one["step"], one["attempt"])


def _numbered(steps: Sequence[Mapping[str, Any]], index: int, attempt: int) -> str:
    """Return which step and attempt it is, of how many as far as that is known."""
    if index >= len(steps):
        return f"step {index + 1}, attempt {attempt}"
    often = steps[index]["attempts"]
    of = ", of any number" if often == WITHOUT_LIMIT else f" of {often}"
    return f"step {index + 1} of {len(steps)}, attempt {attempt}{of}"


def _after(steps: Sequence[Mapping[str, Any]], index: int, attempt: int) -> str:
    """Return what follows if an attempt fails."""
    if index < len(steps):
        attempts = steps[index]["attempts"]
        if attempts == WITHOUT_LIMIT:
            return "the same is tried again, as often as it takes"
        if attempt < attempts:
            return f"attempt {attempt + 1} of {attempts} by the same driver"
    for number, step in enumerate(steps[index + 1 :], start=index + 2):
        if step["enabled"]:
            return f"step {number} of {len(steps)}: driver {step['driver']}"
    return "nothing is left to try, and it is given up"


def _by_hand(incident: Incident) -> Iterator[Line]:
    """Yield what an operator can do."""
    ident, state = incident["incident_id"], incident["state"]
    active = [one for one in incident["recoveries"] if one["state"] in ACTIVE]
    if state in ("pending", "held", "silenced"):
        yield "you can", f"let it go on now: vmmonitor incident release {ident}"
    if state in ("held", "silenced", "unrecovered"):
        yield "you can", f"have it recovered in spite of that: vmmonitor incident recover {ident}"
    if state == "unhandled":
        name = "" if any(step["enabled"] for step in plan(incident).get("steps", ())) else "NAME"
        by = f" --policy {name}" if name else ""
        yield "you can", f"have it recovered: vmmonitor incident recover {ident}{by}"
    if state in ("unhandled", "held"):
        yield "you can", f"call it settled: vmmonitor incident resolve {ident}"
    if state == "recovering" and active:
        yield "you can", f"stop that: vmmonitor recovery cancel {active[-1]['recovery_id']}"


# -- times ---------------------------------------------------------------------------------------
def _when(time: str | None, now: datetime.datetime, never: str = "later,") -> str:
    """Return when something will be, to go before what."""
    if not time:
        return "soon,"
    left = _moment(time) - now
    if left > NEVER:
        return never
    if left.total_seconds() <= 0:
        return "any moment now,"
    return f"in {words.span(left.total_seconds())}, at {clock(time)},"


def clock(time: str) -> str:
    """Return a time of the API's as a person reads it."""
    return f"{time[:19]}Z".replace("T", " ")


def _moment(time: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(time)


def between(earlier: str, later: str) -> float:
    """Return the seconds between two times of the API."""
    return (_moment(later) - _moment(earlier)).total_seconds()
