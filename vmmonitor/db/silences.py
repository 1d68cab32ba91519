# SPDX-License-Identifier: Apache-2.0
"""Store the silences, and release the incidents that a silence muted when it is ended early."""

import functools
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import limits, rows
from vmmonitor.db.page import Page
from vmmonitor.db.repository import Repository
from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import INCIDENTS, SILENCES
from vmmonitor.model import errors
from vmmonitor.model.incident import HoldReason
from vmmonitor.model.silence import Silence, SilenceState
from vmmonitor.model.states import IncidentState


def insert(tx: Transaction, silence: Silence, most: int) -> None:
    """Store a new silence.

    :param most: maximum number of silences that have not expired.
    :raises vmmonitor.model.errors.Conflict: the maximum is reached.
    """
    query = sa.select(sa.func.count()).select_from(SILENCES)
    existing = tx.execute(query.where(~_has_expired(silence.created_at))).scalar_one()
    if existing >= most:
        raise errors.Conflict(f"There are {existing} silences; the maximum is {most}")
    tx.execute(sa.insert(SILENCES).values(rows.shallow(silence)))


def active(tx: Transaction, now: int) -> list[Silence]:
    """Return the active silences, the one that ends last first.

    :param now: microseconds since the epoch, engines' clock.
    """
    query = sa.select(SILENCES).where(_is_in(SilenceState.ACTIVE, now))
    by_end = query.order_by(SILENCES.c.ends_at.desc(), SILENCES.c.id)
    return [_from_row(row) for row in tx.execute(by_end)]


def lock_active(tx: Transaction, silence_id: str, now: int) -> bool:
    """Lock an active silence against an early end; return False if it is not active.

    A transaction that ends the silence waits for this one, and then sees the incidents that it
    silenced.

    :param now: microseconds since the epoch, engines' clock.
    """
    query = sa.select(SILENCES.c.id).where(
        SILENCES.c.silence_id == silence_id, _is_in(SilenceState.ACTIVE, now)
    )
    return tx.execute(query.with_for_update(read=True)).first() is not None


def page(tx: Transaction, page: Page, in_states: Collection[str], now: int) -> list[Silence]:
    """Return a page of the silences, the newest first unless requested otherwise.

    ``since`` and ``until`` refer to ``created_at``.

    :param in_states: values of ``SilenceState``; empty for all.
    :param now: microseconds since the epoch, engines' clock: the states depend on it.
    :raises ValueError: see ``Repository.page``.
    :raises vmmonitor.model.errors.NotFound: no silence has the id of the marker.
    """
    wanted = [sa.or_(*(_is_in(state, now) for state in in_states))] if in_states else []
    return REPOSITORY.page(tx, page, *wanted)


def expire(tx: Transaction, silence_id: str, now: int, by: str) -> Silence:
    """End a silence early, and make every silenced incident due.

    An incident that another silence mutes as well is silenced again by it.

    :param now: microseconds since the epoch, engines' clock.
    :param by: the operator who ends it.
    :return: the silence after the change.
    :raises vmmonitor.model.errors.NotFound: no silence has this id.
    :raises vmmonitor.model.errors.Conflict: it has already expired.
    """
    found = REPOSITORY.lock(tx, silence_id)
    if found.state(now) == SilenceState.EXPIRED:
        raise errors.Conflict("The silence has already expired", silence_id=silence_id)
    ended = SILENCES.c.silence_id == silence_id
    tx.execute(sa.update(SILENCES).where(ended).values(expired_at=now, expired_by=by))
    # Also incidents that are due: an engine may be about to silence one until the old end.
    states = (IncidentState.SILENCED, IncidentState.RECOVERING)
    muted = sa.and_(INCIDENTS.c.state.in_(states), INCIDENTS.c.held_by == HoldReason.SILENCE)
    tx.execute(sa.update(INCIDENTS).where(muted).values(hold_until=now))
    limits.make_attempts_due(tx, muted, now)
    return get(tx, silence_id)


def _has_expired(now: int) -> sa.ColumnElement[bool]:
    return sa.or_(SILENCES.c.expired_at.is_not(None), SILENCES.c.ends_at <= now)


def _is_in(state: str, now: int) -> sa.ColumnElement[bool]:
    """Return the condition that corresponds to ``Silence.state``."""
    if state == SilenceState.EXPIRED:
        return _has_expired(now)
    has_begun = SILENCES.c.starts_at <= now
    has_not_ended = sa.and_(SILENCES.c.ends_at > now, SILENCES.c.expired_at.is_(None))
    return sa.and_(has_not_ended, has_begun if state == SilenceState.ACTIVE else ~has_begun)


def _from_row(row: sa.Row[Any]) -> Silence:
    return Silence(**rows.fields(Silence, row._mapping))


REPOSITORY = Repository(
    table=SILENCES,
    key="silence_id",
    from_row=_from_row,
    time="created_at",
    filters=frozenset({"author"}),
    sort=frozenset({"created_at", "starts_at", "ends_at"}),
    default=[("created_at", "desc")],
)
get = REPOSITORY.get
#: Delete the silences whose planned end is before a time.
purge = functools.partial(REPOSITORY.purge, column="ends_at")
