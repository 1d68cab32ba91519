# SPDX-License-Identifier: Apache-2.0
"""Agents: which hosts are watched, and which are not."""

import functools
from collections.abc import Callable
from typing import Any

from vmmonitor.api import query, times
from vmmonitor.api.http_request import ApiRequest
from vmmonitor.api.schemas import agent as schema
from vmmonitor.db import agents
from vmmonitor.model import clock
from vmmonitor.model.agent import Agent


def index(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/agents``: the agents that match, by host."""
    page = query.read(request, schema.INDEX, sort="host:asc")
    return query.answer(request, page, agents.page, "agents", "host", _view(request))


def show(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/agents/{host}``: one agent."""
    with request.database.reader() as tx:
        agent = agents.get(tx, request.arguments["host"])
    return {"agent": _view(request)(agent)}


def _view(request: ApiRequest) -> Callable[[Agent], dict[str, Any]]:
    mark = round(request.conf.housekeeping.clock_warn * 1_000_000)
    return functools.partial(view, clock_mark=mark)


def view(agent: Agent, clock_mark: int) -> dict[str, Any]:
    """Return an agent as it is sent.

    :param clock_mark: microseconds by which its host's clock is off before the reason says so.
    """
    report, offset = agent.report, agent.clock.offset
    wrong = clock.told(offset) if abs(offset) > clock_mark else ""
    return {
        "host": report.host,
        "state": agent.state,
        "reason": "; ".join(filter(None, (agent.reason, wrong))),
        "version": report.version,
        "interval": report.interval,
        "instances": report.instances,
        "spool_depth": report.spool_depth,
        "spool_refused": report.spool_refused,
        "filter_checksum": report.filter_checksum,
        "inventory_digest": report.inventory_digest,
        "clock_offset_ms": round(offset / 1000, 1),
        "clock_correction_ms": round(agent.clock.correction / 1000, 1),
        "figures": dict(report.figures),
        "started_at": times.iso(report.started_at),
        "sent_at": times.iso(report.sent_at),
        "seen_at": times.iso(agent.seen_at),
        "unwatched_since": times.iso(agent.unwatched_since),
        "last_event_at": times.iso(report.last_event_at),
    }
