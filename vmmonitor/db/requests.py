# SPDX-License-Identifier: Apache-2.0
"""What operators want done: written by the API, carried out by whichever engine is first."""

from typing import Any

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.page import Listing, Page
from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import REQUESTS
from vmmonitor.model import errors, states
from vmmonitor.model.request import OperatorRequest
from vmmonitor.model.states import RequestState

LISTING = Listing(
    table=REQUESTS,
    key="request_id",
    time="created_at",
    filters=frozenset({"incident_id", "recovery_id", "state", "verb", "author"}),
    sort=frozenset({"created_at"}),
    default=[("created_at", "desc")],
)


def insert(tx: Transaction, request: OperatorRequest) -> None:
    """Store a new request."""
    tx.execute(sa.insert(REQUESTS), rows.shallow(request))


def due(tx: Transaction, limit: int) -> list[OperatorRequest]:
    """Return the requests that nobody has carried out yet, oldest first.

    :param limit: greatest number of requests.
    """
    query = sa.select(REQUESTS).where(REQUESTS.c.state == RequestState.REQUESTED)
    query = query.order_by(REQUESTS.c.created_at, REQUESTS.c.id).limit(limit)
    return [_request(row) for row in tx.execute(query)]


def move(tx: Transaction, request: OperatorRequest, move: str, message: str, now: int) -> None:
    """End a request, if nobody else did meanwhile.

    :param move: a move of ``states.REQUEST``.
    :param message: what came of it, for a person to read.
    :param now: microseconds since the epoch.
    :raises vmmonitor.model.errors.Conflict: another engine has ended it.
    """
    state = states.next_state(states.REQUEST_TRANSITIONS, RequestState(request.state), move)
    _update(tx, request, state=state, message=message, finished_at=now)


def wait(tx: Transaction, request: OperatorRequest, message: str) -> None:
    """Say what a request waits for.

    :raises vmmonitor.model.errors.Conflict: another engine has ended it.
    """
    if message != request.message:
        _update(tx, request, message=message)


def get(tx: Transaction, request_id: str) -> OperatorRequest:
    """Return a request.

    :raises vmmonitor.model.errors.NotFound: there is none with this id.
    """
    row = tx.execute(sa.select(REQUESTS).where(REQUESTS.c.request_id == request_id)).first()
    if row is None:
        raise errors.NotFound(request_id=request_id)
    return _request(row)


def page(tx: Transaction, page: Page) -> list[OperatorRequest]:
    """Return a page of the requests, the newest first unless asked otherwise.

    ``since`` and ``until`` mean ``created_at``.

    :raises ValueError: see Listing.rows.
    :raises vmmonitor.model.errors.NotFound: nothing has the marker's id.
    """
    return [_request(row) for row in LISTING.rows(tx, page)]


def purge(tx: Transaction, before: int, limit: int) -> int:
    """Delete requests that were ended, the oldest first.

    :param before: those ended earlier go; microseconds since the epoch.
    :param limit: greatest number to delete in this transaction.
    :return: how many were deleted; fewer than ``limit``: there is nothing left to delete.
    """
    query = sa.select(REQUESTS.c.id).where(REQUESTS.c.finished_at < before)
    ids = tx.execute(query.order_by(REQUESTS.c.finished_at).limit(limit)).scalars().all()
    deleted = 0
    for chunk in rows.chunks(ids):
        deleted += tx.execute(sa.delete(REQUESTS).where(REQUESTS.c.id.in_(chunk))).rowcount
    return deleted


def _update(tx: Transaction, request: OperatorRequest, **changes: Any) -> None:
    mine = sa.and_(REQUESTS.c.request_id == request.request_id, REQUESTS.c.state == request.state)
    if not tx.execute(sa.update(REQUESTS).where(mine).values(changes)).rowcount:
        raise errors.Conflict(request_id=request.request_id, state=request.state)


def _request(row: sa.Row[Any]) -> OperatorRequest:
    return OperatorRequest(**rows.fields(OperatorRequest, row._mapping))
