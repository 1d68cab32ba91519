# SPDX-License-Identifier: Apache-2.0
"""Read all stored rows of a period, in pages, each in its own transaction.

Rows that are stored after the start of a scan are omitted, so that it ends. Rows may be deleted
meanwhile.
"""

from collections.abc import Collection, Iterator

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.events import from_row
from vmmonitor.db.incidents import OF_INSTANCE
from vmmonitor.db.incidents import from_row as incident_from_row
from vmmonitor.db.session import Database, Transaction
from vmmonitor.db.tables import EVENTS, INCIDENTS, TIMELINE_ENTRIES
from vmmonitor.model.event import StoredEvent
from vmmonitor.model.incident import Incident
from vmmonitor.model.timeline import TimelineEntry

#: Number of rows of a page.
_PAGE = 500


def hosts(database: Database) -> Iterator[str]:
    """Yield each host that has events, sorted; one index lookup per host."""
    last = ""
    while True:
        query = sa.select(sa.func.min(EVENTS.c.host)).where(EVENTS.c.host > last)
        with database.reader() as tx:
            found = tx.execute(query).scalar()
        if found is None:
            return
        yield found
        last = found


def events(database: Database, host: str, since: int, size: int = _PAGE) -> Iterator[StoredEvent]:
    """Yield a host's events in the order of their occurrence, by the host's clock.

    :param since: earliest time; microseconds since the epoch.
    :param size: number of events in memory.
    """
    condition = sa.and_(EVENTS.c.host == host, EVENTS.c.occurred_at >= since)
    for page in _pages(database, EVENTS, EVENTS.c.occurred_at, condition, size):
        for row in page:
            yield from_row(row)


def incidents(database: Database, since: int, size: int = _PAGE) -> Iterator[list[Incident]]:
    """Yield the incidents of instances in pages, the oldest first.

    :param since: earliest time of opening; microseconds since the epoch.
    """
    condition = sa.and_(OF_INSTANCE, INCIDENTS.c.opened_at >= since)
    for page in _pages(database, INCIDENTS, INCIDENTS.c.opened_at, condition, size):
        yield [incident_from_row(row) for row in page]


def steps(tx: Transaction, incident_ids: Collection[str]) -> dict[str, list[TimelineEntry]]:
    """Return the decisions and holds of incidents, by incident id, in the order of writing."""
    found: dict[str, list[TimelineEntry]] = {incident_id: [] for incident_id in incident_ids}
    for chunk in rows.chunks(found):
        query = sa.select(TIMELINE_ENTRIES).where(
            TIMELINE_ENTRIES.c.incident_id.in_(chunk),
            TIMELINE_ENTRIES.c.kind.in_(("decision", "hold")),
        )
        for row in tx.execute(query.order_by(TIMELINE_ENTRIES.c.at, TIMELINE_ENTRIES.c.id)):
            found[row.incident_id].append(
                TimelineEntry(**rows.fields(TimelineEntry, row._mapping))
            )
    return found


def events_by_id(tx: Transaction, event_ids: Collection[str]) -> dict[str, StoredEvent]:
    """Return the stored events among these ids, by event id."""
    found = {}
    for chunk in rows.chunks(event_ids):
        for row in tx.execute(sa.select(EVENTS).where(EVENTS.c.event_id.in_(chunk))):
            found[row.event_id] = from_row(row)
    return found


def _pages(
    database: Database,
    table: sa.Table,
    order: sa.Column[int],
    condition: sa.ColumnElement[bool],
    size: int,
) -> Iterator[list[sa.Row[tuple[object, ...]]]]:
    with database.reader() as tx:
        newest = tx.execute(sa.select(sa.func.max(table.c.id))).scalar()
    if newest is None:
        return
    query = sa.select(table).where(condition, table.c.id <= newest).order_by(order, table.c.id)
    after: sa.ColumnElement[bool] = sa.true()
    while True:
        with database.reader() as tx:
            page = list(tx.execute(query.where(after).limit(size)))
        if page:
            yield page
        if len(page) < size:
            return
        at, number = page[-1]._mapping[order.name], page[-1].id
        # "Not before" is redundant, but can use an index.
        beyond = sa.or_(order > at, sa.and_(order == at, table.c.id > number))
        after = sa.and_(order >= at, beyond)
