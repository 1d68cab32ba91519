# SPDX-License-Identifier: Apache-2.0
"""Store the registered hosts, and the keys that their agents use."""

import sqlalchemy as sa

from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import AGENTS, HOSTS
from vmmonitor.model.errors import Conflict
from vmmonitor.model.host import RegisteredHost


def register(tx: Transaction, host: str, now: int) -> bool:
    """Register a host; return False if it is registered already.

    :param now: microseconds since the epoch, engines' clock.
    :raises vmmonitor.model.errors.Conflict: it was registered at the same time.
    """
    if _is_registered(tx, host):
        return False
    _insert(tx, host, now)
    return True


def record_issued_key(tx: Transaction, host: str, key_id: str, now: int) -> None:
    """Record that the key of a host was issued, and register the host if necessary.

    :param key_id: id of the master key that it was derived from.
    :param now: microseconds since the epoch, engines' clock.
    :raises vmmonitor.model.errors.Conflict: the host was registered at the same time.
    """
    register(tx, host, now)
    tx.execute(sa.update(HOSTS).where(HOSTS.c.host == host).values(issued_key=key_id))


def record_call(tx: Transaction, host: str, key_id: str, sent_at: int, now: int) -> None:
    """Record a signed call, and register its host if necessary.

    A call that replaces stored facts must be newer than the previous one. An engine that has not
    received a call before would otherwise accept its repetition.

    :param key_id: id of the key that signed it.
    :param sent_at: the time in the call; microseconds.
    :param now: microseconds since the epoch, engines' clock.
    :raises vmmonitor.model.errors.Conflict: a newer call was recorded, or another engine records
        one at the same time.
    """
    # A host whose clock is ahead must not be refused after the correction.
    signed_at = min(sent_at, now)
    newer = sa.update(HOSTS).where(HOSTS.c.host == host, HOSTS.c.signed_at < signed_at)
    if tx.execute(newer.values(signed_at=signed_at, used_key=key_id)).rowcount:
        return
    if _is_registered(tx, host):
        raise Conflict("The call is not newer than the previous one of the host")
    _insert(tx, host, now, used_key=key_id, signed_at=signed_at)


def issued_key(tx: Transaction, host: str) -> str:
    """Return the id of the newest key that was issued to a host; empty if there is none."""
    query = sa.select(HOSTS.c.issued_key).where(HOSTS.c.host == host)
    return tx.execute(query).scalar() or ""


def registered(tx: Transaction) -> list[RegisteredHost]:
    """Return the registered hosts, by name."""
    both = HOSTS.outerjoin(AGENTS, AGENTS.c.host == HOSTS.c.host)
    query = sa.select(HOSTS, AGENTS.c.state).select_from(both).order_by(HOSTS.c.host)
    return [
        RegisteredHost(
            host=row.host,
            added_at=row.added_at,
            issued_key=row.issued_key,
            used_key=row.used_key,
            agent_state=row.state or "",
        )
        for row in tx.execute(query)
    ]


def _is_registered(tx: Transaction, host: str) -> bool:
    return tx.execute(sa.select(HOSTS.c.id).where(HOSTS.c.host == host)).first() is not None


def _insert(
    tx: Transaction, host: str, now: int, *, used_key: str = "", signed_at: int = 0
) -> None:
    values = {
        "host": host,
        "added_at": now,
        "issued_key": "",
        "used_key": used_key,
        "signed_at": signed_at,
    }
    with unique("The host was registered at the same time"):
        tx.execute(sa.insert(HOSTS).values(values))
