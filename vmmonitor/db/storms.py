# SPDX-License-Identifier: Apache-2.0
"""Count failures, and read and change storms and their members.

Locks are taken in one order. A transaction that adds a member locks the member's incident, then
the storm. A transaction that ends a storm locks the storm, then its members, which only read the
storm. The exception is the probed member: there the database may detect a deadlock, and one
transaction is repeated.
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from vmmonitor.db import incidents, limits
from vmmonitor.db.incidents import OF_INSTANCE
from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import INCIDENTS, INSTANCES, RECOVERIES
from vmmonitor.model import states
from vmmonitor.model.incident import HoldReason, Incident, IncidentKind
from vmmonitor.model.states import IncidentState

IS_OPEN = INCIDENTS.c.open_key.is_not(None)
HELD_HERE = sa.and_(INCIDENTS.c.state.in_(limits.HOLDING), INCIDENTS.c.held_by == HoldReason.STORM)
#: Condition of incidents with at least one call of a driver.
WAS_RECOVERED = sa.exists().where(
    RECOVERIES.c.incident_id == INCIDENTS.c.incident_id, RECOVERIES.c.called_at.is_not(None)
)


# -- storms ------------------------------------------------------------------------------------
def list_open_ids(tx: Transaction) -> list[str]:
    """Return the ids of the open storms, the oldest first."""
    query = sa.select(INCIDENTS.c.incident_id).where(
        INCIDENTS.c.kind == IncidentKind.STORM, IS_OPEN
    )
    return list(tx.execute(query.order_by(INCIDENTS.c.id)).scalars())


def find_open(tx: Transaction, shared_causes: Sequence[str]) -> Incident | None:
    """Return the open storm of the first of these causes that has one, and lock its row.

    :param shared_causes: the causes, in order of preference.
    """
    query = sa.select(INCIDENTS.c.shared_cause, INCIDENTS.c.incident_id).where(
        INCIDENTS.c.kind == IncidentKind.STORM,
        INCIDENTS.c.shared_cause.in_(shared_causes),
        IS_OPEN,
    )
    found: dict[str, str] = {cause: ident for cause, ident in tx.execute(query)}
    for ident in filter(None, map(found.get, shared_causes)):
        storm = incidents.lock(tx, ident)
        if storm.state in states.OPEN_INCIDENT_STATES:
            return storm
    return None


def find(tx: Transaction, storm_id: str) -> Incident | None:
    """Return an open storm without locking it; None if it is closed or deleted."""
    query = sa.select(INCIDENTS.c.incident_id).where(
        INCIDENTS.c.incident_id == storm_id, INCIDENTS.c.kind == IncidentKind.STORM, IS_OPEN
    )
    return incidents.get(tx, storm_id) if tx.execute(query).first() else None


def join(tx: Transaction, storm: Incident, now: int) -> None:
    """Count one more member; the storm's row is locked.

    :param now: microseconds since the epoch; the cooldown starts again.
    """
    changes = {"event_count": INCIDENTS.c.event_count + 1, "updated_at": now}
    this = INCIDENTS.c.incident_id == storm.incident_id
    tx.execute(sa.update(INCIDENTS).where(this).values(changes))


def take_probe(tx: Transaction, storm: Incident, until: int) -> bool:
    """Claim the next probe of a storm; return False if another engine has claimed it.

    :param until: time of the following probe; microseconds since the epoch.
    """
    this = sa.and_(
        INCIDENTS.c.incident_id == storm.incident_id,
        INCIDENTS.c.hold_until == storm.hold_until,
        IS_OPEN,
    )
    return bool(tx.execute(sa.update(INCIDENTS).where(this).values(hold_until=until)).rowcount)


# -- members -----------------------------------------------------------------------------------
def find_first_member(tx: Transaction, storm_id: str) -> Incident | None:
    """Return the held member with the highest priority; None without one."""
    query = (
        sa.select(INCIDENTS.c.incident_id)
        .where(INCIDENTS.c.part_of == storm_id, HELD_HERE)
        .order_by(INCIDENTS.c.priority.desc(), INCIDENTS.c.opened_at, INCIDENTS.c.id)
        .limit(1)
    )
    ident = tx.execute(query).scalar()
    return incidents.get(tx, ident) if ident else None


def release_members(tx: Transaction, storm_id: str, now: int) -> list[str]:
    """Make every held member of a storm due, and every held attempt of one; the storm's row is
    locked, so that none is added.

    :param now: microseconds since the epoch.
    :return: ids of those members.
    """
    # Includes members that are not held yet: their rows are locked until they are held, and this
    # query waits for that. Other transactions that lock several rows use the same order.
    query = (
        sa.select(INCIDENTS.c.id, INCIDENTS.c.incident_id, HELD_HERE.label("held"))
        .where(INCIDENTS.c.part_of == storm_id, IS_OPEN)
        .order_by(INCIDENTS.c.open_key)
        .with_for_update()
    )
    held = [row.incident_id for row in tx.execute(query) if row.held]
    this = sa.and_(INCIDENTS.c.part_of == storm_id, HELD_HERE)
    tx.execute(sa.update(INCIDENTS).where(this).values(hold_until=now, updated_at=now))
    limits.make_attempts_due(tx, this, now)
    return held


def list_unrecovered_members(tx: Transaction, storm_id: str) -> list[str]:
    """Return the ids of the unrecovered members without another open incident."""
    other = INCIDENTS.alias()
    key = INCIDENTS.c.instance_uuid.concat("|").concat(INCIDENTS.c.host)
    anew = sa.exists().where(other.c.open_key == key)
    query = sa.select(INCIDENTS.c.incident_id).where(
        INCIDENTS.c.part_of == storm_id, INCIDENTS.c.state == IncidentState.UNRECOVERED, ~anew
    )
    return list(tx.execute(query.order_by(INCIDENTS.c.instance_uuid)).scalars())


# -- counting ----------------------------------------------------------------------------------
def count_failures(
    tx: Transaction, since: int, now: int, *, shared: bool, besides: str = ""
) -> Mapping[str, int]:
    """Return the number of certain failures per host, in instances.

    Planned operations, incidents before their verdict or with a held attempt, instances that ran
    again without a recovery, and members that a storm released do not count.

    :param since: earliest end of the hold; microseconds since the epoch.
    :param now: microseconds since the epoch, by the same clock.
    :param shared: whether incidents with a shared cause count.
    :param besides: id of a storm whose members do not count.
    """
    state, hold_until = INCIDENTS.c.state, INCIDENTS.c.hold_until
    is_certain = sa.or_(
        sa.and_(state == IncidentState.PENDING, hold_until <= now),
        sa.and_(state == IncidentState.HELD, INCIDENTS.c.held_by == HoldReason.CONCURRENCY),
        state.in_((IncidentState.UNHANDLED, IncidentState.UNRECOVERED)),
        sa.and_(
            state == IncidentState.RECOVERING,
            INCIDENTS.c.held_by.in_(("", HoldReason.CONCURRENCY)),
        ),
        sa.and_(state == IncidentState.RESOLVED, WAS_RECOVERED),
    )
    is_held = sa.and_(HELD_HERE, hold_until > now, INCIDENTS.c.opened_at > since)
    counted = sa.or_(
        sa.and_(INCIDENTS.c.part_of == "", is_certain),
        sa.and_(INCIDENTS.c.part_of != besides, is_held),
    )
    # Conditions on the states and the time, because there is an index on both.
    some = sorted(
        states.OPEN_INCIDENT_STATES | {IncidentState.UNRECOVERED, IncidentState.RESOLVED}
    )
    wanted = [OF_INSTANCE, state.in_(some), hold_until > since, counted]
    if not shared:
        wanted.append(INCIDENTS.c.shared_cause == "")
    number = sa.func.count(INCIDENTS.c.instance_uuid.distinct())
    query = sa.select(INCIDENTS.c.host, number).where(*wanted).group_by(INCIDENTS.c.host)
    return {host: count for host, count in tx.execute(query)}


def count_members(tx: Transaction, storm_id: str) -> int:
    """Return the number of members that were failures: neither planned, nor running again without
    a recovery."""
    healed = sa.and_(INCIDENTS.c.state == IncidentState.RESOLVED, ~WAS_RECOVERED)
    query = sa.select(sa.func.count(INCIDENTS.c.id)).where(
        INCIDENTS.c.part_of == storm_id, INCIDENTS.c.state != IncidentState.IGNORED, ~healed
    )
    return tx.execute(query).scalar_one()


def count_sharing(tx: Transaction, shared_cause: str, since: int) -> int:
    """Return the number of open incidents with this cause that are not part of a storm.

    :param since: earliest time of opening; microseconds since the epoch.
    """
    query = sa.select(sa.func.count(INCIDENTS.c.id)).where(
        OF_INSTANCE,
        INCIDENTS.c.shared_cause == shared_cause,
        INCIDENTS.c.opened_at > since,
        IS_OPEN,
        INCIDENTS.c.part_of == "",
    )
    return tx.execute(query).scalar_one()


def was_called_since(tx: Transaction, incident_id: str, since: int) -> bool:
    """Return whether a driver was called for an incident.

    :param since: microseconds since the epoch.
    """
    query = sa.select(RECOVERIES.c.id).where(
        RECOVERIES.c.incident_id == incident_id, RECOVERIES.c.called_at >= since
    )
    return tx.execute(query.limit(1)).first() is not None


def has_recovery_in_progress(tx: Transaction, shared_cause: str) -> bool:
    """Return whether an instance with this cause is being recovered."""
    query = sa.select(INCIDENTS.c.id).where(
        OF_INSTANCE,
        INCIDENTS.c.shared_cause == shared_cause,
        INCIDENTS.c.state == IncidentState.RECOVERING,
    )
    return tx.execute(query.limit(1)).first() is not None


def has_waiting_member(tx: Transaction, shared_cause: str) -> bool:
    """Return whether an open incident has this cause."""
    query = sa.select(INCIDENTS.c.id).where(
        OF_INSTANCE, INCIDENTS.c.shared_cause == shared_cause, IS_OPEN
    )
    return tx.execute(query.limit(1)).first() is not None


def has_recovered_instance(tx: Transaction, shared_cause: str, since: int, until: int) -> bool:
    """Return whether an instance with this cause runs again, and no instance failed with it
    afterwards.

    :param since: it ran again after this time and until ``until``; microseconds since the epoch.
    """
    this = (OF_INSTANCE, INCIDENTS.c.shared_cause == shared_cause)
    query = (
        sa.select(INCIDENTS.c.closed_at, INCIDENTS.c.instance_uuid)
        .where(*this, INCIDENTS.c.state == IncidentState.RESOLVED)
        .where(INCIDENTS.c.closed_at > since, INCIDENTS.c.closed_at <= until)
        .order_by(INCIDENTS.c.closed_at.desc())
        .limit(1)
    )
    back = tx.execute(query).first()
    if back is None:
        return False
    # The host's clock, which sets the opening time of its next incident, may be slightly behind.
    itself = sa.and_(INCIDENTS.c.instance_uuid == back.instance_uuid, IS_OPEN)
    anew = sa.or_(INCIDENTS.c.opened_at > back.closed_at, itself)
    again = sa.select(INCIDENTS.c.id).where(
        *this, INCIDENTS.c.state != IncidentState.IGNORED, anew
    )
    return tx.execute(again.limit(1)).first() is None


def set_shared_cause(tx: Transaction, incident_id: str, shared_cause: str) -> None:
    """Set the shared cause of an open incident without one."""
    this = sa.and_(INCIDENTS.c.incident_id == incident_id, INCIDENTS.c.shared_cause == "", IS_OPEN)
    tx.execute(sa.update(INCIDENTS).where(this).values(shared_cause=shared_cause))


def count_instances(tx: Transaction) -> Mapping[str, int]:
    """Return the number of instances in each host's inventory, including lost ones."""
    query = sa.select(INSTANCES.c.host, sa.func.count(INSTANCES.c.id)).group_by(INSTANCES.c.host)
    return {host: count for host, count in tx.execute(query)}
