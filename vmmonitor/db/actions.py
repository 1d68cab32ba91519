# SPDX-License-Identifier: Apache-2.0
"""What operators want done: written by the API, carried out by whichever engine is first."""

from typing import Any

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.page import Listing, Page
from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import ACTIONS
from vmmonitor.model import errors, states
from vmmonitor.model.action import Action

LISTING = Listing(
    table=ACTIONS,
    key="action_id",
    time="created_at",
    filters=frozenset({"incident_id", "recovery_id", "state", "verb", "author"}),
    sort=frozenset({"created_at"}),
    default=[("created_at", "desc")],
)


def insert(tx: Transaction, action: Action) -> None:
    """Store a new action."""
    tx.execute(sa.insert(ACTIONS), rows.shallow(action))


def due(tx: Transaction, limit: int) -> list[Action]:
    """Return the actions that nobody has carried out yet, oldest first.

    :param limit: greatest number of actions.
    """
    query = sa.select(ACTIONS).where(ACTIONS.c.state == states.REQUESTED)
    query = query.order_by(ACTIONS.c.created_at, ACTIONS.c.id).limit(limit)
    return [_action(row) for row in tx.execute(query)]


def move(tx: Transaction, action: Action, move: str, message: str, now: int) -> None:
    """End an action, if nobody else did meanwhile.

    :param move: a move of ``states.ACTION``.
    :param message: what came of it, for a person to read.
    :param now: microseconds since the epoch.
    :raises vmmonitor.model.errors.Conflict: another engine has ended it.
    """
    state = states.after(states.ACTION, action.state, move)
    _update(tx, action, state=state, message=message, finished_at=now)


def wait(tx: Transaction, action: Action, message: str) -> None:
    """Say what an action waits for.

    :raises vmmonitor.model.errors.Conflict: another engine has ended it.
    """
    if message != action.message:
        _update(tx, action, message=message)


def get(tx: Transaction, action_id: str) -> Action:
    """Return an action.

    :raises vmmonitor.model.errors.NotFound: there is none with this id.
    """
    row = tx.execute(sa.select(ACTIONS).where(ACTIONS.c.action_id == action_id)).first()
    if row is None:
        raise errors.NotFound(action_id=action_id)
    return _action(row)


def page(tx: Transaction, page: Page) -> list[Action]:
    """Return a page of the actions, the newest first unless asked otherwise.

    ``since`` and ``until`` mean ``created_at``.

    :raises ValueError: see Listing.rows.
    :raises vmmonitor.model.errors.NotFound: nothing has the marker's id.
    """
    return [_action(row) for row in LISTING.rows(tx, page)]


def purge(tx: Transaction, before: int, limit: int) -> int:
    """Delete actions that were ended, the oldest first.

    :param before: those ended earlier go; microseconds since the epoch.
    :param limit: greatest number to delete in this transaction.
    :return: how many were deleted; fewer than ``limit``: there is nothing left to delete.
    """
    query = sa.select(ACTIONS.c.id).where(ACTIONS.c.finished_at < before)
    ids = tx.execute(query.order_by(ACTIONS.c.finished_at).limit(limit)).scalars().all()
    deleted = 0
    for chunk in rows.chunks(ids):
        deleted += tx.execute(sa.delete(ACTIONS).where(ACTIONS.c.id.in_(chunk))).rowcount
    return deleted


def _update(tx: Transaction, action: Action, **changes: Any) -> None:
    mine = sa.and_(ACTIONS.c.action_id == action.action_id, ACTIONS.c.state == action.state)
    if not tx.execute(sa.update(ACTIONS).where(mine).values(changes)).rowcount:
        raise errors.Conflict(action_id=action.action_id, state=action.state)


def _action(row: sa.Row[Any]) -> Action:
    return Action(**rows.fields(Action, row._mapping))
