# SPDX-License-Identifier: Apache-2.0
"""Store the evidence of events, which is deleted with its event."""

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

    :raises vmmonitor.model.errors.NotFound: this host does not have the event.
    :raises vmmonitor.model.errors.Conflict: an item of this kind is already stored.
    :raises vmmonitor.model.errors.Retriable: the database did not store it.
    """
    # The lock prevents that the event is purged before this evidence is visible to the purge.
    query = (
        sa.select(EVENTS.c.id)
        .where(EVENTS.c.event_id == event_id, EVENTS.c.host == host)
        .with_for_update(read=True)
    )
    if tx.execute(query).first() is None:
        raise errors.NotFound(event_id=event_id, host=host)
    with unique("This evidence is already stored"), _errors_without_content():
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
def _errors_without_content() -> Iterator[None]:
    """Convert errors that quote the content into one without it, as errors are logged."""
    try:
        yield
    except exception.DBDuplicateEntry:
        raise
    except (exception.DBError, exc.SQLAlchemyError) as error:
        raise errors.Retriable(f"The database did not store evidence: {told(error)}") from None


def of_event(tx: Transaction, event_id: str) -> list[KeptItem]:
    """Return the evidence of an event without content, in the order of storing."""
    columns = [EVIDENCE.c[name] for name in KeptItem.__dataclass_fields__]
    query = sa.select(*columns).where(EVIDENCE.c.event_id == event_id).order_by(EVIDENCE.c.id)
    return [KeptItem(**rows.fields(KeptItem, row._mapping)) for row in tx.execute(query)]


def content(tx: Transaction, event_id: str, kind: str) -> Item:
    """Return an item with its content.

    :raises vmmonitor.model.errors.NotFound: it does not exist, or does not have content.
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
    """Delete the evidence of events that this transaction deleted."""
    for chunk in rows.chunks(event_ids):
        tx.execute(sa.delete(EVIDENCE).where(EVIDENCE.c.event_id.in_(chunk)))
