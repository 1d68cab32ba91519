# SPDX-License-Identifier: Apache-2.0
"""Store the newest fence token of each instance.

A token rises with each claim of a recovery of the instance, over all incidents. The agent that
carries out a recovery refuses a request with a lower token than the highest one it has seen.
"""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from vmmonitor.db.session import Transaction
from vmmonitor.db.tables import FENCES


def advance(tx: Transaction, instance_uuid: str, now: int) -> int:
    """Return the next token of an instance, and lock its row until the end of the transaction.

    A token is at least the time of its claim. It therefore also rises after the database was
    restored from a backup, and after the row was purged.

    :param now: microseconds since the epoch.
    """
    tx.execute(_upsert(tx, instance_uuid, now))
    query = sa.select(FENCES.c.token).where(FENCES.c.instance_uuid == instance_uuid)
    token: int = tx.execute(query).scalar_one()
    return token


def purge(tx: Transaction, before: int, limit: int) -> int:
    """Delete the tokens of instances whose last claim was before a time.

    :param before: microseconds since the epoch.
    :param limit: maximum number of rows to delete in this transaction.
    :return: the number of deleted rows; fewer than ``limit`` if no more are left.
    """
    query = sa.select(FENCES.c.instance_uuid).where(FENCES.c.token < before).limit(limit)
    found = tx.execute(query).scalars().all()
    # The condition again, because a claim may have used a row meanwhile.
    old = sa.and_(FENCES.c.instance_uuid.in_(found), FENCES.c.token < before)
    tx.execute(sa.delete(FENCES).where(old))
    return len(found)


def _upsert(tx: Transaction, instance_uuid: str, now: int) -> sa.Executable:
    row = {"instance_uuid": instance_uuid, "token": now}
    higher = FENCES.c.token + 1
    if tx.dialect.name == "mysql":
        made = mysql.insert(FENCES).values(row)
        return made.on_duplicate_key_update(token=sa.func.greatest(higher, made.inserted.token))
    keys = [FENCES.c.instance_uuid]
    if tx.dialect.name == "postgresql":
        insert = postgresql.insert(FENCES).values(row)
        return insert.on_conflict_do_update(
            index_elements=keys, set_={"token": sa.func.greatest(higher, insert.excluded.token)}
        )
    lite = sqlite.insert(FENCES).values(row)
    return lite.on_conflict_do_update(
        index_elements=keys, set_={"token": sa.func.max(higher, lite.excluded.token)}
    )
