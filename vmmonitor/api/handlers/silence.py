# SPDX-License-Identifier: Apache-2.0
"""Silences: what an operator has left alone for a time."""

import collections
import dataclasses
import functools
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import webob

from vmmonitor.api import body, query, times
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.api.schemas import silence as schema
from vmmonitor.db import incidents, silences, timeline_entries
from vmmonitor.db.page import Page
from vmmonitor.db.session import Transaction
from vmmonitor.model import states
from vmmonitor.model.errors import InvalidRules
from vmmonitor.model.incident import HoldReason, Incident, IncidentKind
from vmmonitor.model.silence import Silence
from vmmonitor.model.states import IncidentState
from vmmonitor.model.timeline import TimelineEntry, TimelineKind
from vmmonitor.rules import silences as rules
from vmmonitor.rules.matchers import Match

SECOND = 1_000_000
#: Silences that may be there at once: each is held against each failure, which takes 15 us.
MOST = 200
#: Open incidents that are held against a silence at most, to count those that it means.
COUNTED = 10_000


def index(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/silences``: the silences that match, newest first."""
    page = query.read(request, schema.INDEX, sort="created_at:desc")
    filters = dict(page.filters)
    in_states, now = filters.pop("state", ()), request.database.now()
    page = dataclasses.replace(page, filters=filters)
    find = functools.partial(silences.page, in_states=in_states, now=now)
    return query.answer(request, page, find, "silences", "silence_id", _view(now))


def show(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/silences/{silence_id}``: one silence, and how many incidents it means."""
    with request.database.reader() as tx:
        silence = silences.get(tx, request.arguments["silence_id"])
    return _told(request, silence)


def create(request: ApiRequest) -> webob.Response:
    """``POST /v1/silences``: mute what matches, for a time."""
    given = body.read(request, schema.CREATE)
    _match(given["match"], given.get("everything", False))
    now = request.database.now()
    starts_at, ends_at = _span(given, now, request.conf.api.max_silence_duration)
    silence = Silence(
        silence_id=str(uuid.uuid4()),
        match=given["match"],
        author=request.author,
        comment=given["comment"].strip(),
        starts_at=starts_at,
        ends_at=ends_at,
        created_at=now,
    )
    request.database.run(silences.insert, silence, MOST)
    return body.created(request, f"/v1/silences/{silence.silence_id}", _told(request, silence))


def expire(request: ApiRequest) -> dict[str, Any]:
    """``DELETE /v1/silences/{silence_id}``: end a silence; it stays listed."""
    ident, now = request.arguments["silence_id"], request.database.now()
    return _told(request, request.database.run(_expire, ident, now, request.author))


def view(silence: Silence, now: int) -> dict[str, Any]:
    """Return a silence as it is sent.

    :param now: microseconds since the epoch, engines' clock.
    """
    return {
        "silence_id": silence.silence_id,
        "state": silence.state(now),
        "match": silence.match,
        "author": silence.author,
        "comment": silence.comment,
        "starts_at": times.iso(silence.starts_at),
        "ends_at": times.iso(silence.ends_at),
        "created_at": times.iso(silence.created_at),
        "expired_at": times.iso(silence.expired_at),
        "expired_by": silence.expired_by,
    }


def _view(now: int) -> Callable[[Silence], dict[str, Any]]:
    return functools.partial(view, now=now)


def _told(request: ApiRequest, silence: Silence) -> dict[str, Any]:
    """Return one silence, with the states of the open incidents that it means."""
    with request.database.reader() as tx:
        meant = _meant(tx, silence, {"state": sorted(states.OPEN_INCIDENT_STATES)})
    counts = collections.Counter(incident.state for incident in meant)
    told = view(silence, request.database.now())
    return {"silence": told | {"incidents": dict(sorted(counts.items()))}}


def _meant(tx: Transaction, silence: Silence, filters: Mapping[str, Any]) -> list[Incident]:
    try:
        match = rules.build(silence.match)
    except InvalidRules:
        # Of a newer version; engines of this one do not understand it either.
        return []
    page = Page(limit=COUNTED, filters={"kind": IncidentKind.INSTANCE, **filters})
    return [one for one in incidents.page(tx, page) if match.holds(rules.fields_of(one))]


def _match(written: Any, everything: bool) -> Match:
    """Check what a silence means."""
    try:
        match = rules.build(written)
    except InvalidRules as error:
        raise body.bad(str(error)) from error
    if rules.matches_everything(match) and not everything:
        raise body.bad("match: it has no test and so means everything; say so: everything: true")
    return match


def _span(given: Mapping[str, Any], now: int, longest: int) -> tuple[int, int]:
    """Return beginning and end; what is to begin in the past begins now.

    :param longest: seconds that it may last.
    """
    if ("ends_at" in given) == ("duration" in given):
        raise body.bad("either ends_at or duration is needed, and not both")
    starts_at = max(now, times.microseconds(given["starts_at"])) if "starts_at" in given else now
    if "duration" in given:
        ends_at = starts_at + round(given["duration"] * SECOND)
    else:
        ends_at = times.microseconds(given["ends_at"])
    if ends_at <= starts_at:
        raise body.bad(f"ends_at: {times.iso(ends_at)} is not after {times.iso(starts_at)}")
    if ends_at - starts_at > longest * SECOND:
        lasts, most = (ends_at - starts_at) // SECOND, f"{longest} s ({longest / 86400:g} days)"
        detail = f"a silence of {lasts} s is longer than max_silence_duration, {most}"
        raise body.bad(detail)
    return starts_at, ends_at


def _expire(tx: Transaction, silence_id: str, now: int, by: str) -> Silence:
    silence = silences.expire(tx, silence_id, now, by)
    muted = _meant(tx, silence, {"state": IncidentState.SILENCED, "held_by": HoldReason.SILENCE})
    message = f"the silence of {silence.author} ({silence.comment}) was ended by {by}"
    line = functools.partial(TimelineEntry, at=now, kind=TimelineKind.HOLD, message=message)
    timeline_entries.insert(tx, [line(incident_id=one.incident_id) for one in muted])
    return silence
