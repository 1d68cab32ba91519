# SPDX-License-Identifier: Apache-2.0
"""What limits are held against: what was done lately, what is under way, and who waits."""

import dataclasses
from collections.abc import Collection, Mapping

import sqlalchemy as sa

from vmmonitor.db import incidents, rows
from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import INCIDENTS, RECOVERIES
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import IncidentState, RecoveryState

#: Recoveries that load their host: those in which a driver is at work, or its instance starts.
UNDER_WAY = (RecoveryState.RUNNING, RecoveryState.WAITING)

#: Who waits for a turn: for a first attempt, or for a further one.
IN_LINE = sa.and_(
    INCIDENTS.c.state.in_((IncidentState.HELD, IncidentState.RECOVERING)),
    INCIDENTS.c.held_by == HoldReason.CONCURRENCY,
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Acted:
    """An earlier incident of an instance for which a driver was called.

    :param called_at: when one was called last; microseconds since the epoch, as all times.
    :param ended_at: when its last recovery ended.
    """

    incident_id: str
    called_at: int
    ended_at: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """An incident that waits for its turn.

    :param since: when it opened; microseconds since the epoch.
    :param until: when it is looked at again if no turn comes before.
    """

    incident_id: str
    host: str
    priority: int
    since: int
    until: int

    @property
    def rank(self) -> tuple[int, int, str]:
        """Whose turn comes first has the least rank."""
        return -self.priority, self.since, self.incident_id


#: Built once: it is asked about every failure.
ACTED = (
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


def acted(tx: Transaction, instance_uuid: str, besides: str, since: int) -> list[Acted]:
    """Return the incidents of an instance that were acted upon, in the order of their calls.

    What was only tried out (dry run), or skipped by its driver, does not count.

    :param besides: the incident that does not count either.
    :param since: microseconds since the epoch; earlier calls do not count.
    """
    given = {"uuid": instance_uuid, "besides": besides, "since": since}
    found = tx.execute(ACTED, given)
    return [Acted(**rows.fields(Acted, row._mapping)) for row in found]


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """Who has a turn, and whether anybody waits for one.

    :param under_way: how many recoveries are under way on each host that has any.
    """

    under_way: Mapping[str, int]
    anybody_waits: bool


#: Built once: it is asked about every failure.
PICTURE = sa.union_all(
    sa.select(RECOVERIES.c.host, sa.func.count().label("count"))
    .where(RECOVERIES.c.state.in_(UNDER_WAY))
    .group_by(RECOVERIES.c.host),
    # No host has this name.
    sa.select(sa.literal("", sa.String()), sa.func.count()).select_from(
        sa.select(INCIDENTS.c.id).where(IN_LINE).limit(1).subquery()
    ),
)


def picture(tx: Transaction) -> Picture:
    """Return who has a turn, and whether anybody waits."""
    counts = {host: count for host, count in tx.execute(PICTURE)}
    waits = counts.pop("")
    return Picture(counts, bool(waits))


# -- the line ----------------------------------------------------------------------------------
def line(tx: Transaction, full: Collection[str], each: int | None) -> list[Waiting]:
    """Return who waits for a turn, whose comes first foremost.

    :param full: hosts of which nobody is wanted.
    :param each: how many of each other host are wanted at most; None: all.
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
        .where(IN_LINE, INCIDENTS.c.host.not_in(sorted(full)))
        .subquery()
    )
    first = sa.select(waiting)
    if each is not None:
        first = first.where(waiting.c.place <= each)
    found = [Waiting(**rows.fields(Waiting, row._mapping)) for row in tx.execute(first)]
    return sorted(found, key=lambda one: one.rank)


def join(
    tx: Transaction, incident: Incident, recovery: Recovery, until: int, reason: str, now: int
) -> None:
    """Have an incident that is being recovered wait for a turn for its next attempt.

    :param incident: its row is locked.
    :param recovery: the attempt, which is requested.
    :param until: when it is looked at again if no turn comes before; microseconds since the
        epoch, like ``now``.
    """
    _update(
        tx,
        incident,
        held_by=HoldReason.CONCURRENCY,
        hold_until=until,
        reason=reason,
        updated_at=now,
    )
    _put_off(tx, recovery.incident_id, until)


def leave(tx: Transaction, incident: Incident, reason: str, now: int) -> None:
    """Have an incident wait for a turn no more, as its next attempt begins.

    :param incident: its row is locked.
    :param now: microseconds since the epoch.
    """
    _update(tx, incident, held_by="", reason=reason, updated_at=now)


def call_up(tx: Transaction, incident_id: str, now: int) -> bool:
    """Have an incident that waits for a turn looked at now; False if it does not wait any more.

    :param now: microseconds since the epoch.
    """
    incident = incidents.lock(tx, incident_id)
    waits = (
        incident.state in (IncidentState.HELD, IncidentState.RECOVERING)
        and incident.held_by == HoldReason.CONCURRENCY
    )
    if not waits or incident.hold_until <= now:
        return False
    _update(tx, incident, hold_until=now, updated_at=now)
    if incident.state == IncidentState.RECOVERING:
        _put_off(tx, incident_id, now)
    return True


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
