# SPDX-License-Identifier: Apache-2.0
"""Lock names across engines, so that one engine can count and insert without interference."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import LOCKS


def lock(tx: Transaction, names: Collection[str]) -> None:
    """Lock these names until the end of the transaction, after other owners have released them.

    Statements afterwards see what the previous owners committed. Lock several names in one call,
    or always in the same order; lock rows of other tables before.

    :raises vmmonitor.model.errors.Retriable: timeout, or a deadlock was resolved against this
        transaction.
    """
    if tx.dialect.name == "sqlite":
        return  # SQLite has one writer at a time.
    for name in sorted(set(names)):
        row = sa.select(LOCKS.c.id).where(LOCKS.c.name == name).with_for_update()
        if tx.execute(row).first() is None:
            _make(tx, name)


def _make(tx: Transaction, name: str) -> None:
    """Insert and lock a row, or wait until the transaction that inserts it has ended."""
    # An insert that ignores the duplicate would leave the row unlocked (PostgreSQL), or with a
    # shared lock (MySQL), so that two transactions deadlock.
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
