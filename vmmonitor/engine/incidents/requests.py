# SPDX-License-Identifier: Apache-2.0
"""Carries out what operators want done, each wish in one transaction, by whichever engine is
first.

What cannot be done is refused with a reason; what a driver is in the way of waits until it
returns. Either way it stands in the incident's time line, with who wanted it and why.
"""

from collections.abc import Callable, Mapping

from oslo_log import log

from vmmonitor.db import incidents, recoveries, requests
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.admission import storms
from vmmonitor.engine.incidents.transitions import move, move_recovery, note
from vmmonitor.engine.recovery.attempts import Attempts, next_step
from vmmonitor.model import incident as kinds
from vmmonitor.model import request as verbs
from vmmonitor.model import states
from vmmonitor.model.clock import SECOND
from vmmonitor.model.errors import Conflict, NotFound
from vmmonitor.model.incident import HoldReason, Incident, IncidentKind
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.request import OperatorRequest
from vmmonitor.model.states import (
    IncidentState,
    IncidentTransition,
    RecoveryState,
    RecoveryTransition,
    RequestTransition,
)

LOG = log.getLogger(__name__)

#: Maximum number of requests in one round.
MOST = 100


class Refused(Exception):
    """It cannot be done; the words say why"""


class NotYet(Exception):
    """It can be done later; the words say when"""


class OperatorRequests:
    """Carries out due requests. The dispatcher calls ``carry_out_due`` in its thread."""

    def __init__(self, database: Database, attempts: Attempts):
        """Keep the parts.

        :param attempts: has the policies in force.
        """
        self._database = database
        self._attempts = attempts

    def carry_out_due(self) -> None:
        """Carry out what is wanted.

        :raises vmmonitor.model.errors.Retriable: the database is away.
        """
        with self._database.reader() as tx:
            wanted = requests.due(tx, MOST)
        for request in wanted:
            try:
                self._database.run(self._carry_out, request)
            except Conflict as error:
                LOG.debug("Another was faster with request %s: %s", request.request_id, error)

    # -- one transaction each ------------------------------------------------------------------
    def _carry_out(self, tx: Transaction, request: OperatorRequest) -> None:
        try:
            incident = incidents.lock(tx, request.incident_id)
        except NotFound:
            message = "the incident is not there any more"
            requests.transition(
                tx, request, RequestTransition.REFUSE, message, self._database.now()
            )
            return
        now = self._database.now()
        try:
            message = VERBS[request.verb](self, tx, incident, request, now)
        except NotYet as error:
            requests.set_message(tx, request, str(error))
            return
        except Refused as error:
            requests.transition(tx, request, RequestTransition.REFUSE, str(error), now)
            self._tell(tx, incident, request, f"refused, {error}", now)
            return
        requests.transition(tx, request, RequestTransition.DO, message, now)
        self._tell(tx, incident, request, message, now)

    def _tell(
        self, tx: Transaction, incident: Incident, request: OperatorRequest, message: str, now: int
    ) -> None:
        why = f" ({request.comment})" if request.comment else ""
        words = f"{request.author} asked to {request.verb}{why}: {message}"
        note(tx, incident, now, "request", words, request_id=request.request_id)
        LOG.info("Incident %s: %s", incident.incident_id, words)

    def _recover(
        self, tx: Transaction, incident: Incident, request: OperatorRequest, now: int
    ) -> str:
        """Have it judged at once, with every gate open."""
        _only_of_an_instance(incident)
        if incident.state == IncidentState.RECOVERING:
            return self._hasten(tx, incident, now)
        name = str(request.options.get("policy", "")) or incident.policy
        self._needs_steps(name)
        if incident.state in (IncidentState.RESOLVED, IncidentState.IGNORED):
            raise Refused(f"it is {incident.state}: {incident.reason}")
        self._due_now(tx, incident, request, now, policy=name, override=request.author)
        return f"to be recovered at once by policy {name}, whatever limit stands against it"

    def _needs_steps(self, name: str) -> None:
        policies = self._attempts.policies
        if next_step(policies.get(name), -1) is None:
            able = [row.name for row in policies.rows if next_step(row.value, -1) is not None]
            what = f"policy {name} does not act, or is not in force" if name else "no policy acts"
            raise Refused(f"{what}; name one that does: {', '.join(able) or 'there is none'}")

    def _due_now(
        self,
        tx: Transaction,
        incident: Incident,
        request: OperatorRequest,
        now: int,
        **changes: str,
    ) -> None:
        word = f"as {request.words} wants"
        if incident.state in incidents.WAITING:
            incidents.reschedule(tx, incident, now, word, now, held_by="", **changes)
            return
        if incident.state == IncidentState.UNRECOVERED and _another_is_open(tx, incident):
            raise Refused("another incident of the instance is open")
        name = (
            IncidentTransition.RETRY
            if incident.state == IncidentState.UNRECOVERED
            else IncidentTransition.RELEASE
        )
        move(tx, incident, name, word, now, hold_until=now, running_at=None, **changes)

    def _hasten(self, tx: Transaction, incident: Incident, now: int) -> str:
        """Have the next attempt made at once."""
        recovery = recoveries.active_for(tx, incident.incident_id)
        if recovery is None or recovery.state != RecoveryState.REQUESTED:
            at_work = f": {_told(recovery)}" if recovery else ""
            raise Refused(f"it is being recovered{at_work}")
        recoveries.expedite(tx, recovery, now)
        return f"{_told(recovery)} is made at once"

    def _resolve(
        self, tx: Transaction, incident: Incident, request: OperatorRequest, now: int
    ) -> str:
        """End it; a storm with its members let go."""
        if incident.kind == IncidentKind.HOST:
            raise Refused("it is about a host, and ends when that is watched again")
        word = f"resolved by {request.words}"
        if incident.kind == IncidentKind.STORM:
            return self._end_storm(tx, incident, word, now)
        _only_open(incident)
        incident = self._end_recovery(tx, incident, word, now)
        move(tx, incident, IncidentTransition.RUN, word, now)
        return "done"

    def _hold(
        self, tx: Transaction, incident: Incident, request: OperatorRequest, now: int
    ) -> str:
        """Let nothing act on it, for a time or until it is released."""
        _only_of_an_instance(incident)
        _only_open(incident)
        seconds = request.options.get("seconds")
        until = now + round(seconds * SECOND) if seconds else kinds.UNTIL_RELEASED
        word = f"held by {request.words}"
        incident = self._end_recovery(tx, incident, word, now)
        changes = {"held_by": HoldReason.OPERATOR, "override": ""}
        if incident.state == IncidentState.HELD:
            incidents.reschedule(tx, incident, until, word, now, **changes)
        else:
            move(tx, incident, IncidentTransition.HOLD, word, now, hold_until=until, **changes)
        return f"held for {seconds:g} s" if seconds else "held until it is released"

    def _release(
        self, tx: Transaction, incident: Incident, request: OperatorRequest, now: int
    ) -> str:
        """Let it go on: past what held it, or to what else may."""
        _only_open(incident)
        word = f"released by {request.words}"
        if incident.kind == IncidentKind.STORM:
            return self._end_storm(tx, incident, word, now)
        if incident.state not in incidents.WAITING:
            raise Refused(f"nothing holds it: it is {incident.state}")
        by_hand = incident.held_by == HoldReason.OPERATOR
        opens = {} if by_hand or not incident.held_by else {"override": request.author}
        self._due_now(tx, incident, request, now, **opens)
        held = f"what held it was: {incident.reason}"
        return held if opens else "it is to be judged at once"

    def _cancel(
        self, tx: Transaction, incident: Incident, request: OperatorRequest, now: int
    ) -> str:
        """End its recovery, and hold it until it is released."""
        if incident.state != IncidentState.RECOVERING:
            raise Refused(f"nothing recovers its incident: that is {incident.state}")
        word = f"cancelled by {request.words}"
        incident = self._end_recovery(tx, incident, word, now)
        held = {"hold_until": kinds.UNTIL_RELEASED, "held_by": HoldReason.OPERATOR, "override": ""}
        move(tx, incident, IncidentTransition.HOLD, word, now, **held)
        return "cancelled; its incident is held until it is released"

    def _retry(
        self, tx: Transaction, incident: Incident, request: OperatorRequest, now: int
    ) -> str:
        """Try again by the recovery's own policy."""
        if incident.state == IncidentState.RECOVERING:
            return self._hasten(tx, incident, now)
        if incident.state in (IncidentState.RESOLVED, IncidentState.IGNORED):
            raise Refused(f"its incident is {incident.state}: {incident.reason}")
        policy = recoveries.get(tx, request.recovery_id).policy
        self._needs_steps(policy)
        self._due_now(tx, incident, request, now, policy=policy, override=request.author)
        return f"to be recovered at once by policy {policy}, whatever limit stands against it"

    def _end_recovery(self, tx: Transaction, incident: Incident, word: str, now: int) -> Incident:
        """Cancel an incident's recovery, unless a driver is at work: nobody can call that back."""
        recovery = recoveries.active_for(tx, incident.incident_id)
        if recovery is None:
            return incident
        if recovery.state == RecoveryState.RUNNING:
            raise NotYet(f"waits for {_told(recovery)} to return")
        move_recovery(tx, recovery, RecoveryTransition.CANCEL, word, now)
        return incident

    def _end_storm(self, tx: Transaction, storm: Incident, word: str, now: int) -> str:
        count = storms.end_storm(tx, storm, word, now)
        return f"over; {count} instances go on"


#: What is wanted -> how it is done; returns what came of it, in words.
VERBS: Mapping[
    str, Callable[[OperatorRequests, Transaction, Incident, OperatorRequest, int], str]
] = {
    verbs.RECOVER: OperatorRequests._recover,
    verbs.RESOLVE: OperatorRequests._resolve,
    verbs.HOLD: OperatorRequests._hold,
    verbs.RELEASE: OperatorRequests._release,
    verbs.CANCEL: OperatorRequests._cancel,
    verbs.RETRY: OperatorRequests._retry,
}


def _only_of_an_instance(incident: Incident) -> None:
    if incident.kind != IncidentKind.INSTANCE:
        raise Refused(f"it is about a {incident.kind}, not an instance")


def _only_open(incident: Incident) -> None:
    if incident.state not in states.OPEN_INCIDENT_STATES:
        raise Refused(f"it is over: {incident.state}, {incident.reason}")


def _another_is_open(tx: Transaction, incident: Incident) -> bool:
    return bool(incidents.lock_open(tx, [incident.instance.uuid]))


def _told(recovery: Recovery) -> str:
    return f"driver {recovery.driver}, attempt {recovery.attempt}"
