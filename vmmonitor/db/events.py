# SPDX-License-Identifier: Apache-2.0
"""The stored events. Written once, never changed."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import evidence, rows
from vmmonitor.db.page import Listing, Page
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import EVENTS, INCIDENTS
from vmmonitor.model import errors
from vmmonitor.model.event import INCIDENT, Decision, Event, StoredEvent, in_order
from vmmonitor.model.incident import Incident

LISTING = Listing(
    table=EVENTS,
    key="event_id",
    time="occurred_at",
    filters=frozenset(
        {
            "instance_uuid",
            "host",
            "source",
            "type",
            "detail",
            "severity",
            "action",
            "incident_id",
            "project_id",
        }
    ),
    # By id is the order in which events were inserted.
    sort=frozenset({"occurred_at", "stored_at", "id"}),
    default=[("occurred_at", "desc")],
)

#: What ``_values`` gives, in the table's order.
COLUMNS = [column.name for column in EVENTS.columns][1:]


def insert(tx: Transaction, stored: Sequence[StoredEvent]) -> None:
    """Store events, all or none.

    :raises vmmonitor.model.errors.Conflict: one of their ids is stored already; ask ``known``
        in a new transaction.
    """
    if not stored:
        return
    # One order for all engines (two that store the same events wait for each other instead of
    # deadlocking), and on each host the order in which things happened.
    ordered = sorted(stored, key=lambda each: (each.event.host, each.event.sequence))
    with unique("An event is stored already"):
        rows.insert(tx, EVENTS, COLUMNS, [_values(each) for each in ordered])


def known(tx: Transaction, event_ids: Collection[str]) -> set[str]:
    """Return those of the ids that are stored."""
    found: set[str] = set()
    for chunk in rows.chunks(event_ids):
        query = sa.select(EVENTS.c.event_id).where(EVENTS.c.event_id.in_(chunk))
        found.update(tx.execute(query).scalars())
    return found


def get(tx: Transaction, event_id: str) -> StoredEvent:
    """Return an event.

    :raises vmmonitor.model.errors.NotFound: there is none with this id.
    """
    row = tx.execute(sa.select(EVENTS).where(EVENTS.c.event_id == event_id)).first()
    if row is None:
        raise errors.NotFound(event_id=event_id)
    return _stored(row)


def of_incident(tx: Transaction, incident_id: str, limit: int = 100) -> list[StoredEvent]:
    """Return an incident's newest events, oldest first.

    :param limit: greatest number of events.
    """
    query = (
        sa.select(EVENTS)
        .where(EVENTS.c.incident_id == incident_id)
        .order_by(EVENTS.c.occurred_at.desc(), EVENTS.c.id.desc())
        .limit(limit)
    )
    stored = [_stored(row) for row in sorted(tx.execute(query), key=lambda row: row.id)]
    return [one for _, one in in_order(stored)]


def tells_of(
    tx: Transaction, incident_id: str, types: Collection[str], failures_besides: Collection[str]
) -> bool:
    """Tell whether an incident has an event of one of ``types``, or one that was to be recovered
    and is of none of ``failures_besides``."""
    query = sa.select(EVENTS.c.id).where(
        EVENTS.c.incident_id == incident_id,
        sa.or_(
            EVENTS.c.type.in_(types),
            sa.and_(EVENTS.c.action == INCIDENT, EVENTS.c.type.not_in(failures_besides)),
        ),
    )
    return tx.execute(query.limit(1)).first() is not None


def of_instance(
    tx: Transaction, incident: Incident, prefix: str, since: int, limit: int = 50
) -> list[StoredEvent]:
    """Return the newest events of an incident's instance that are not the incident's own, oldest
    first.

    :param prefix: only those whose type begins with it.
    :param since: only those that occurred from then on; microseconds since the epoch.
    :param limit: greatest number of events.
    """
    own = sa.func.coalesce(EVENTS.c.incident_id, "") == incident.incident_id
    query = (
        sa.select(EVENTS)
        .where(EVENTS.c.instance_uuid == incident.instance.uuid, EVENTS.c.occurred_at >= since)
        .where(EVENTS.c.type.startswith(prefix, autoescape=True), ~own)
        .order_by(EVENTS.c.occurred_at.desc(), EVENTS.c.id.desc())
        .limit(limit)
    )
    return [_stored(row) for row in reversed(tx.execute(query).all())]


def last_type(
    tx: Transaction, instance_uuid: str, host: str, types: Collection[str]
) -> str | None:
    """Return the type of an instance's newest event on a host among those of some types."""
    query = (
        sa.select(EVENTS.c.type)
        .where(
            EVENTS.c.instance_uuid == instance_uuid,
            EVENTS.c.host == host,
            EVENTS.c.type.in_(sorted(types)),
        )
        .order_by(EVENTS.c.occurred_at.desc(), EVENTS.c.id.desc())
        .limit(1)
    )
    found: str | None = tx.execute(query).scalar()
    return found


def page(tx: Transaction, page: Page) -> list[StoredEvent]:
    """Return a page of the events, the newest first unless asked otherwise.

    ``since`` and ``until`` mean ``occurred_at``.

    :raises ValueError: see Listing.rows.
    :raises vmmonitor.model.errors.NotFound: nothing has the marker's id.
    """
    return [_stored(row) for row in LISTING.rows(tx, page)]


def purge(tx: Transaction, before: int, keep: int, limit: int) -> int:
    """Delete events with their evidence, the oldest first, except those of incidents that are not
    over.

    :param before: those stored earlier go; microseconds since the epoch.
    :param keep: of the others, only this many newest stay; 0: all.
    :param limit: greatest number to delete in this transaction.
    :return: how many were deleted; fewer than ``limit``: there is nothing left to delete.
    """
    conditions = [(EVENTS.c.stored_at < before, EVENTS.c.stored_at)]
    if keep and (newest_surplus := _surplus(tx, keep)) is not None:
        conditions.append((EVENTS.c.id <= newest_surplus, EVENTS.c.id))
    of_open = sa.exists().where(
        INCIDENTS.c.incident_id == EVENTS.c.incident_id, INCIDENTS.c.open_key.is_not(None)
    )
    doomed: dict[int, str] = {}
    for condition, order in conditions:
        query = sa.select(EVENTS.c.id, EVENTS.c.event_id).where(condition, ~of_open)
        doomed.update((id, name) for id, name in tx.execute(query.order_by(order).limit(limit)))
    ids = sorted(doomed)[:limit]
    deleted = sum(
        tx.execute(sa.delete(EVENTS).where(EVENTS.c.id.in_(chunk))).rowcount
        for chunk in rows.chunks(ids)
    )
    # After its event, which whoever stores evidence holds locked meanwhile: none is left over.
    evidence.purge_of(tx, [doomed[id] for id in ids])
    return deleted


def _surplus(tx: Transaction, keep: int) -> int | None:
    """Return the row number of the newest event beyond the ``keep`` newest."""
    first, last = tx.execute(sa.select(sa.func.min(EVENTS.c.id), sa.func.max(EVENTS.c.id))).one()
    # Numbers have gaps but no repeats: counting, which is slow, is needed only beyond this.
    if first is None or last - first < keep:
        return None
    query = sa.select(EVENTS.c.id).order_by(EVENTS.c.id.desc()).offset(keep).limit(1)
    return tx.execute(query).scalar()


def _values(stored: StoredEvent) -> tuple[Any, ...]:
    """Return the values of COLUMNS."""
    event, decision = stored.event, stored.decision
    return (
        event.event_id,
        event.host,
        *rows.instance_values(event.instance),
        event.source,
        event.type,
        event.detail,
        event.occurred_at,
        event.attributes,
        event.sequence,
        decision.action,
        decision.severity,
        decision.rule,
        stored.incident_id,
        stored.spooled_at,
        stored.sent_at,
        stored.received_at,
        stored.stored_at,
        stored.corrected_at,
    )


def _stored(row: sa.Row[Any]) -> StoredEvent:
    columns = row._mapping
    return StoredEvent(
        event=Event(instance=rows.instance(columns), **rows.fields(Event, columns)),
        decision=Decision(**rows.fields(Decision, columns)),
        **rows.fields(StoredEvent, columns),
    )


#: The same for others of this room.
from_row = _stored
