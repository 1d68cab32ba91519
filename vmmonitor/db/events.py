# SPDX-License-Identifier: Apache-2.0
"""Store the events. Stored events do not change."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import evidence, rows
from vmmonitor.db.repository import Repository
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import EVENTS, INCIDENTS
from vmmonitor.model.event import INCIDENT, Decision, Event, StoredEvent, in_order
from vmmonitor.model.incident import Incident

#: The columns of the values that ``_values`` returns, in the order of the table.
_COLUMNS = [column.name for column in EVENTS.columns][1:]


def insert(tx: Transaction, stored: Sequence[StoredEvent]) -> None:
    """Store events, all or none.

    :raises vmmonitor.model.errors.Conflict: one of them is already stored; call ``stored_ids``
        in a new transaction.
    """
    if not stored:
        return
    # One order for all engines, so that two that store the same events do not deadlock; for each
    # host it is the order of their occurrence.
    ordered = sorted(stored, key=lambda each: (each.event.host, each.event.sequence))
    with unique("An event is already stored"):
        rows.insert(tx, EVENTS, _COLUMNS, [_values(each) for each in ordered])


def stored_ids(tx: Transaction, event_ids: Collection[str]) -> set[str]:
    """Return the ids of the stored events among these."""
    found: set[str] = set()
    for chunk in rows.chunks(event_ids):
        query = sa.select(EVENTS.c.event_id).where(EVENTS.c.event_id.in_(chunk))
        found.update(tx.execute(query).scalars())
    return found


def of_incident(tx: Transaction, incident_id: str, limit: int = 100) -> list[StoredEvent]:
    """Return an incident's newest events, oldest first.

    :param limit: maximum number of events.
    """
    query = (
        sa.select(EVENTS)
        .where(EVENTS.c.incident_id == incident_id)
        .order_by(EVENTS.c.occurred_at.desc(), EVENTS.c.id.desc())
        .limit(limit)
    )
    stored = [from_row(row) for row in sorted(tx.execute(query), key=lambda row: row.id)]
    return [event for _, event in in_order(stored)]


def has_event_of(
    tx: Transaction, incident_id: str, types: Collection[str], other_failures: Collection[str]
) -> bool:
    """Return whether an incident has an event of one of ``types``, or a failure of another type
    than ``other_failures``."""
    query = sa.select(EVENTS.c.id).where(
        EVENTS.c.incident_id == incident_id,
        sa.or_(
            EVENTS.c.type.in_(types),
            sa.and_(EVENTS.c.action == INCIDENT, EVENTS.c.type.not_in(other_failures)),
        ),
    )
    return tx.execute(query.limit(1)).first() is not None


def of_instance(
    tx: Transaction, incident: Incident, source: str, since: int, limit: int = 50
) -> list[StoredEvent]:
    """Return the newest events of an incident's instance from a source that do not belong to the
    incident, oldest first.

    :param source: a source that only engines have: agents cannot send its events.
    :param since: the earliest time; microseconds since the epoch.
    :param limit: maximum number of events.
    """
    own = sa.func.coalesce(EVENTS.c.incident_id, "") == incident.incident_id
    query = (
        sa.select(EVENTS)
        .where(EVENTS.c.instance_uuid == incident.instance.uuid, EVENTS.c.occurred_at >= since)
        .where(EVENTS.c.source == source, ~own)
        .order_by(EVENTS.c.occurred_at.desc(), EVENTS.c.id.desc())
        .limit(limit)
    )
    return [from_row(row) for row in reversed(tx.execute(query).all())]


def of_instance_on_host(
    tx: Transaction, instance_uuid: str, host: str, stored_since: int, limit: int = 100
) -> list[StoredEvent]:
    """Return a host's newest events about an instance, in the order of their storage.

    :param stored_since: the earliest time of storage; microseconds since the epoch.
    :param limit: maximum number of events.
    """
    query = (
        sa.select(EVENTS)
        .where(EVENTS.c.instance_uuid == instance_uuid, EVENTS.c.host == host)
        .where(EVENTS.c.stored_at >= stored_since)
        .order_by(EVENTS.c.id.desc())
        .limit(limit)
    )
    return [from_row(row) for row in reversed(tx.execute(query).all())]


def newest_type(
    tx: Transaction, instance_uuid: str, host: str, types: Collection[str]
) -> str | None:
    """Return the type of an instance's newest event on a host; None without one of these types."""
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


def purge(tx: Transaction, before: int, keep: int, limit: int) -> int:
    """Delete events with their evidence, the oldest first, except those of open incidents.

    :param before: events stored earlier are deleted; microseconds since the epoch.
    :param keep: maximum number of events to keep; 0 for no maximum.
    :param limit: maximum number of events to delete in this transaction.
    :return: the number of deleted events; fewer than ``limit`` if no more are left.
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
    deleted = REPOSITORY.delete(tx, ids)
    # After the events: a transaction that stores evidence locks its event, so that no evidence
    # remains without an event.
    evidence.purge_of(tx, [doomed[id] for id in ids])
    return deleted


def _surplus(tx: Transaction, keep: int) -> int | None:
    """Return the row number of the newest event beyond the ``keep`` newest."""
    first, last = tx.execute(sa.select(sa.func.min(EVENTS.c.id), sa.func.max(EVENTS.c.id))).one()
    # Numbers have gaps but do not repeat: in a range of ``keep`` numbers, no event is surplus and
    # the slow count is not needed.
    if first is None or last - first < keep:
        return None
    query = sa.select(EVENTS.c.id).order_by(EVENTS.c.id.desc()).offset(keep).limit(1)
    return tx.execute(query).scalar()


def _values(stored: StoredEvent) -> tuple[Any, ...]:
    """Return the values of ``_COLUMNS``, in their order."""
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
        stored.authenticated,
    )


def from_row(row: sa.Row[Any]) -> StoredEvent:
    """Return the event of a row."""
    columns = row._mapping
    return StoredEvent(
        event=Event(instance=rows.instance(columns), **rows.fields(Event, columns)),
        decision=Decision(**rows.fields(Decision, columns)),
        **rows.fields(StoredEvent, columns),
    )


REPOSITORY = Repository(
    table=EVENTS,
    key="event_id",
    from_row=from_row,
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
    # The order of the ids is the order of the insertions.
    sort=frozenset({"occurred_at", "stored_at", "id"}),
    default=[("occurred_at", "desc")],
)
get, page = REPOSITORY.get, REPOSITORY.page
