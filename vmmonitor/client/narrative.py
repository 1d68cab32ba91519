# SPDX-License-Identifier: Apache-2.0
"""The story of an incident, told from its time line: what happened, who was asked what, what was
decided and why, what was done. Works on what the API answers, also where an older engine told
less: then the line says what it always said."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmmonitor.client import columns, prospect, words

Incident = Mapping[str, Any]
Line = Mapping[str, Any]
#: Columns of the times before a line's text, and of the word that says what the line is.
TIMES, WORD = 24, 9
#: Least width of a page.
NARROW = 70

#: The moments between a failure and its end, each with what it is called.
STOPS = ("spooled", "sent", "received", "stored")
STOP_WORDS = {
    "spooled": "safe on the disk of its host",
    "sent": "sent to the engines",
    "received": "received by an engine",
    "stored": "stored",
}


# -- the story -----------------------------------------------------------------------------------
def story(incident: Incident, width: int) -> Iterator[str]:
    """Yield the lines of what happened, oldest first, none longer than ``width``."""
    since = "the host was last watched" if incident["kind"] == "host" else "it happened"
    yield f"{'UTC':12}  {'since ' + since:<{TIMES - 14}}"
    day = ""
    before: Line | None = None
    for line, times in _grouped(incident["timeline"]):
        if line["at"][:10] != day:
            day = line["at"][:10]
            yield f"-- {day}"
        for number, (word, text) in enumerate(_told(line, before)):
            more = f" ({times} times until {line['until'][11:19]})" if times > 1 else ""
            head = f"{line['at'][11:23]}  {words.since(line['ms']):>10}" if not number else ""
            yield from _wrapped(f"{head:{TIMES}}  {word:{WORD}}", text + more, width)
        before = line


def _grouped(timeline: Sequence[Line]) -> Iterator[tuple[Line, int]]:
    """Yield each line with how often it is there in a row, and when for the last time."""
    first: Line | None = None
    times = 0
    for line in timeline:
        same = first and (first["kind"], first["message"]) == (line["kind"], line["message"])
        if first and same:
            times += 1
            first = {**first, "until": line["at"]}
            continue
        if first:
            yield first, times
        first, times = {**line, "until": line["at"]}, 1
    if first:
        yield first, times


def _told(line: Line, before: Line | None) -> list[tuple[str, str]]:
    """Return (what it is, text) of a line, in one or two parts."""
    tell = TOLD.get(line["kind"])
    try:
        told = tell(line, before) if tell else []
    except (KeyError, TypeError):
        # Of another version: its message tells it as well.
        told = []
    kind = str(line["kind"])
    return told or [(OTHER.get(kind, kind), line["message"])]


def _of_event(line: Line, before: Line | None) -> list[tuple[str, str]]:
    data = line["data"]
    what = words.event(data["type"], data["detail"], data["attributes"])
    ruled = words.ACTIONS.get(data["action"], data["action"])
    return [("seen", f"on {data['host']}: {what}; rule {data['rule']}, {ruled}")]


def _of_hold(line: Line, before: Line | None) -> list[tuple[str, str]]:
    data = line["data"]
    if not isinstance(data.get("steps"), list):
        return [("held", line["message"])]
    if not data["policy"]:
        return [("policy", "no policy matches, so nothing will act")]
    hold = f"nothing is done for {data['hold']:g} s" if data["hold"] else "it acts at once"
    steps = prospect.steps_in_words(data["steps"])
    tried_out = "; all of it is only tried out (dry run)" if data.get("dry_run") else ""
    return [("policy", f"{data['policy']} applies: {hold}; then {steps}{tried_out}")]


def _of_question(line: Line, before: Line | None) -> list[tuple[str, str]]:
    data = line["data"]
    if not data.get("asked"):
        return [("asked", line["message"])]
    took = f" (after {words.span(data['ms'] / 1000)})" if data.get("ms", 0) >= 1 else ""
    return [
        ("asked", f"{data['asked']}, {data['question']}"),
        ("answer", f"{data['answer']}{took}, so the verdict is: {data['verdict']}"),
    ]


def _of_state(line: Line, before: Line | None) -> list[tuple[str, str]]:
    data = line["data"]
    if "after" not in data:
        return [("state", line["message"])]
    came_to = words.CAME_TO.get(data["after"], data["after"])
    why = data["reason"]
    is_told = before is not None and why in (
        before["data"].get("answer"),
        before["data"].get("said"),
    )
    return [("so", f"{came_to} ({data['after']})" + ("" if is_told else f": {why}"))]


def _of_recovery(line: Line, before: Line | None) -> list[tuple[str, str]]:
    data = line["data"]
    if data.get("question"):
        return [("asked", _called(data))]
    if "answer" in data:
        took = f" (after {words.span(data['ms'] / 1000)})" if data.get("ms", 0) >= 1 else ""
        return [("answer", f"{data['said']}{took}{_then(data)}")]
    if "said" in data:
        return [("result", f"{data['said']}; so the attempt {words.ATTEMPTS[data['state']]}")]
    if "not_before" in data or "step" in data:
        return [("next", line["message"])]
    return []


def _called(data: Mapping[str, Any]) -> str:
    attempts = f" of {data['attempts']}" if data["attempts"] > 0 else ", of any number"
    taken_over = f"; {data['said']}" if data["said"].startswith("taken over") else ""
    return (
        f"driver {data['asked']}, {data['question']}: step {data['step']} of {data['steps']}, "
        f"attempt {data['attempt']}{attempts}, in at most {data['timeout']:g} s{taken_over}"
    )


def _then(data: Mapping[str, Any]) -> str:
    if data["state"] == "waiting" and data["outcome"] == "wait":
        return f"; it must be seen running within {data['wait']:g} s"
    return f"; so the attempt {words.ATTEMPTS[data['state']]}"


#: What lines of other kinds are called.
OTHER: Mapping[str, str] = {"decision": "decided", "request": "operator"}

#: Kind of a line -> what tells it.
TOLD = {
    "event": _of_event,
    "hold": _of_hold,
    "question": _of_question,
    "state": _of_state,
    "recovery": _of_recovery,
}


# -- how long it took ----------------------------------------------------------------------------
def stops(incident: Incident) -> Iterator[tuple[str, float]]:
    """Yield (what, milliseconds since it happened) of each stop on the way, as far as known."""
    timeline = incident["timeline"]
    if opening := _opening(timeline):
        for name in STOPS:
            if name in opening["data"]["stops_ms"]:
                yield STOP_WORDS[name], opening["ms"] + opening["data"]["stops_ms"][name]
    if judged := next((line for line in timeline if _is_verdict(line)), None):
        yield "judged to be a failure", judged["ms"]
    yield from _calls(timeline)
    for what, name in (("seen running again", "running_at"), ("over", "closed_at")):
        if incident[name]:
            yield what, prospect.between(incident["opened_at"], incident[name]) * 1000


def _opening(timeline: Sequence[Line]) -> Line | None:
    """Return the event that opened the incident; None if it is not told (any more)."""
    decisions = (line for line in timeline if line["kind"] == "decision")
    opened_by = next((line["data"].get("event_id") for line in decisions), None)
    told = [line for line in timeline if line["kind"] == "event"]
    return next((line for line in told if line["data"]["event_id"] == opened_by), None)


def _is_verdict(line: Line) -> bool:
    return line["kind"] == "question" and line["data"].get("verdict") == "failed"


def _calls(timeline: Sequence[Line]) -> Iterator[tuple[str, float]]:
    """Yield when drivers were called, for the first and for the last time, and answered."""
    told = [line for line in timeline if line["kind"] == "recovery"]
    calls = [line for line in told if line["data"].get("question")]
    for line in calls[:1]:
        yield f"driver {line['data']['asked']} called", line["ms"]
    for line in calls[1:][-1:]:
        yield f"driver {line['data']['asked']} called last", line["ms"]
    for line in [line for line in told if "answer" in line["data"]][-1:]:
        yield f"driver {line['data']['asked']} answered", line["ms"]


def way(incident: Incident) -> Iterator[str]:
    """Yield the lines of a table of the stops, with how long each took after the one before."""
    found = sorted(stops(incident), key=lambda stop: stop[1])
    size = max([len(what) for what, _ in found], default=0)
    if found:
        yield f"{'HOW LONG IT TOOK':{size + 2}}  {'in all':>13}  {'by itself':>13}"
    last = 0.0
    for what, ms in found:
        yield f"  {what:{size}}  {words.since(ms):>13}  {words.since(ms - last):>13}"
        last = ms


# -- a page --------------------------------------------------------------------------------------
def facts(lines: Iterator[tuple[str, str]], width: int) -> Iterator[str]:
    """Yield sentences below each other, each behind its title."""
    for title, text in lines:
        yield from _wrapped(f"  {title:{WORD}}", text, width)


def _wrapped(head: str, text: str, width: int) -> Iterator[str]:
    """Yield a text in lines, with its head before the first one."""
    yield from textwrap.wrap(
        columns.printable(text),
        max(width, NARROW) - 1,
        initial_indent=f"{head} ",
        subsequent_indent=" " * (len(head) + 1),
        break_on_hyphens=False,
    ) or [head.rstrip()]
