# SPDX-License-Identifier: Apache-2.0
"""Locks that engines share: who counts something and then adds to it keeps the others from
counting meanwhile."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import LOCKS


def lock(tx: Transaction, names: Collection[str]) -> None:
    """Hold the locks of these names until the end of the transaction; wait for who has them.

    What is read afterwards includes whatever those before committed. Who needs several asks for
    them in one call, or else each time in the same order; and who needs rows of other tables locks
    them before.

    :raises vmmonitor.model.errors.Retriable: one is not had in time, or a deadlock was resolved
        against this transaction.
    """
    if tx.dialect.name == "sqlite":
        return  # It has one writer at a time.
    for name in sorted(set(names)):
        row = sa.select(LOCKS.c.id).where(LOCKS.c.name == name).with_for_update()
        if tx.execute(row).first() is None:
            _make(tx, name)


def _make(tx: Transaction, name: str) -> None:
    """Make a row, or wait for who is just making it; it is ours then."""
    # An insert that ignores the duplicate would leave the row unlocked (PostgreSQL), or locked
    # for reading only (MySQL), from which two would deadlock.
    if tx.dialect.name == "postgresql":
        added = postgresql.insert(LOCKS).values(name=name)
        tx.execute(
            added.on_conflict_do_update(
                index_elements=[LOCKS.c.name], set_={"name": added.excluded.name}
            )
        )
        return
    row = mysql.insert(LOCKS).values(name=name)
    tx.execute(row.on_duplicate_key_update(name=row.inserted.name))
