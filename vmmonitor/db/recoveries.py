# SPDX-License-Identifier: Apache-2.0
"""Store the recoveries and their leases."""

import dataclasses
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import outbox, rows
from vmmonitor.db.repository import Repository
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import INCIDENTS, RECOVERIES
from vmmonitor.model import errors, states
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import IncidentState, RecoveryState, RecoveryTransition

#: Id of a recovery, and the token of one of its claims.
LeaseKey = tuple[str, int]

#: Active state, and a column with the time when a recovery in this state needs an engine.
DUE = (
    (RecoveryState.REQUESTED, RECOVERIES.c.not_before),
    (RecoveryState.RUNNING, RECOVERIES.c.lease_until),
    (RecoveryState.WAITING, RECOVERIES.c.wait_until),
    (RecoveryState.WAITING, RECOVERIES.c.look_at),
)


def insert(tx: Transaction, recovery: Recovery) -> None:
    """Store a new recovery.

    :raises vmmonitor.model.errors.Conflict: its incident already has an active recovery.
    """
    columns = rows.shallow(recovery)
    is_active = recovery.state in states.ACTIVE_RECOVERY_STATES
    columns["open_key"] = recovery.incident_id if is_active else None
    with unique("The incident already has an active recovery"):
        tx.execute(sa.insert(RECOVERIES), columns)
    outbox.record_change(tx, None, recovery, recovery.created_at)


def transition(
    tx: Transaction,
    recovery: Recovery,
    transition: RecoveryTransition,
    *,
    now: int,
    **changes: Any,
) -> Recovery:
    """Change the state of a recovery, if no other transaction did so meanwhile.

    Only RUNNING has a lease, and only WAITING has ``wait_until`` and ``look_at``; a transition to
    another state clears them.

    :param recovery: the recovery as it was when the transition was decided. Another claim
        meanwhile is a conflict, and so is a renewed lease for TAKE_OVER.
    :param now: microseconds since the epoch.
    :param changes: new values of other fields (``token``, ``lease_owner``, ``lease_until``,
        ``wait_until``, ``called_at``, ``returned_at``, ``message``).
    :return: the recovery after the change.
    :raises vmmonitor.model.errors.IllegalTransition: its state does not have this transition.
    :raises vmmonitor.model.errors.Conflict: it was changed meanwhile; read it again.
    """
    state = states.next_state(states.RECOVERY_TRANSITIONS, recovery.state, transition)
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
        RECOVERIES.c.token == recovery.token,
    ]
    if transition == RecoveryTransition.TAKE_OVER:
        guards.append(RECOVERIES.c.lease_until == recovery.lease_until)
    updated = tx.execute(sa.update(RECOVERIES).where(*guards).values(values | changes))
    if not updated.rowcount:
        raise errors.Conflict(recovery_id=recovery.recovery_id, state=recovery.state)
    # The guards cover the fields that other transactions change without the incident's lock.
    known = {name: value for name, value in (values | changes).items() if name != "open_key"}
    changed = dataclasses.replace(recovery, **known)
    outbox.record_change(tx, recovery, changed, now)
    return changed


def renew_leases(
    tx: Transaction, owner: str, claims: Collection[LeaseKey], lease_until: int
) -> set[LeaseKey]:
    """Renew the leases of an engine, with one statement.

    :param owner: the engine.
    :param claims: the claims whose drivers it is calling.
    :param lease_until: microseconds since the epoch.
    :return: the claims whose lease it still owns; the other recoveries were taken over, by
        another engine or by this one, or they have ended.
    """
    ours: set[LeaseKey] = set()
    for chunk in rows.chunks(sorted(claims)):
        # Fewer rows than claims match if one is lost, as each claim has another token.
        mine = sa.and_(
            RECOVERIES.c.recovery_id.in_({recovery_id for recovery_id, _ in chunk}),
            RECOVERIES.c.token.in_({token for _, token in chunk}),
            RECOVERIES.c.state == RecoveryState.RUNNING,
            RECOVERIES.c.lease_owner == owner,
        )
        updated = tx.execute(sa.update(RECOVERIES).where(mine).values(lease_until=lease_until))
        if updated.rowcount == len(chunk):
            ours.update(chunk)
            continue
        query = sa.select(RECOVERIES.c.recovery_id, RECOVERIES.c.token).where(mine)
        found = {(recovery_id, token) for recovery_id, token in tx.execute(query)}
        ours |= found.intersection(chunk)
    return ours


def postpone_takeover(tx: Transaction, recovery: Recovery, lease_until: int, token: int) -> None:
    """Take a recovery from the engine whose lease has expired, and give it to none for a time.

    :param recovery: a running recovery whose lease has expired.
    :param lease_until: when it can be taken over; microseconds since the epoch.
    :param token: the next fence token, so that the agent and the driver of the earlier claim stop.
    :raises vmmonitor.model.errors.Conflict: it was changed, or its lease was renewed.
    """
    same = sa.and_(
        RECOVERIES.c.recovery_id == recovery.recovery_id,
        RECOVERIES.c.state == RecoveryState.RUNNING,
        RECOVERIES.c.token == recovery.token,
        RECOVERIES.c.lease_until == recovery.lease_until,
    )
    values = {"lease_owner": "", "lease_until": lease_until, "token": token}
    if not tx.execute(sa.update(RECOVERIES).where(same).values(values)).rowcount:
        raise errors.Conflict(recovery_id=recovery.recovery_id, state=recovery.state)


def expedite(tx: Transaction, recovery: Recovery, now: int) -> None:
    """Make a requested recovery due immediately.

    :param now: microseconds since the epoch.
    :raises vmmonitor.model.errors.Conflict: its state is no longer REQUESTED.
    """
    mine = sa.and_(
        RECOVERIES.c.recovery_id == recovery.recovery_id,
        RECOVERIES.c.state == RecoveryState.REQUESTED,
    )
    if not tx.execute(sa.update(RECOVERIES).where(mine).values(not_before=now)).rowcount:
        raise errors.Conflict(recovery_id=recovery.recovery_id, state=recovery.state)


def set_look_at(tx: Transaction, recovery: Recovery, look_at: int) -> None:
    """Schedule the next active poll of a waiting recovery, unless it was changed meanwhile.

    :param look_at: microseconds since the epoch.
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
    """Return the recoveries that need an engine, the longest due first.

    A recovery needs an engine to start it, when its lease has expired, for its next active poll,
    and when its wait has ended.

    :param now: microseconds since the epoch.
    :param limit: maximum number of recoveries.
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
    return [_from_row(row) for row in longest[:limit]]


def next_due(tx: Transaction, now: int) -> int | None:
    """Return when the next recovery will need an engine; None without one.

    :param now: microseconds since the epoch; recoveries due by then are left to ``due``.
    """
    moments = [
        sa.select(sa.func.min(moment))
        .where(RECOVERIES.c.state == state, moment > now)
        .scalar_subquery()
        for state, moment in DUE
    ]
    known = [moment for moment in tx.execute(sa.select(*moments)).one() if moment is not None]
    return min(known, default=None)


def rebase_after_clock_step(tx: Transaction, now: int) -> int:
    """Restart backoffs, leases and waits that began in the future, after the engines' clock
    stepped back.

    A running engine renews its leases by the new time.

    :param now: microseconds since the epoch, engines' clock.
    :return: the number of changed recoveries.
    """
    moved = 0
    for state in sorted(states.ACTIVE_RECOVERY_STATES):
        begin = (
            RECOVERIES.c.created_at if state == RecoveryState.REQUESTED else RECOVERIES.c.called_at
        )
        # The order matters: MySQL evaluates an assignment with the new values of earlier ones.
        changes: dict[sa.Column[Any], Any] = {
            moment: moment - begin + now for of, moment in DUE if of == state
        }
        changes[begin] = now
        later = sa.and_(RECOVERIES.c.state == state, begin > now)
        query = sa.update(RECOVERIES).where(later).ordered_values(*changes.items())
        moved += tx.execute(query).rowcount
    return moved


def is_current(
    tx: Transaction, recovery_id: str, *, host: str, instance_uuid: str, token: int, now: int
) -> bool:
    """Return whether an agent may still act for a recovery.

    The recovery is running with a valid lease and this token, and its incident, on this host, is
    still being recovered.

    :param now: microseconds since the epoch.
    """
    query = (
        sa.select(RECOVERIES.c.id)
        .join(INCIDENTS, INCIDENTS.c.incident_id == RECOVERIES.c.incident_id)
        .where(
            RECOVERIES.c.recovery_id == recovery_id,
            RECOVERIES.c.instance_uuid == instance_uuid,
            RECOVERIES.c.state == RecoveryState.RUNNING,
            RECOVERIES.c.token == token,
            RECOVERIES.c.lease_until > now,
            INCIDENTS.c.host == host,
            INCIDENTS.c.state == IncidentState.RECOVERING,
        )
    )
    return tx.execute(query).first() is not None


def active_for(tx: Transaction, incident_id: str) -> Recovery | None:
    """Return the active recovery of an incident; None without one."""
    row = tx.execute(sa.select(RECOVERIES).where(RECOVERIES.c.open_key == incident_id)).first()
    return None if row is None else _from_row(row)


def of_incident(tx: Transaction, incident_id: str) -> list[Recovery]:
    """Return all recoveries of an incident, oldest first."""
    query = (
        sa.select(RECOVERIES)
        .where(RECOVERIES.c.incident_id == incident_id)
        .order_by(RECOVERIES.c.created_at, RECOVERIES.c.id)
    )
    return [_from_row(row) for row in tx.execute(query)]


def _from_row(row: sa.Row[Any]) -> Recovery:
    fields = rows.fields(Recovery, row._mapping)
    return Recovery(**fields | {"state": RecoveryState(row.state)})


REPOSITORY = Repository(
    table=RECOVERIES,
    key="recovery_id",
    from_row=_from_row,
    time="created_at",
    filters=frozenset({"incident_id", "instance_uuid", "host", "state", "driver"}),
    sort=frozenset({"created_at"}),
    default=[("created_at", "desc")],
)
get, page = REPOSITORY.get, REPOSITORY.page
