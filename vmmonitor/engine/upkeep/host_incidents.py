# SPDX-License-Identifier: Apache-2.0
"""The incident of a host that is not monitored, or whose name two machines use.

It is opened, updated and closed with the host's agent.
"""

import dataclasses
import uuid
from collections.abc import Callable

from oslo_log import log

from vmmonitor.db import agents, incidents
from vmmonitor.db.session import Transaction
from vmmonitor.engine.incidents.transitions import move, note
from vmmonitor.model.agent import UNWATCHED, Agent
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import CRITICAL, HOST_CONFLICT
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
    fault = _find_fault(agent, updated_at) if agent else None
    if agent is None or fault is None:
        if incident is not None:
            _close(tx, incident, agent, updated_at)
    elif incident is None:
        if updated_at - fault.since > grace or fault.cause == HOST_CONFLICT:
            _open(tx, agent, fault, updated_at)
    elif incident.reason != fault.reason:
        note(tx, incident, updated_at, "decision", fault.reason, cause=fault.cause)
        incidents.set_reason(tx, incident, fault.reason, updated_at)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Fault:
    """Why the instances of a host are not monitored, or its reports cannot be trusted."""

    cause: str
    reason: str
    since: int


def _find_fault(agent: Agent, now: int) -> _Fault | None:
    if agent.identities.is_contended(agent.report, now):
        return _Fault(
            cause=HOST_CONFLICT,
            reason=f"two machines report as this host: {_machines(agent)}",
            since=now,
        )
    if agent.state not in UNWATCHED:
        return None
    return _Fault(cause=f"agent.{agent.state}", reason=_reason(agent), since=_since(agent))


def _machines(agent: Agent) -> str:
    """Return the machine and boot ids, in an order that does not change with the reports."""
    both = sorted((agent.identities.current, agent.identities.other))
    return " and ".join(f"machine {one.replace(' ', ', boot ')}" for one in both)


def _open(tx: Transaction, agent: Agent, fault: _Fault, now: int) -> None:
    host, since, reason = agent.report.host, fault.since, fault.reason
    incident = Incident(
        incident_id=str(uuid.uuid4()),
        kind=IncidentKind.HOST,
        instance=Instance(uuid=""),
        host=host,
        cause=fault.cause,
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
    is_conflict = fault.cause == HOST_CONFLICT
    message = (
        reason if is_conflict else f"not monitored for {(now - since) / SECOND:,.0f} s: {reason}"
    )
    note(tx, incident, now, "decision", message, cause=incident.cause)
    move(tx, incident, IncidentTransition.LEAVE, reason, now)
    what = "cannot be trusted" if is_conflict else "is not monitored"
    LOG.warning("Host %s %s, incident %s: %s", host, what, incident.incident_id, reason)


def _close(tx: Transaction, incident: Incident, agent: Agent | None, now: int) -> None:
    after = f"after {(now - incident.opened_at) / SECOND:,.0f} s"
    if agent is None:
        reason = f"the host's agent was removed, {after}"
    elif incident.cause == HOST_CONFLICT:
        reason = f"only one machine reports as this host, {after}"
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
