# SPDX-License-Identifier: Apache-2.0
"""Record the changes of a transaction, and store the notifications until they are sent.

The notifications of one incident are sent in order: only the first row of an incident carries a
lease, and the owner of the lease may send all of them. The numbers of one incident ascend in
the order of the commits, because a change of an incident, or of its recovery, locks its row.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.session import CHANGES, Transaction
from vmmonitor.db.tables import OUTBOX
from vmmonitor.model.incident import Incident
from vmmonitor.model.notification import Change, Notification
from vmmonitor.model.recovery import Recovery

#: The lease columns of a notification that no engine is sending.
FREE = {"lease_owner": "", "lease_until": 0}


def record_change(
    tx: Transaction,
    before: Incident | Recovery | None,
    after: Incident | Recovery,
    at: int,
) -> None:
    """Add a change to those of the transaction, if the database has a ChangeSink.

    :param before: None if the incident or recovery is new.
    :param at: microseconds since the epoch.
    """
    changes = tx.get_execution_options().get(CHANGES)
    if changes is not None:
        changes.append(Change(before=before, after=after, at=at))


def insert(tx: Transaction, notifications: Sequence[Notification]) -> None:
    """Store notifications to send in this order."""
    if notifications:
        tx.execute(sa.insert(OUTBOX), [_columns(each) for each in notifications])


def claim(tx: Transaction, owner: str, now: int, lease: int, limit: int) -> Sequence[Notification]:
    """Claim notifications that no engine is sending, the oldest first.

    :param owner: a unique name of this claim.
    :param now: microseconds since the epoch, engines' clock.
    :param lease: duration of the claim, in microseconds.
    :param limit: maximum number of notifications; at most 1000.
    :return: the notifications, in the order of sending.
    """
    # A lease that ends later than possible was taken before the clock stepped back.
    is_free = sa.or_(OUTBOX.c.lease_until <= now, OUTBOX.c.lease_until > now + 2 * lease)
    earlier = OUTBOX.alias()
    is_first = ~sa.exists().where(
        earlier.c.incident_id == OUTBOX.c.incident_id, earlier.c.id < OUTBOX.c.id
    )
    free = sa.select(OUTBOX.c.id).where(is_free, is_first).order_by(OUTBOX.c.id).limit(limit)
    if not (candidates := tx.execute(free).scalars().all()):
        return []
    # Another engine may claim rows first: the update is guarded, and the claimed rows are read.
    changes = {"lease_owner": owner, "lease_until": now + lease}
    tx.execute(sa.update(OUTBOX).where(OUTBOX.c.id.in_(candidates), is_free).values(changes))
    ours = sa.select(OUTBOX).where(OUTBOX.c.id.in_(candidates), OUTBOX.c.lease_owner == owner)
    first = tx.execute(ours).all()
    # Each first row has a lease now, and must therefore be returned.
    of_ours = OUTBOX.c.incident_id.in_([row.incident_id for row in first])
    others = sa.select(OUTBOX).where(of_ours, OUTBOX.c.id.not_in([row.id for row in first]))
    further = tx.execute(others.order_by(OUTBOX.c.id).limit(limit - len(first))).all()
    return sorted(map(_notification, [*first, *further]), key=lambda each: each.number)


def settle(tx: Transaction, owner: str, claimed: Sequence[Notification], sent: int) -> None:
    """Delete the sent notifications, and release the others.

    :param owner: the name of the claim.
    :param claimed: the result of the claim.
    :param sent: the number of sent notifications.
    """
    for chunk in rows.chunks(each.number for each in claimed[:sent]):
        # Rows that another engine claimed after the lease expired are deleted by that engine.
        ours = sa.and_(OUTBOX.c.id.in_(chunk), OUTBOX.c.lease_owner.in_([owner, ""]))
        tx.execute(sa.delete(OUTBOX).where(ours))
    for chunk in rows.chunks(each.number for each in claimed[sent:]):
        ours = sa.and_(OUTBOX.c.id.in_(chunk), OUTBOX.c.lease_owner == owner)
        tx.execute(sa.update(OUTBOX).where(ours).values(FREE))


def drop(tx: Transaction, before: int, keep: int, limit: int) -> int:
    """Delete unsent notifications that are too old or too many, the oldest first.

    :param before: notifications created earlier are deleted; microseconds since the epoch.
    :param keep: maximum number of notifications to keep.
    :param limit: maximum number to examine in this transaction.
    :return: the number of deleted notifications; ``limit`` if there may be more.
    """
    too_many = _count(tx) - keep
    query = sa.select(OUTBOX.c.id, OUTBOX.c.created_at).order_by(OUTBOX.c.id).limit(limit)
    oldest = tx.execute(query).all()
    going = [
        row.id for place, row in enumerate(oldest) if place < too_many or row.created_at < before
    ]
    dropped = 0
    for chunk in rows.chunks(going):
        dropped += tx.execute(sa.delete(OUTBOX).where(OUTBOX.c.id.in_(chunk))).rowcount
    return dropped


def waiting(tx: Transaction) -> Sequence[Notification]:
    """Return all unsent notifications, in the order of their storage."""
    return [_notification(row) for row in tx.execute(sa.select(OUTBOX).order_by(OUTBOX.c.id))]


def _count(tx: Transaction) -> int:
    return tx.execute(sa.select(sa.func.count()).select_from(OUTBOX)).scalar_one()


def _columns(notification: Notification) -> dict[str, Any]:
    columns = rows.shallow(notification)
    del columns["number"]
    return columns | FREE


def _notification(row: sa.Row[Any]) -> Notification:
    return Notification(number=row.id, **rows.fields(Notification, row._mapping))
