# SPDX-License-Identifier: Apache-2.0
"""The recoveries, and who may work on them."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import outbox, rows
from vmmonitor.db.page import Listing, Page
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import RECOVERIES
from vmmonitor.model import errors, states
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import RecoveryState

LISTING = Listing(
    table=RECOVERIES,
    key="recovery_id",
    time="created_at",
    filters=frozenset({"incident_id", "instance_uuid", "host", "state", "driver"}),
    sort=frozenset({"created_at"}),
    default=[("created_at", "desc")],
)

#: Active state, and a column that says when it needs an engine.
DUE = (
    (RecoveryState.REQUESTED, RECOVERIES.c.not_before),
    (RecoveryState.RUNNING, RECOVERIES.c.lease_until),
    (RecoveryState.WAITING, RECOVERIES.c.wait_until),
    (RecoveryState.WAITING, RECOVERIES.c.look_at),
)


def insert(tx: Transaction, recovery: Recovery) -> None:
    """Store a new recovery.

    :raises vmmonitor.model.errors.Conflict: one of its incident is active already.
    """
    columns = rows.shallow(recovery)
    is_active = recovery.state in states.ACTIVE_RECOVERY_STATES
    columns["open_key"] = recovery.incident_id if is_active else None
    with unique("A recovery of the incident is active already"):
        tx.execute(sa.insert(RECOVERIES), columns)
    outbox.record_change(tx, None, recovery, recovery.created_at)


def move(tx: Transaction, recovery: Recovery, move: str, *, now: int, **changes: Any) -> Recovery:
    """Take a recovery to another state, if nobody else did meanwhile.

    A recovery that stops running gives up its lease, one that stops waiting its ``wait_until``.

    :param recovery: as it was when the move was decided. Who took it over since, or with
        ``take_over`` who renewed the lease since, has changed it.
    :param move: a move of ``states.RECOVERY``.
    :param now: microseconds since the epoch.
    :param changes: new values of other fields (``lease_owner``, ``lease_until``,
        ``wait_until``, ``called_at``, ``message``).
    :return: the recovery as it is then.
    :raises vmmonitor.model.errors.IllegalTransition: the state table has no such move.
    :raises vmmonitor.model.errors.Conflict: it is not as it was; read it again.
    """
    state = states.next_state(states.RECOVERY_TRANSITIONS, recovery.state, move)
    values: dict[str, Any] = {"state": state}
    if state != RecoveryState.RUNNING:
        values |= {"lease_owner": "", "lease_until": 0}
    if state != RecoveryState.WAITING:
        values |= {"wait_until": 0, "look_at": None}
    if state not in states.ACTIVE_RECOVERY_STATES:
        values |= {"open_key": None, "finished_at": now}
    guards = [
        RECOVERIES.c.recovery_id == recovery.recovery_id,
        RECOVERIES.c.state == recovery.state,
        RECOVERIES.c.lease_owner == recovery.lease_owner,
    ]
    if move == "take_over":
        guards.append(RECOVERIES.c.lease_until == recovery.lease_until)
    updated = tx.execute(sa.update(RECOVERIES).where(*guards).values(values | changes))
    if not updated.rowcount:
        raise errors.Conflict(recovery_id=recovery.recovery_id, state=recovery.state)
    moved = get(tx, recovery.recovery_id)
    outbox.record_change(tx, recovery, moved, now)
    return moved


def renew(
    tx: Transaction, owner: str, recovery_ids: Collection[str], lease_until: int
) -> set[str]:
    """Make an engine's leases last longer.

    :param owner: the engine.
    :param recovery_ids: what it believes to run.
    :param lease_until: microseconds since the epoch.
    :return: those that it still runs; another engine has the others, or they are over.
    """
    ours: set[str] = set()
    for chunk in rows.chunks(sorted(recovery_ids)):
        mine = sa.and_(
            RECOVERIES.c.recovery_id.in_(chunk),
            RECOVERIES.c.state == RecoveryState.RUNNING,
            RECOVERIES.c.lease_owner == owner,
        )
        tx.execute(sa.update(RECOVERIES).where(mine).values(lease_until=lease_until))
        ours.update(tx.execute(sa.select(RECOVERIES.c.recovery_id).where(mine)).scalars())
    return ours


def hasten(tx: Transaction, recovery: Recovery, now: int) -> None:
    """Let a requested recovery start at once.

    :param now: microseconds since the epoch.
    :raises vmmonitor.model.errors.Conflict: it is not requested any more.
    """
    mine = sa.and_(
        RECOVERIES.c.recovery_id == recovery.recovery_id,
        RECOVERIES.c.state == RecoveryState.REQUESTED,
    )
    if not tx.execute(sa.update(RECOVERIES).where(mine).values(not_before=now)).rowcount:
        raise errors.Conflict(recovery_id=recovery.recovery_id, state=recovery.state)


def look_again(tx: Transaction, recovery: Recovery, look_at: int) -> None:
    """Have a recovery that waits looked at again, unless it is over or somebody else did so.

    :param look_at: when; microseconds since the epoch.
    """
    tx.execute(
        sa.update(RECOVERIES)
        .where(
            RECOVERIES.c.recovery_id == recovery.recovery_id,
            RECOVERIES.c.state == RecoveryState.WAITING,
            RECOVERIES.c.look_at == recovery.look_at,
        )
        .values(look_at=look_at)
    )


def due(tx: Transaction, now: int, limit: int) -> list[Recovery]:
    """Return recoveries that need an engine, the longest due first.

    Those to be started, those whose engine died, and those that waited in vain.

    :param now: microseconds since the epoch.
    :param limit: greatest number of recoveries.
    """
    found: dict[int, sa.Row[Any]] = {}
    for state, moment in DUE:
        query = (
            sa.select(RECOVERIES, moment.label("due_at"))
            .where(RECOVERIES.c.state == state, moment <= now)
            .order_by(moment, RECOVERIES.c.id)
            .limit(limit)
        )
        for row in tx.execute(query):
            found.setdefault(row.id, row)
    longest = sorted(found.values(), key=lambda row: (row.due_at, row.id))
    return [_recovery(row) for row in longest[:limit]]


def next_due(tx: Transaction, now: int) -> int | None:
    """Return when the next recovery will need an engine; None if none will.

    :param now: microseconds since the epoch; what is due already, ``due`` returns.
    """
    moments = [
        sa.select(sa.func.min(moment))
        .where(RECOVERIES.c.state == state, moment > now)
        .scalar_subquery()
        for state, moment in DUE
    ]
    known = [moment for moment in tx.execute(sa.select(*moments)).one() if moment is not None]
    return min(known, default=None)


def put_right(tx: Transaction, now: int) -> int:
    """Let backoffs, leases and waits that were set at a time that has not come yet, as the
    engines' clock was put back, begin now.

    Who holds a lease and lives renews it by the new time.

    :param now: microseconds since the epoch, engines' clock.
    :return: how many recoveries that concerns.
    """
    moved = 0
    for state in sorted(states.ACTIVE_RECOVERY_STATES):
        begin = (
            RECOVERIES.c.created_at if state == RecoveryState.REQUESTED else RECOVERIES.c.called_at
        )
        # In this order: MySQL computes from values that it has set before.
        changes: dict[sa.Column[Any], Any] = {
            moment: moment - begin + now for of, moment in DUE if of == state
        }
        changes[begin] = now
        later = sa.and_(RECOVERIES.c.state == state, begin > now)
        query = sa.update(RECOVERIES).where(later).ordered_values(*changes.items())
        moved += tx.execute(query).rowcount
    return moved


def active_for(tx: Transaction, incident_id: str) -> Recovery | None:
    """Return the recovery of an incident that is not over; None if there is none."""
    row = tx.execute(sa.select(RECOVERIES).where(RECOVERIES.c.open_key == incident_id)).first()
    return None if row is None else _recovery(row)


def of_incident(tx: Transaction, incident_id: str) -> list[Recovery]:
    """Return all recoveries of an incident, oldest first."""
    query = (
        sa.select(RECOVERIES)
        .where(RECOVERIES.c.incident_id == incident_id)
        .order_by(RECOVERIES.c.created_at, RECOVERIES.c.id)
    )
    return [_recovery(row) for row in tx.execute(query)]


def get(tx: Transaction, recovery_id: str) -> Recovery:
    """Return a recovery.

    :raises vmmonitor.model.errors.NotFound: there is none with this id.
    """
    row = tx.execute(sa.select(RECOVERIES).where(RECOVERIES.c.recovery_id == recovery_id)).first()
    if row is None:
        raise errors.NotFound(recovery_id=recovery_id)
    return _recovery(row)


def page(tx: Transaction, page: Page) -> list[Recovery]:
    """Return a page of the recoveries, the newest first unless asked otherwise.

    ``since`` and ``until`` mean ``created_at``.

    :raises ValueError: see Listing.rows.
    :raises vmmonitor.model.errors.NotFound: nothing has the marker's id.
    """
    return [_recovery(row) for row in LISTING.rows(tx, page)]


def _recovery(row: sa.Row[Any]) -> Recovery:
    fields = rows.fields(Recovery, row._mapping)
    return Recovery(**fields | {"state": RecoveryState(row.state)})
