# SPDX-License-Identifier: Apache-2.0
"""Store the operator requests: written by the API, carried out by any engine."""

import functools
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.repository import Repository
from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import REQUESTS
from vmmonitor.model import errors, states
from vmmonitor.model.request import RECOVER, RETRY, OperatorRequest
from vmmonitor.model.states import RequestState, RequestTransition


def insert(tx: Transaction, request: OperatorRequest) -> None:
    """Store a new request."""
    tx.execute(sa.insert(REQUESTS), rows.shallow(request))


def due(tx: Transaction, limit: int) -> list[OperatorRequest]:
    """Return the requests that no engine has carried out yet, oldest first.

    :param limit: maximum number of requests.
    """
    query = sa.select(REQUESTS).where(REQUESTS.c.state == RequestState.REQUESTED)
    query = query.order_by(REQUESTS.c.created_at, REQUESTS.c.id).limit(limit)
    return [_from_row(row) for row in tx.execute(query)]


def awaits_verdict(tx: Transaction, incident_id: str) -> bool:
    """Return whether an operator has requested a recovery and waits for the verdict."""
    query = sa.select(REQUESTS.c.id).where(
        REQUESTS.c.incident_id == incident_id,
        REQUESTS.c.state == RequestState.REQUESTED,
        REQUESTS.c.verb.in_((RECOVER, RETRY)),
    )
    return tx.execute(query.limit(1)).first() is not None


def transition(
    tx: Transaction,
    request: OperatorRequest,
    transition: RequestTransition,
    message: str,
    now: int,
) -> None:
    """End a request, if no other engine did so meanwhile.

    :param message: its result; one sentence for the operator.
    :param now: microseconds since the epoch.
    :raises vmmonitor.model.errors.Conflict: another engine has ended it.
    """
    before = RequestState(request.state)
    state = states.next_state(states.REQUEST_TRANSITIONS, before, transition)
    _update(tx, request, state=state, message=message, finished_at=now)


def set_message(tx: Transaction, request: OperatorRequest, message: str) -> None:
    """Store the reason why a request waits.

    :raises vmmonitor.model.errors.Conflict: another engine has ended it.
    """
    if message != request.message:
        _update(tx, request, message=message)


def _update(tx: Transaction, request: OperatorRequest, **changes: Any) -> None:
    same = sa.and_(REQUESTS.c.request_id == request.request_id, REQUESTS.c.state == request.state)
    if not tx.execute(sa.update(REQUESTS).where(same).values(changes)).rowcount:
        raise errors.Conflict(request_id=request.request_id, state=request.state)


def _from_row(row: sa.Row[Any]) -> OperatorRequest:
    return OperatorRequest(**rows.fields(OperatorRequest, row._mapping))


REPOSITORY = Repository(
    table=REQUESTS,
    key="request_id",
    from_row=_from_row,
    time="created_at",
    filters=frozenset({"incident_id", "recovery_id", "state", "verb", "author"}),
    sort=frozenset({"created_at"}),
    default=[("created_at", "desc")],
)
get, page = REPOSITORY.get, REPOSITORY.page
#: Delete the requests that ended before a time.
purge = functools.partial(REPOSITORY.purge, column="finished_at")
