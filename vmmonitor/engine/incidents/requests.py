# SPDX-License-Identifier: Apache-2.0
"""Carries out operator requests, each in one transaction; the first engine that reads one does.

A request that is not possible is refused with a reason. A request that must wait for a driver to
return is deferred. The timeline of the incident shows each request with its author and result.
"""

from typing import Protocol

from oslo_log import log

from vmmonitor.db import incidents, requests
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.incidents.request_verbs import (
    VERBS,
    RequestDeferred,
    RequestedChange,
    RequestRefused,
)
from vmmonitor.engine.incidents.transitions import note
from vmmonitor.model.errors import Conflict, NotFound
from vmmonitor.model.incident import Incident
from vmmonitor.model.request import OperatorRequest
from vmmonitor.model.states import RequestTransition
from vmmonitor.rules.policies import Policies

LOG = log.getLogger(__name__)

#: Maximum number of requests that one call of ``carry_out_due`` carries out.
MAX_REQUESTS_AT_ONCE = 100


class PolicySource(Protocol):
    """Has the policies in force, which a reload replaces.

    :ivar policies: the policies in force.
    """

    policies: Policies


class OperatorRequests:
    """Finds requests and carries them out, in the thread of the caller."""

    def __init__(self, database: Database, policy_source: PolicySource):
        """Create the executor of requests.

        :param policy_source: has the policies in force.
        """
        self._database = database
        self._policy_source = policy_source

    def carry_out_due(self) -> None:
        """Carry out the requests that wait.

        :raises vmmonitor.model.errors.Retriable: the database is not available.
        """
        with self._database.reader() as tx:
            due = requests.due(tx, MAX_REQUESTS_AT_ONCE)
        for request in due:
            try:
                self._database.run(self._carry_out, request)
            except Conflict as error:
                LOG.debug("Another engine changed request %s: %s", request.request_id, error)

    def _carry_out(self, tx: Transaction, request: OperatorRequest) -> None:
        """Carry out one request in one transaction."""
        try:
            incident = incidents.lock(tx, request.incident_id)
        except NotFound:
            message = "the incident no longer exists"
            now = self._database.now()
            requests.transition(tx, request, RequestTransition.REFUSE, message, now)
            return
        if requests.get(tx, request.request_id) != request:
            return  # Another engine has begun or ended it.
        now = self._database.now()
        change = RequestedChange(
            tx=tx,
            incident=incident,
            request=request,
            policies=self._policy_source.policies,
            now=now,
        )
        try:
            message = VERBS[request.verb](change)
        except RequestDeferred as error:
            requests.set_message(tx, request, str(error))
            return
        except RequestRefused as error:
            requests.transition(tx, request, RequestTransition.REFUSE, str(error), now)
            _add_to_timeline(tx, incident, request, f"refused, {error}", now)
            return
        requests.transition(tx, request, RequestTransition.DO, message, now)
        _add_to_timeline(tx, incident, request, message, now)


def _add_to_timeline(
    tx: Transaction, incident: Incident, request: OperatorRequest, result: str, now: int
) -> None:
    comment = f" ({request.comment})" if request.comment else ""
    message = f"{request.author} requested {request.verb}{comment}: {result}"
    note(tx, incident, now, "request", message, request_id=request.request_id)
    LOG.info("Request %s of incident %s: %s", request.request_id, incident.incident_id, message)
