# SPDX-License-Identifier: Apache-2.0
"""The stored evidence: captured beside an event, kept as long as the event is."""

import contextlib
from collections.abc import Collection, Iterator

import sqlalchemy as sa
from oslo_db import exception
from sqlalchemy import exc

from vmmonitor.db import rows
from vmmonitor.db.session import Transaction, told, unique
from vmmonitor.db.tables import EVENTS, EVIDENCE
from vmmonitor.model import errors
from vmmonitor.model.evidence import Item, KeptItem


def insert(tx: Transaction, host: str, event_id: str, item: Item) -> None:
    """Store an item of evidence of an event of this host.

    :raises vmmonitor.model.errors.NotFound: this host has no such event.
    :raises vmmonitor.model.errors.Conflict: there is an item of this kind already.
    :raises vmmonitor.model.errors.Retriable: the database did not take it.
    """
    # Locked, so that the event cannot be purged before its evidence can be purged with it.
    query = (
        sa.select(EVENTS.c.id)
        .where(EVENTS.c.event_id == event_id, EVENTS.c.host == host)
        .with_for_update(read=True)
    )
    if tx.execute(query).first() is None:
        raise errors.NotFound(event_id=event_id, host=host)
    with unique("This evidence is stored already"), _untold():
        tx.execute(
            sa.insert(EVIDENCE).values(
                event_id=event_id,
                kind=item.kind,
                content_type=item.content_type,
                size=len(item.content),
                sha256=item.sha256 if item.content else "",
                captured_at=item.captured_at,
                message=item.message,
                content=item.content,
            )
        )


@contextlib.contextmanager
def _untold() -> Iterator[None]:
    """Turn errors that quote what was to be stored into one that does not: somebody logs it."""
    try:
        yield
    except exception.DBDuplicateEntry:
        raise
    except (exception.DBError, exc.SQLAlchemyError) as error:
        raise errors.Retriable(f"The database did not store evidence: {told(error)}") from None


def of_event(tx: Transaction, event_id: str) -> list[KeptItem]:
    """Return what there is of an event, without its content, in the order of storing."""
    columns = [EVIDENCE.c[name] for name in KeptItem.__dataclass_fields__]
    query = sa.select(*columns).where(EVIDENCE.c.event_id == event_id).order_by(EVIDENCE.c.id)
    return [KeptItem(**rows.fields(KeptItem, row._mapping)) for row in tx.execute(query)]


def content(tx: Transaction, event_id: str, kind: str) -> Item:
    """Return an item with its content.

    :raises vmmonitor.model.errors.NotFound: there is none of this kind, or it has no content.
    """
    query = sa.select(EVIDENCE).where(EVIDENCE.c.event_id == event_id, EVIDENCE.c.kind == kind)
    row = tx.execute(query).first()
    if row is None or not row.size:
        raise errors.NotFound(event_id=event_id, evidence=kind)
    return Item(
        kind=row.kind,
        captured_at=row.captured_at,
        content=bytes(row.content),
        message=row.message,
    )


def purge_of(tx: Transaction, event_ids: Collection[str]) -> None:
    """Delete the evidence of events that this transaction has deleted."""
    for chunk in rows.chunks(event_ids):
        tx.execute(sa.delete(EVIDENCE).where(EVIDENCE.c.event_id.in_(chunk)))
