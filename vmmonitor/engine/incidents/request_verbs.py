# SPDX-License-Identifier: Apache-2.0
"""The operator requests by verb: recover, resolve, hold, release, cancel and retry."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NoReturn

from vmmonitor.db import incidents, recoveries
from vmmonitor.db.session import Transaction
from vmmonitor.engine.incidents import storm_ending
from vmmonitor.engine.incidents.transitions import move, move_recovery
from vmmonitor.model import request as verbs
from vmmonitor.model import states
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import UNTIL_RELEASED, HoldReason, Incident, IncidentKind
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.request import OperatorRequest
from vmmonitor.model.states import (
    IncidentState,
    IncidentTransition,
    RecoveryState,
    RecoveryTransition,
)
from vmmonitor.rules.policies import Policies

#: Message of a request to recover an instance, until the verdict has been acted on.
VERDICT_REQUESTED = "waits for the verdict"

ENDED_WITHOUT_RETRY = (IncidentState.RESOLVED, IncidentState.IGNORED)


class RequestRefused(Exception):
    """The request is not possible; the message is the reason"""


class RequestDeferred(Exception):
    """The request is not possible yet; the message says what it waits for"""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RequestedChange:
    """A request, and the transaction that carries it out.

    :param incident: the incident, whose row is locked.
    :param policies: the policies in force.
    :param now: microseconds since the epoch, engines' clock.
    """

    tx: Transaction
    incident: Incident
    request: OperatorRequest
    policies: Policies
    now: int


def recover(change: RequestedChange) -> str:
    """Recover the instance now, without admission checks.

    The request waits for the verdict, and its result says what followed from it.
    """
    if change.request.message == VERDICT_REQUESTED:
        return _result_of_recovery(change)
    _require_instance(change.incident)
    if change.incident.state == IncidentState.RECOVERING:
        _start_next_attempt(change)
    policy = str(change.request.options.get("policy", "")) or change.incident.policy
    _recover_by(change, policy)


def retry(change: RequestedChange) -> str:
    """Recover the instance again, by the policy of its recovery; see ``recover``."""
    if change.request.message == VERDICT_REQUESTED:
        return _result_of_recovery(change)
    if change.incident.state == IncidentState.RECOVERING:
        _start_next_attempt(change)
    _recover_by(change, recoveries.get(change.tx, change.request.recovery_id).policy)


def resolve(change: RequestedChange) -> str:
    """Resolve an incident and cancel its recovery; release the members of a storm."""
    incident, reason = change.incident, f"resolved by {change.request.words}"
    if incident.kind == IncidentKind.HOST:
        raise RequestRefused("the incident of a host is closed when the host is monitored again")
    if incident.kind == IncidentKind.STORM:
        return _end_storm(change, reason)
    _require_open(incident)
    _cancel_recovery(change, reason)
    move(change.tx, incident, IncidentTransition.RUN, reason, change.now)
    return "resolved"


def hold(change: RequestedChange) -> str:
    """Hold an incident for a time, or until it is released, and cancel its recovery."""
    incident = change.incident
    _require_instance(incident)
    _require_open(incident)
    seconds = change.request.options.get("seconds")
    until = change.now + round(seconds * SECOND) if seconds else UNTIL_RELEASED
    _hold_until(change, until, f"held by {change.request.words}")
    return f"held for {seconds:g} s" if seconds else "held until it is released"


def release(change: RequestedChange) -> str:
    """Request a verdict for an incident that waits; release the members of a storm.

    The admission check that held the incident is skipped.
    """
    incident = change.incident
    _require_open(incident)
    if incident.kind == IncidentKind.STORM:
        return _end_storm(change, f"released by {change.request.words}")
    if incident.state == IncidentState.RECOVERING and incident.held_by:
        _expedite(change)
        return f"no longer held: {incident.reason}"
    if incident.state not in incidents.WAITING:
        raise RequestRefused(f"the incident is not held: it is {incident.state}")
    if not incident.held_by or incident.held_by in (HoldReason.OPERATOR, HoldReason.UNKNOWN):
        _make_due(change)
        return "a verdict is requested now"
    _make_due(change, override=change.request.author)
    return f"no longer held: {incident.reason}"


def cancel(change: RequestedChange) -> str:
    """Cancel a recovery, and hold its incident until it is released."""
    if change.incident.state != IncidentState.RECOVERING:
        state = change.incident.state
        raise RequestRefused(f"the incident has no recovery in progress: it is {state}")
    _hold_until(change, UNTIL_RELEASED, f"cancelled by {change.request.words}")
    return "cancelled; the incident is held until it is released"


#: Verb -> function that carries it out and returns the result as text.
VERBS: Mapping[str, Callable[[RequestedChange], str]] = {
    verbs.RECOVER: recover,
    verbs.RESOLVE: resolve,
    verbs.HOLD: hold,
    verbs.RELEASE: release,
    verbs.CANCEL: cancel,
    verbs.RETRY: retry,
}


# -- conditions --------------------------------------------------------------------------------
def _require_instance(incident: Incident) -> None:
    if incident.kind != IncidentKind.INSTANCE:
        raise RequestRefused(f"the incident is about a {incident.kind}, not an instance")


def _require_open(incident: Incident) -> None:
    if incident.state not in states.OPEN_INCIDENT_STATES:
        raise RequestRefused(f"the incident is closed: {incident.state}, {incident.reason}")


def _require_steps(policies: Policies, name: str) -> None:
    policy = policies.get(name)
    if policy and policy.enabled_steps:
        return
    usable = [row.name for row in policies.rows if row.value.enabled_steps]
    problem = f"policy {name} is not in force or has no steps" if name else "no policy applies"
    raise RequestRefused(f"{problem}; policies with steps: {', '.join(usable) or 'none'}")


# -- changes -----------------------------------------------------------------------------------
def _recover_by(change: RequestedChange, policy: str) -> NoReturn:
    """Recover a waiting or unrecovered incident by a policy, without admission checks.

    :raises RequestDeferred: until the verdict has been acted on.
    """
    incident = change.incident
    if incident.state in ENDED_WITHOUT_RETRY:
        raise RequestRefused(f"the incident is {incident.state}: {incident.reason}")
    _require_steps(change.policies, policy)
    _make_due(change, policy=policy, override=change.request.author)
    raise RequestDeferred(VERDICT_REQUESTED)


def _make_due(change: RequestedChange, **changes: str) -> None:
    """Request a verdict now, also for an incident that is unrecovered."""
    tx, incident, now = change.tx, change.incident, change.now
    reason = f"requested by {change.request.words}"
    if incident.state in incidents.WAITING:
        incidents.reschedule(tx, incident, now, reason, now, held_by="", **changes)
        return
    name = IncidentTransition.RELEASE
    if incident.state == IncidentState.UNRECOVERED:
        if incidents.lock_open(tx, [(incident.instance.uuid, incident.host)]):
            raise RequestRefused("another incident of the instance is open")
        name = IncidentTransition.RETRY
    move(tx, incident, name, reason, now, hold_until=now, running_at=None, **changes)


def _start_next_attempt(change: RequestedChange) -> NoReturn:
    """Make the next attempt due, without admission checks.

    :raises RequestDeferred: until the verdict has been acted on.
    """
    _expedite(change)
    raise RequestDeferred(VERDICT_REQUESTED)


def _expedite(change: RequestedChange) -> None:
    recovery = recoveries.active_for(change.tx, change.incident.incident_id)
    if recovery is None:
        raise RequestRefused("a recovery is in progress")
    if recovery.state != RecoveryState.REQUESTED:
        raise RequestRefused(f"a recovery is in progress: {_text(recovery)}")
    recoveries.expedite(change.tx, recovery, change.now)
    incidents.set_override(change.tx, change.incident, change.request.author, change.now)


def _result_of_recovery(change: RequestedChange) -> str:
    """Return what followed from the verdict that a request waited for.

    :raises RequestRefused: the instance is not recovered.
    :raises RequestDeferred: no engine has acted on the verdict yet.
    """
    incident = change.incident
    if incident.state in incidents.WAITING:
        if incident.override and incident.hold_until <= change.now:
            raise RequestDeferred(VERDICT_REQUESTED)
        raise RequestRefused(f"the incident is {incident.state}: {incident.reason}")
    recovery = recoveries.active_for(change.tx, incident.incident_id)
    if recovery is None:
        result = f"the incident is {incident.state}: {incident.reason}"
        if incident.state == IncidentState.IGNORED:
            raise RequestRefused(f"not recovered, {result}")
        return f"carried out; {result}"
    if recovery.state == RecoveryState.REQUESTED and recovery.not_before <= change.now:
        raise RequestDeferred(VERDICT_REQUESTED)
    if recovery.state == RecoveryState.REQUESTED:
        return f"carried out; next is {_text(recovery)}"
    return f"{_text(recovery)} of policy {recovery.policy} was started, without limits"


def _hold_until(change: RequestedChange, until: int, reason: str) -> None:
    """Hold an incident and cancel its recovery."""
    tx, incident, now = change.tx, change.incident, change.now
    _cancel_recovery(change, reason)
    changes = {"held_by": HoldReason.OPERATOR, "override": ""}
    if incident.state == IncidentState.HELD:
        incidents.reschedule(tx, incident, until, reason, now, **changes)
    else:
        move(tx, incident, IncidentTransition.HOLD, reason, now, hold_until=until, **changes)


def _cancel_recovery(change: RequestedChange, reason: str) -> None:
    """Cancel an incident's recovery; a driver in progress cannot be stopped."""
    recovery = recoveries.active_for(change.tx, change.incident.incident_id)
    if recovery is None:
        return
    if recovery.state == RecoveryState.RUNNING:
        raise RequestDeferred(f"waits until {_text(recovery)} returns")
    move_recovery(change.tx, recovery, RecoveryTransition.CANCEL, reason, change.now)


def _end_storm(change: RequestedChange, reason: str) -> str:
    released = storm_ending.end_storm(change.tx, change.incident, reason, change.now)
    return f"resolved; {released} incidents are released"


def _text(recovery: Recovery) -> str:
    return f"driver {recovery.driver}, attempt {recovery.attempt}"
