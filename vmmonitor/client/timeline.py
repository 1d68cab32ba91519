# SPDX-License-Identifier: Apache-2.0
"""The timeline of an incident in sentences, and the time that each stage took.

An entry with less data, as an older engine wrote it, is shown with its stored message.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmmonitor import text
from vmmonitor.client import descriptions, next_steps
from vmmonitor.client.descriptions import format_offset, format_seconds

Incident = Mapping[str, Any]
Entry = Mapping[str, Any]
#: (label, sentence)
Part = tuple[str, str]
#: Width of the times and of the label before a sentence.
TIMES, LABEL = 24, 9
#: Minimum width of a page.
NARROW = 70

#: Time stamp of the event that opened an incident -> stage.
STAGES = {
    "spooled": "stored in the spool of the host",
    "sent": "sent to the engines",
    "received": "received by an engine",
    "stored": "stored",
}


# -- history -------------------------------------------------------------------------------------
def format_history(incident: Incident, width: int) -> Iterator[str]:
    """Yield the lines of the timeline, oldest first, none longer than ``width``."""
    since = "the host was last monitored" if incident["kind"] == "host" else "the failure"
    yield f"{'UTC':12}  {'since ' + since:<{TIMES - 14}}"
    day = ""
    before: Entry | None = None
    for entry, times in _group_repeated(incident["timeline"]):
        if entry["at"][:10] != day:
            day = entry["at"][:10]
            yield f"-- {day}"
        for number, (label, sentence) in enumerate(_describe(entry, before)):
            more = f" ({times} times until {entry['until'][11:19]})" if times > 1 else ""
            head = f"{entry['at'][11:23]}  {format_offset(entry['ms']):>10}" if not number else ""
            yield from _wrap(f"{head:{TIMES}}  {label:{LABEL}}", sentence + more, width)
        before = entry


def _group_repeated(timeline: Sequence[Entry]) -> Iterator[tuple[Entry, int]]:
    """Yield each entry with its number of repetitions, and in ``until`` the time of the last."""
    first: Entry | None = None
    times = 0
    for entry in timeline:
        same = first and (first["kind"], first["message"]) == (entry["kind"], entry["message"])
        if first and same:
            times += 1
            first = {**first, "until": entry["at"]}
            continue
        if first:
            yield first, times
        first, times = {**entry, "until": entry["at"]}, 1
    if first:
        yield first, times


def _describe(entry: Entry, before: Entry | None) -> list[Part]:
    """Return the one or two parts of an entry."""
    describe = DESCRIBE.get(entry["kind"])
    try:
        parts = describe(entry, before) if describe else []
    except (KeyError, TypeError):
        # Data of another version; the message has the same content.
        parts = []
    kind = str(entry["kind"])
    return parts or [(OTHER.get(kind, kind), entry["message"])]


def _describe_event(entry: Entry, before: Entry | None) -> list[Part]:
    data = entry["data"]
    meaning = descriptions.describe_event(data["type"], data["detail"], data["attributes"])
    outcome = descriptions.OUTCOMES.get(data["action"], data["action"])
    return [("seen", f"on {data['host']}: {meaning}; rule {data['rule']} {outcome}")]


def _describe_hold(entry: Entry, before: Entry | None) -> list[Part]:
    data = entry["data"]
    if not isinstance(data.get("steps"), list):
        return [("held", entry["message"])]
    if not data["policy"]:
        return [("policy", "no policy matches, there is no automatic recovery")]
    delay = f"after {data['hold']:g} s" if data["hold"] else "immediately"
    dry_run = " (dry run)" if data.get("dry_run") else ""
    steps = next_steps.describe_steps(data["steps"])
    return [("policy", f"{data['policy']} applies{dry_run}: {delay}, {steps}")]


def _describe_query(entry: Entry, before: Entry | None) -> list[Part]:
    data = entry["data"]
    if not data.get("asked"):
        return [("asked", entry["message"])]
    return [
        ("asked", f"{data['asked']}, {data['question']}"),
        ("answer", f"{data['answer']}{_format_elapsed(data)}; verdict: {data['verdict']}"),
    ]


def _describe_transition(entry: Entry, before: Entry | None) -> list[Part]:
    data = entry["data"]
    if "after" not in data:
        return [("state", entry["message"])]
    transition = descriptions.TRANSITIONS.get(data["after"], data["after"])
    reason = data["reason"]
    shown = () if before is None else (before["data"].get("answer"), before["data"].get("said"))
    return [("so", f"{transition} ({data['after']})" + ("" if reason in shown else f": {reason}"))]


def _describe_recovery(entry: Entry, before: Entry | None) -> list[Part]:
    data = entry["data"]
    if data.get("question"):
        return [("asked", _describe_call(data))]
    if "answer" in data:
        return [("answer", f"{data['said']}{_format_elapsed(data)}{_describe_effect(data)}")]
    if "said" in data:
        return [("result", f"{data['said']}; the attempt {descriptions.ATTEMPTS[data['state']]}")]
    if "not_before" in data or "step" in data:
        return [("next", entry["message"])]
    return []


def _describe_call(data: Mapping[str, Any]) -> str:
    limit = f" of {data['attempts']}" if data["attempts"] > 0 else " (unlimited)"
    taken_over = f"; {data['said']}" if data["said"].startswith("taken over") else ""
    return (
        f"driver {data['asked']}, {data['question']}: step {data['step']} of {data['steps']}, "
        f"attempt {data['attempt']}{limit}, timeout {data['timeout']:g} s{taken_over}"
    )


def _describe_effect(data: Mapping[str, Any]) -> str:
    if data["state"] == "waiting" and data["outcome"] == "wait":
        return f"; it must be seen running within {data['wait']:g} s"
    return f"; the attempt {descriptions.ATTEMPTS[data['state']]}"


def _format_elapsed(data: Mapping[str, Any]) -> str:
    return f" (after {format_seconds(data['ms'] / 1000)})" if data.get("ms", 0) >= 1 else ""


#: Kind of an entry that is shown with its message -> label.
OTHER: Mapping[str, str] = {"decision": "decided", "request": "operator"}

#: Kind of an entry -> function that describes it.
DESCRIBE = {
    "event": _describe_event,
    "hold": _describe_hold,
    "question": _describe_query,
    "state": _describe_transition,
    "recovery": _describe_recovery,
}


# -- stages --------------------------------------------------------------------------------------
def stages(incident: Incident) -> Iterator[tuple[str, float]]:
    """Yield (stage, milliseconds since the failure) of each known stage."""
    timeline = incident["timeline"]
    if opening := _find_opening_event(timeline):
        for name, stage in STAGES.items():
            if name in opening["data"]["stops_ms"]:
                yield stage, opening["ms"] + opening["data"]["stops_ms"][name]
    if verdict := next((entry for entry in timeline if _is_failure(entry)), None):
        yield "verdict: failed", verdict["ms"]
    yield from _calls(timeline)
    for stage, name in (("seen running again", "running_at"), ("closed", "closed_at")):
        if incident[name]:
            elapsed = next_steps.seconds_between(incident["opened_at"], incident[name])
            yield stage, elapsed * 1000


def _find_opening_event(timeline: Sequence[Entry]) -> Entry | None:
    """Return the entry of the event that opened the incident; None if it is not listed."""
    decisions = (entry for entry in timeline if entry["kind"] == "decision")
    opened_by = next((entry["data"].get("event_id") for entry in decisions), None)
    events = [entry for entry in timeline if entry["kind"] == "event"]
    return next((entry for entry in events if entry["data"]["event_id"] == opened_by), None)


def _is_failure(entry: Entry) -> bool:
    return entry["kind"] == "question" and entry["data"].get("verdict") == "failed"


def _calls(timeline: Sequence[Entry]) -> Iterator[tuple[str, float]]:
    """Yield the first and the last call of a driver, and the last answer."""
    recoveries = [entry for entry in timeline if entry["kind"] == "recovery"]
    calls = [entry for entry in recoveries if entry["data"].get("question")]
    for entry in calls[:1]:
        yield f"driver {entry['data']['asked']} called", entry["ms"]
    for entry in calls[1:][-1:]:
        yield f"driver {entry['data']['asked']} called last", entry["ms"]
    for entry in [entry for entry in recoveries if "answer" in entry["data"]][-1:]:
        yield f"driver {entry['data']['asked']} answered", entry["ms"]


def format_stages(incident: Incident) -> Iterator[str]:
    """Yield the lines of a table of the stages: the total time, and the time of each stage."""
    found = sorted(stages(incident), key=lambda stage: stage[1])
    size = max([len(stage) for stage, _ in found], default=0)
    if found:
        yield f"{'HOW LONG IT TOOK':{size + 2}}  {'total':>13}  {'stage':>13}"
    last = 0.0
    for stage, ms in found:
        yield f"  {stage:{size}}  {format_offset(ms):>13}  {format_offset(ms - last):>13}"
        last = ms


# -- page ----------------------------------------------------------------------------------------
def format_facts(facts: Iterator[tuple[str, str]], width: int) -> Iterator[str]:
    """Yield the lines of facts, each behind its title."""
    for title, sentence in facts:
        yield from _wrap(f"  {title:{LABEL}}", sentence, width)


def _wrap(head: str, sentence: str, width: int) -> Iterator[str]:
    """Yield the lines of a sentence, the first one behind ``head``."""
    yield from textwrap.wrap(
        text.printable_lines(sentence),
        max(width, NARROW) - 1,
        initial_indent=f"{head} ",
        subsequent_indent=" " * (len(head) + 1),
        break_on_hyphens=False,
    ) or [head.rstrip()]
