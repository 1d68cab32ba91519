# SPDX-License-Identifier: Apache-2.0
"""Read what the limits need: earlier attempts, occupied recovery slots and queued incidents."""

import dataclasses
from collections.abc import Collection, Mapping

import sqlalchemy as sa

from vmmonitor.db import fences, incidents, recoveries, rows
from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import INCIDENTS, RECOVERIES
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import IncidentState, RecoveryState

#: States of recoveries that occupy a slot: the driver is running, or the instance is starting.
UNDER_WAY = (RecoveryState.RUNNING, RecoveryState.WAITING)

#: States of an incident that is held before its first attempt, or before a further one.
HOLDING = (IncidentState.HELD, IncidentState.RECOVERING)

#: Condition of incidents in the queue for a slot, for a first or a further attempt.
IS_QUEUED = sa.and_(
    INCIDENTS.c.state.in_(HOLDING),
    INCIDENTS.c.held_by == HoldReason.CONCURRENCY,
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EarlierRecovery:
    """An earlier incident of an instance, with at least one call of a driver.

    :param called_at: time of the last call; microseconds since the epoch, like all times.
    :param ended_at: when its last recovery ended.
    """

    incident_id: str
    called_at: int
    ended_at: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class QueuedIncident:
    """An incident in the queue for a recovery slot.

    :param since: when it opened; microseconds since the epoch.
    :param until: when it is examined again if no slot is free before.
    """

    incident_id: str
    host: str
    priority: int
    since: int
    until: int

    @property
    def rank(self) -> tuple[int, int, str]:
        """The position in the queue; the lowest rank is first."""
        return -self.priority, self.since, self.incident_id


#: Built once, because it runs for each failure.
EARLIER_RECOVERIES = (
    sa.select(
        RECOVERIES.c.incident_id,
        sa.func.max(RECOVERIES.c.called_at).label("called_at"),
        sa.func.max(sa.func.coalesce(RECOVERIES.c.finished_at, RECOVERIES.c.called_at)).label(
            "ended_at"
        ),
    )
    .where(
        RECOVERIES.c.instance_uuid == sa.bindparam("uuid"),
        RECOVERIES.c.incident_id != sa.bindparam("besides"),
        RECOVERIES.c.called_at > sa.bindparam("since"),
        RECOVERIES.c.state != RecoveryState.SKIPPED,
    )
    .group_by(RECOVERIES.c.incident_id)
    .order_by("called_at")
)


def list_earlier_recoveries(
    tx: Transaction, instance_uuid: str, besides: str, since: int
) -> list[EarlierRecovery]:
    """Return the incidents of an instance with calls of a driver, in the order of the calls.

    Dry runs and skipped recoveries do not count.

    :param besides: id of the incident to exclude.
    :param since: earliest call; microseconds since the epoch.
    """
    given = {"uuid": instance_uuid, "besides": besides, "since": since}
    found = tx.execute(EARLIER_RECOVERIES, given)
    return [EarlierRecovery(**rows.fields(EarlierRecovery, row._mapping)) for row in found]


@dataclasses.dataclass(frozen=True, slots=True)
class Occupancy:
    """The occupied recovery slots, and whether incidents are queued.

    :param under_way: host -> number of occupied slots, for hosts with any.
    """

    under_way: Mapping[str, int]
    has_queue: bool


#: Built once, because it runs for each failure.
OCCUPANCY = sa.union_all(
    sa.select(RECOVERIES.c.host, sa.func.count().label("count"))
    .where(RECOVERIES.c.state.in_(UNDER_WAY))
    .group_by(RECOVERIES.c.host),
    # The name of a host is never empty.
    sa.select(sa.literal("", sa.String()), sa.func.count()).select_from(
        sa.select(INCIDENTS.c.id).where(IS_QUEUED).limit(1).subquery()
    ),
)


def read_occupancy(tx: Transaction) -> Occupancy:
    """Return the occupied slots, and whether incidents are queued."""
    counts = {host: count for host, count in tx.execute(OCCUPANCY)}
    waits = counts.pop("")
    return Occupancy(counts, bool(waits))


# -- the queue ----------------------------------------------------------------------------------
def read_queue(tx: Transaction, full: Collection[str], each: int | None) -> list[QueuedIncident]:
    """Return the queued incidents, ordered by rank.

    :param full: hosts to exclude.
    :param each: maximum number of incidents per host; None for all.
    """
    order = (INCIDENTS.c.priority.desc(), INCIDENTS.c.opened_at, INCIDENTS.c.incident_id)
    place = sa.func.row_number().over(partition_by=INCIDENTS.c.host, order_by=order)
    waiting = (
        sa.select(
            INCIDENTS.c.incident_id,
            INCIDENTS.c.host,
            INCIDENTS.c.priority,
            INCIDENTS.c.opened_at.label("since"),
            INCIDENTS.c.hold_until.label("until"),
            place.label("place"),
        )
        .where(IS_QUEUED, INCIDENTS.c.host.not_in(sorted(full)))
        .subquery()
    )
    first = sa.select(waiting)
    if each is not None:
        first = first.where(waiting.c.place <= each)
    found = [
        QueuedIncident(**rows.fields(QueuedIncident, row._mapping)) for row in tx.execute(first)
    ]
    return sorted(found, key=lambda one: one.rank)


def hold_attempt(
    tx: Transaction,
    incident: Incident,
    recovery: Recovery,
    until: int,
    reason: str,
    now: int,
    **changes: object,
) -> None:
    """Hold the next attempt of an incident that is being recovered, or queue it for a slot.

    :param incident: its row is locked.
    :param recovery: the attempt. Its state is REQUESTED; or RUNNING, with an expired lease.
    :param until: when it is examined again; microseconds since the epoch, like ``now``.
    :param changes: ``held_by``, and ``part_of`` if a storm holds it.
    :raises vmmonitor.model.errors.Conflict: another engine took the recovery over.
    """
    _update(tx, incident, hold_until=until, reason=reason, updated_at=now, **changes)
    if recovery.state == RecoveryState.RUNNING:
        token = fences.advance(tx, recovery.instance_uuid, now)
        recoveries.postpone_takeover(tx, recovery, until, token)
    else:
        _put_off(tx, recovery.incident_id, until)


def release_attempt(tx: Transaction, incident: Incident, reason: str, now: int) -> None:
    """End the hold of an incident's next attempt, because it begins.

    :param incident: its row is locked.
    :param now: microseconds since the epoch.
    """
    _update(tx, incident, held_by="", reason=reason, updated_at=now)


def make_due(
    tx: Transaction, incident_id: str, now: int, held_by: HoldReason = HoldReason.CONCURRENCY
) -> bool:
    """Make a held incident, or its held attempt, due now; return False if it is not held by this.

    :param now: microseconds since the epoch.
    """
    incident = incidents.lock(tx, incident_id)
    waits = incident.state in HOLDING and incident.held_by == held_by
    if not waits or incident.hold_until <= now:
        return False
    _update(tx, incident, hold_until=now, updated_at=now)
    if incident.state == IncidentState.RECOVERING:
        _put_off(tx, incident_id, now)
    return True


def make_attempts_due(tx: Transaction, held: sa.ColumnElement[bool], now: int) -> None:
    """Make the held attempts of incidents due now.

    :param held: condition of the incidents.
    :param now: microseconds since the epoch.
    """
    recovering = sa.and_(INCIDENTS.c.state == IncidentState.RECOVERING, held)
    requested = sa.and_(
        RECOVERIES.c.open_key.in_(sa.select(INCIDENTS.c.incident_id).where(recovering)),
        RECOVERIES.c.state == RecoveryState.REQUESTED,
    )
    tx.execute(sa.update(RECOVERIES).where(requested).values(not_before=now))


def priorities(tx: Transaction, incident_ids: Collection[str]) -> Mapping[str, int]:
    """Return the priorities of incidents, by id."""
    found: dict[str, int] = {}
    for chunk in rows.chunks(sorted(incident_ids)):
        query = sa.select(INCIDENTS.c.incident_id, INCIDENTS.c.priority)
        for row in tx.execute(query.where(INCIDENTS.c.incident_id.in_(chunk))):
            found[row.incident_id] = row.priority
    return found


def _update(tx: Transaction, incident: Incident, **changes: object) -> None:
    row = INCIDENTS.c.incident_id == incident.incident_id
    tx.execute(sa.update(INCIDENTS).where(row).values(changes))


def _put_off(tx: Transaction, incident_id: str, not_before: int) -> None:
    requested = sa.and_(
        RECOVERIES.c.open_key == incident_id, RECOVERIES.c.state == RecoveryState.REQUESTED
    )
    tx.execute(sa.update(RECOVERIES).where(requested).values(not_before=not_before))
