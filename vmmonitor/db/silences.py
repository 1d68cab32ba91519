# SPDX-License-Identifier: Apache-2.0
"""The silences, and what their early end means to the incidents that they mute."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.page import Listing, Page
from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import INCIDENTS, SILENCES
from vmmonitor.model import errors, silence
from vmmonitor.model.incident import HoldReason
from vmmonitor.model.silence import Silence
from vmmonitor.model.states import IncidentState

LISTING = Listing(
    table=SILENCES,
    key="silence_id",
    time="created_at",
    filters=frozenset({"author"}),
    sort=frozenset({"created_at", "starts_at", "ends_at"}),
    default=[("created_at", "desc")],
)


def insert(tx: Transaction, silence: Silence, most: int) -> None:
    """Store a new silence.

    :param most: how many there may be that are not over.
    :raises vmmonitor.model.errors.Conflict: there are as many already.
    """
    query = sa.select(sa.func.count()).select_from(SILENCES)
    there = tx.execute(query.where(~_is_over(silence.created_at))).scalar_one()
    if there >= most:
        raise errors.Conflict(f"There are {there} silences already, and {most} at most may be")
    tx.execute(sa.insert(SILENCES).values(rows.shallow(silence)))


def get(tx: Transaction, silence_id: str) -> Silence:
    """Return a silence.

    :raises vmmonitor.model.errors.NotFound: there is none with this id.
    """
    return _the_one(tx, silence_id, sa.select(SILENCES))


def active(tx: Transaction, now: int) -> list[Silence]:
    """Return the silences that hold, the one that ends last first.

    :param now: microseconds since the epoch, engines' clock.
    """
    query = sa.select(SILENCES).where(_is_in(silence.ACTIVE, now))
    by_end = query.order_by(SILENCES.c.ends_at.desc(), SILENCES.c.id)
    return [_silence(row) for row in tx.execute(by_end)]


def pin(tx: Transaction, silence_id: str, now: int) -> bool:
    """Keep a silence from being ended before this transaction is; False if it is over already.

    Whoever ends it waits, and then sees the incidents that were silenced meanwhile.

    :param now: microseconds since the epoch, engines' clock.
    """
    query = sa.select(SILENCES.c.id).where(
        SILENCES.c.silence_id == silence_id, _is_in(silence.ACTIVE, now)
    )
    return tx.execute(query.with_for_update(read=True)).first() is not None


def page(tx: Transaction, page: Page, in_states: Collection[str], now: int) -> list[Silence]:
    """Return a page of the silences, the newest first unless asked otherwise.

    ``since`` and ``until`` mean ``created_at``.

    :param in_states: of ``silence.STATES``; empty for all.
    :param now: microseconds since the epoch, engines' clock: which state each is in.
    :raises ValueError: see Listing.rows.
    :raises vmmonitor.model.errors.NotFound: nothing has the marker's id.
    """
    wanted = [sa.or_(*(_is_in(state, now) for state in in_states))] if in_states else []
    return [_silence(row) for row in LISTING.rows(tx, page, *wanted)]


def expire(tx: Transaction, silence_id: str, now: int, by: str) -> Silence:
    """End a silence early, and have what is silenced looked at again at once.

    That is every silenced incident: who is muted by another silence is muted again by it.

    :param now: microseconds since the epoch, engines' clock.
    :param by: who ends it.
    :return: the silence as it is then.
    :raises vmmonitor.model.errors.NotFound: there is none with this id.
    :raises vmmonitor.model.errors.Conflict: it is over already.
    """
    found = _the_one(tx, silence_id, sa.select(SILENCES).with_for_update())
    if found.state(now) == silence.EXPIRED:
        raise errors.Conflict("The silence is over already", silence_id=silence_id)
    ended = SILENCES.c.silence_id == silence_id
    tx.execute(sa.update(SILENCES).where(ended).values(expired_at=now, expired_by=by))
    # Due or not: one that is being looked at just now may be silenced again until the old end.
    muted = sa.and_(
        INCIDENTS.c.state == IncidentState.SILENCED, INCIDENTS.c.held_by == HoldReason.SILENCE
    )
    tx.execute(sa.update(INCIDENTS).where(muted).values(hold_until=now))
    return get(tx, silence_id)


def purge(tx: Transaction, before: int, limit: int) -> int:
    """Delete silences that are over, the oldest first.

    :param before: those whose end was to be earlier go; microseconds since the epoch.
    :param limit: greatest number to delete in this transaction.
    :return: how many were deleted; fewer than ``limit``: there is nothing left to delete.
    """
    query = sa.select(SILENCES.c.id).where(SILENCES.c.ends_at < before)
    ids = tx.execute(query.order_by(SILENCES.c.ends_at).limit(limit)).scalars().all()
    deleted = 0
    for chunk in rows.chunks(ids):
        deleted += tx.execute(sa.delete(SILENCES).where(SILENCES.c.id.in_(chunk))).rowcount
    return deleted


def _is_over(now: int) -> sa.ColumnElement[bool]:
    return sa.or_(SILENCES.c.expired_at.is_not(None), SILENCES.c.ends_at <= now)


def _is_in(state: str, now: int) -> sa.ColumnElement[bool]:
    """Return the condition that says what ``Silence.state`` says."""
    if state == silence.EXPIRED:
        return _is_over(now)
    begun = SILENCES.c.starts_at <= now
    goes_on = sa.and_(SILENCES.c.ends_at > now, SILENCES.c.expired_at.is_(None))
    return sa.and_(goes_on, begun if state == silence.ACTIVE else ~begun)


def _the_one(tx: Transaction, silence_id: str, query: sa.Select[Any]) -> Silence:
    row = tx.execute(query.where(SILENCES.c.silence_id == silence_id)).first()
    if row is None:
        raise errors.NotFound(silence_id=silence_id)
    return _silence(row)


def _silence(row: sa.Row[Any]) -> Silence:
    return Silence(**rows.fields(Silence, row._mapping))
