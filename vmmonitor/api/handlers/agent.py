# SPDX-License-Identifier: Apache-2.0
"""Agents, which show whether hosts are monitored."""

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
    """``GET /v1/agents``: list the matching agents by host."""
    page = query.read(request, schema.INDEX, sort="host:asc")
    return query.respond(request, page, agents.page, "agents", "host", _create_view(request))


def show(request: ApiRequest) -> dict[str, Any]:
    """``GET /v1/agents/{host}``: show one agent."""
    with request.database.reader() as tx:
        agent = agents.get(tx, request.arguments["host"])
    return {"agent": _create_view(request)(agent)}


def _create_view(request: ApiRequest) -> Callable[[Agent], dict[str, Any]]:
    mark = round(request.conf.housekeeping.clock_warn * 1_000_000)
    return functools.partial(view, clock_mark=mark)


def view(agent: Agent, clock_mark: int) -> dict[str, Any]:
    """Return the representation of an agent.

    :param clock_mark: clock offset of the host, in microseconds, above which the reason shows it.
    """
    report, offset = agent.report, agent.clock.offset
    wrong = clock.told(offset) if abs(offset) > clock_mark else ""
    return {
        "host": report.host,
        "state": agent.state,
        "reason": "; ".join(filter(None, (agent.reason, agent.conflict, wrong))),
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
