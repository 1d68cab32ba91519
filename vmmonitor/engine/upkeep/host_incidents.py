# SPDX-License-Identifier: Apache-2.0
"""The incident of a host that is not monitored: opened, updated and closed with its agent."""

import uuid
from collections.abc import Callable

from oslo_log import log

from vmmonitor.db import agents, incidents
from vmmonitor.db.session import Transaction
from vmmonitor.engine.incidents.transitions import move, note
from vmmonitor.model.agent import UNWATCHED, Agent
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import CRITICAL
from vmmonitor.model.incident import Incident, IncidentKind
from vmmonitor.model.instance import Instance
from vmmonitor.model.states import AgentState, IncidentState, IncidentTransition

LOG = log.getLogger(__name__)


def update(tx: Transaction, host: str, grace: int, now: Callable[[], int]) -> None:
    """Update the incident of a host from the state of its agent, whose row is locked.

    :param grace: time without monitoring before an incident is opened, in microseconds.
    :param now: returns the engines' clock, in microseconds since the epoch.
    """
    agent = agents.find_locked(tx, host)
    incident = incidents.lock_open_host(tx, host)
    # Read the clock after locking the rows, so that timeline entries are ordered.
    updated_at = now()
    if agent is None or agent.state not in UNWATCHED:
        if incident is not None:
            _close(tx, incident, agent, updated_at)
    elif incident is None:
        if updated_at - _since(agent) > grace:
            _open(tx, agent, updated_at)
    elif incident.reason != (reason := _reason(agent)):
        note(tx, incident, updated_at, "decision", reason, cause=f"agent.{agent.state}")
        incidents.set_reason(tx, incident, reason, updated_at)


def _open(tx: Transaction, agent: Agent, now: int) -> None:
    host, since, reason = agent.report.host, _since(agent), _reason(agent)
    incident = Incident(
        incident_id=str(uuid.uuid4()),
        kind=IncidentKind.HOST,
        instance=Instance(uuid=""),
        host=host,
        cause=f"agent.{agent.state}",
        severity=CRITICAL,
        state=IncidentState.PENDING,
        reason=reason,
        policy="",
        opened_at=since,
        hold_until=now,
        updated_at=now,
        event_count=0,
    )
    incidents.insert(tx, [incident])
    message = f"not monitored for {(now - since) / SECOND:,.0f} s: {reason}"
    note(tx, incident, now, "decision", message, cause=incident.cause)
    move(tx, incident, IncidentTransition.LEAVE, reason, now)
    LOG.warning("Host %s is not monitored, incident %s: %s", host, incident.incident_id, reason)


def _close(tx: Transaction, incident: Incident, agent: Agent | None, now: int) -> None:
    after = f"after {(now - incident.opened_at) / SECOND:,.0f} s"
    if agent is None:
        reason = f"the host's agent was removed, {after}"
    elif agent.state == AgentState.STOPPED:
        reason = f"the agent was stopped on purpose, {after}"
    else:
        reason = f"the host is monitored again, {after}: its agent is {agent.state}"
    move(tx, incident, IncidentTransition.RUN, reason, now)
    LOG.info("Closed incident %s of host %s: %s", incident.incident_id, incident.host, reason)


def _since(agent: Agent) -> int:
    return agent.seen_at if agent.unwatched_since is None else agent.unwatched_since


def _reason(agent: Agent) -> str:
    """Return why a host is not monitored; the text changes only when the reason does."""
    return f"the agent is {agent.state}: {agent.reason}"
