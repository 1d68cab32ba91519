# SPDX-License-Identifier: Apache-2.0
"""Agents: which hosts are watched, and which are not."""

from typing import Any

from vmmonitor.api import query, times
from vmmonitor.api.request import Request
from vmmonitor.api.schemas import agent as schema
from vmmonitor.db import agents
from vmmonitor.model.agent import Agent


def index(request: Request) -> dict[str, Any]:
    """``GET /v1/agents``: the agents that match, by host."""
    page = query.read(request, schema.INDEX, sort="host:asc")
    return query.answer(request, page, agents.page, "agents", "host", view)


def show(request: Request) -> dict[str, Any]:
    """``GET /v1/agents/{host}``: one agent."""
    with request.database.reader() as tx:
        agent = agents.get(tx, request.arguments["host"])
    return {"agent": view(agent)}


def view(agent: Agent) -> dict[str, Any]:
    """Return an agent as it is sent."""
    report = agent.report
    return {
        "host": report.host,
        "state": agent.state,
        "reason": report.reason,
        "version": report.version,
        "interval": report.interval,
        "instances": report.instances,
        "spool_depth": report.spool_depth,
        "spool_refused": report.spool_refused,
        "filter_checksum": report.filter_checksum,
        "inventory_digest": report.inventory_digest,
        "figures": dict(report.figures),
        "started_at": times.iso(report.started_at),
        "sent_at": times.iso(report.sent_at),
        "seen_at": times.iso(agent.seen_at),
        "last_event_at": times.iso(report.last_event_at),
    }
