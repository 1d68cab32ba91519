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
        # An update and not a SELECT FOR UPDATE: a Galera cluster detects that two transactions on
        # different nodes had the lock only if both changed its row.
        row = sa.update(LOCKS).where(LOCKS.c.name == name).values(taken=LOCKS.c.taken + 1)
        if not tx.execute(row).rowcount:
            _make(tx, name)


def _make(tx: Transaction, name: str) -> None:
    """Insert and lock a row, or wait until the transaction that inserts it has ended."""
    # An insert that ignores the duplicate would leave the row unlocked (PostgreSQL), or with a
    # shared lock (MySQL), so that two transactions deadlock.
    first = {"name": name, "taken": 1}
    again = {"taken": LOCKS.c.taken + 1}
    if tx.dialect.name == "postgresql":
        added = postgresql.insert(LOCKS).values(first)
        tx.execute(added.on_conflict_do_update(index_elements=[LOCKS.c.name], set_=again))
        return
    tx.execute(mysql.insert(LOCKS).values(first).on_duplicate_key_update(again))
