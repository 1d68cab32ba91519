# SPDX-License-Identifier: Apache-2.0
"""Silences of operators."""

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

_SECOND = 1_000_000
#: Maximum number of silences at a time. Each failure is compared with each, which takes 15 us.
MAX_SILENCES = 200
#: Maximum number of open incidents to compare with a silence.
MAX_INCIDENTS = 10_000


def index(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/silences``: list the matching silences, newest first."""
    page = query.read(request, schema.INDEX, sort="created_at:desc")
    filters = dict(page.filters)
    in_states, now = filters.pop("state", ()), request.database.now()
    page = dataclasses.replace(page, filters=filters)
    find = functools.partial(silences.page, in_states=in_states, now=now)
    return query.respond(request, page, find, "silences", "silence_id", _create_view(now))


def show(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/silences/{silence_id}``: show one silence, with the number of its incidents."""
    with request.database.reader() as tx:
        silence = silences.get(tx, request.arguments["silence_id"])
    return _view_with_incidents(request, silence)


def create(request: ApiRequest) -> webob.Response:
    """``POST /v1/silences``: create a silence."""
    given = body.read(request, schema.CREATE)
    _build_match(given["match"], given.get("everything", False))
    now = request.database.now()
    starts_at, ends_at = _parse_period(given, now, request.conf.api.max_silence_duration)
    silence = Silence(
        silence_id=str(uuid.uuid4()),
        match=given["match"],
        author=request.author,
        comment=given["comment"].strip(),
        starts_at=starts_at,
        ends_at=ends_at,
        created_at=now,
    )
    request.database.run(silences.insert, silence, MAX_SILENCES)
    return body.created(
        request, f"/v1/silences/{silence.silence_id}", _view_with_incidents(request, silence)
    )


def expire(request: ApiRequest) -> dict[str, Any]:
    """``DELETE /v1/silences/{silence_id}``: expire a silence; it stays listed."""
    ident, now = request.arguments["silence_id"], request.database.now()
    return _view_with_incidents(request, request.database.run(_expire, ident, now, request.author))


def view(silence: Silence, now: int) -> dict[str, Any]:
    """Return the representation of a silence.

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


def _create_view(now: int) -> Callable[[Silence], dict[str, Any]]:
    return functools.partial(view, now=now)


def _view_with_incidents(request: ApiRequest, silence: Silence) -> dict[str, Any]:
    """Return the representation of a silence, with the states of its open incidents."""
    with request.database.reader() as tx:
        matching = _find_incidents(tx, silence, {"state": sorted(states.OPEN_INCIDENT_STATES)})
    counts = collections.Counter(incident.state for incident in matching)
    shown = view(silence, request.database.now())
    return {"silence": shown | {"incidents": dict(sorted(counts.items()))}}


def _find_incidents(
    tx: Transaction, silence: Silence, filters: Mapping[str, Any]
) -> list[Incident]:
    try:
        match = rules.build(silence.match)
    except InvalidRules:
        # Stored by a newer version; engines of this version ignore it too.
        return []
    page = Page(limit=MAX_INCIDENTS, filters={"kind": IncidentKind.INSTANCE, **filters})
    return [found for found in incidents.page(tx, page) if match.holds(rules.fields_of(found))]


def _build_match(written: Any, everything: bool) -> Match:
    """Return the match of a silence.

    :raises ApiError: the match is invalid (400).
    """
    try:
        match = rules.build(written)
    except InvalidRules as error:
        raise body.bad(str(error)) from error
    if rules.matches_everything(match) and not everything:
        raise body.bad(
            "match: a match without conditions silences all incidents; set everything to true"
        )
    return match


def _parse_period(given: Mapping[str, Any], now: int, longest: int) -> tuple[int, int]:
    """Return start and end; a start in the past becomes ``now``.

    :param longest: maximum duration in seconds.
    :raises ApiError: the times are invalid (400).
    """
    if ("ends_at" in given) == ("duration" in given):
        raise body.bad("exactly one of ends_at and duration is required")
    starts_at = max(now, times.microseconds(given["starts_at"])) if "starts_at" in given else now
    if "duration" in given:
        ends_at = starts_at + round(given["duration"] * _SECOND)
    else:
        ends_at = times.microseconds(given["ends_at"])
    if ends_at <= starts_at:
        raise body.bad(f"ends_at: {times.iso(ends_at)} is not after {times.iso(starts_at)}")
    if ends_at - starts_at > longest * _SECOND:
        lasts, most = (ends_at - starts_at) // _SECOND, f"{longest} s ({longest / 86400:g} days)"
        detail = f"a silence of {lasts} s is longer than max_silence_duration, {most}"
        raise body.bad(detail)
    return starts_at, ends_at


def _expire(tx: Transaction, silence_id: str, now: int, by: str) -> Silence:
    silence = silences.expire(tx, silence_id, now, by)
    silenced = _find_incidents(
        tx, silence, {"state": IncidentState.SILENCED, "held_by": HoldReason.SILENCE}
    )
    message = f"the silence of {silence.author} ({silence.comment}) was expired by {by}"
    entry = functools.partial(TimelineEntry, at=now, kind=TimelineKind.HOLD, message=message)
    timeline_entries.insert(tx, [entry(incident_id=incident.incident_id) for incident in silenced])
    return silence
