# SPDX-License-Identifier: Apache-2.0
"""Store the host that each instance belongs to, and the claims of other hosts."""

import dataclasses
from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.incidents import Place
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import AGENTS, HOST_CLAIMS, INCIDENTS, INSTANCES, OWNERS
from vmmonitor.model import errors
from vmmonitor.model import instance as instances
from vmmonitor.model.agent import WATCHING
from vmmonitor.model.ownership import HostClaim, Owner


def load(
    tx: Transaction, instance_uuids: Collection[str]
) -> tuple[dict[str, Owner], dict[Place, HostClaim]]:
    """Return the owners of instances, and the claims of other hosts, in one query per 1000."""
    owners: dict[str, Owner] = {}
    claims: dict[Place, HostClaim] = {}
    columns = [*OWNERS.c, *(column.label(f"claim_{column.name}") for column in HOST_CLAIMS.c)]
    same = HOST_CLAIMS.c.instance_uuid == OWNERS.c.instance_uuid
    joined = OWNERS.outerjoin(HOST_CLAIMS, same)
    for chunk in rows.chunks(sorted(instance_uuids)):
        query = sa.select(*columns).select_from(joined)
        for row in tx.execute(query.where(OWNERS.c.instance_uuid.in_(chunk))):
            owners[row.instance_uuid] = Owner(**rows.fields(Owner, row._mapping))
            if row.claim_host is not None:
                claim = _claim(row, "claim_")
                claims[claim.instance.uuid, claim.host] = claim
    return owners, claims


def owner_of(tx: Transaction, instance_uuid: str) -> Owner | None:
    """Return the owner of an instance, or None."""
    return load(tx, [instance_uuid])[0].get(instance_uuid)


def insert(tx: Transaction, owners: Iterable[Owner]) -> None:
    """Store the owners of instances that have none.

    :raises vmmonitor.model.errors.Conflict: one of them has an owner meanwhile.
    """
    values = [rows.shallow(owner) for owner in sorted(owners, key=lambda one: one.instance_uuid)]
    if values:
        with unique("Another host owns the instance meanwhile"):
            tx.execute(sa.insert(OWNERS), values)


def replace(tx: Transaction, before: Owner, after: Owner) -> None:
    """Replace the owner of an instance.

    :raises vmmonitor.model.errors.Conflict: it was replaced meanwhile.
    """
    this = [getattr(OWNERS.c, name) == value for name, value in rows.shallow(before).items()]
    if not tx.execute(sa.update(OWNERS).where(*this).values(rows.shallow(after))).rowcount:
        raise errors.Conflict(instance_uuid=before.instance_uuid, host=before.host)


def changed_since(tx: Transaction, since: int) -> dict[str, str]:
    """Return instance uuid -> owner's host, of the owners that were stored since a time.

    :param since: microseconds since the epoch, engines' clock.
    """
    query = sa.select(OWNERS.c.instance_uuid, OWNERS.c.host).where(OWNERS.c.since >= since)
    return {uuid: host for uuid, host in tx.execute(query)}


def hosts_of(tx: Transaction, instance_uuids: Collection[str]) -> dict[str, str]:
    """Return instance uuid -> owner's host."""
    found: dict[str, str] = {}
    for chunk in rows.chunks(sorted(instance_uuids)):
        query = sa.select(OWNERS.c.instance_uuid, OWNERS.c.host)
        matching = tx.execute(query.where(OWNERS.c.instance_uuid.in_(chunk)))
        found |= {uuid: host for uuid, host in matching}
    return found


def running_watched(tx: Transaction, places: Collection[Place]) -> set[Place]:
    """Return the places where a monitored host reports that it runs the instance.

    Its inventory must be that of the agent, not an earlier one.
    """
    query = (
        sa.select(INSTANCES.c.instance_uuid, INSTANCES.c.host)
        .join(AGENTS, AGENTS.c.host == INSTANCES.c.host)
        .where(AGENTS.c.state.in_(WATCHING), AGENTS.c.held_digest == AGENTS.c.inventory_digest)
        .where(INSTANCES.c.present)
        .where(INSTANCES.c.state == instances.RUNNING)
    )
    found = set()
    for chunk in rows.chunks(sorted({uuid for uuid, _ in places})):
        matching = tx.execute(query.where(INSTANCES.c.instance_uuid.in_(chunk)))
        found |= {(uuid, host) for uuid, host in matching}
    return found & set(places)


def purge(tx: Transaction, before: int, limit: int) -> int:
    """Delete owners of instances that no inventory and no open incident has.

    :param before: owners since a later time are kept; microseconds since the epoch.
    :param limit: maximum number of owners to delete in this transaction.
    :return: the number of deleted owners; fewer than ``limit`` if no more are left.
    """
    seen = sa.exists().where(INSTANCES.c.instance_uuid == OWNERS.c.instance_uuid)
    failed = sa.exists().where(
        INCIDENTS.c.instance_uuid == OWNERS.c.instance_uuid, INCIDENTS.c.open_key.is_not(None)
    )
    query = sa.select(OWNERS.c.id).where(OWNERS.c.since < before, ~seen, ~failed).limit(limit)
    ids = tx.execute(query).scalars().all()
    return sum(
        tx.execute(sa.delete(OWNERS).where(OWNERS.c.id.in_(chunk))).rowcount
        for chunk in rows.chunks(ids)
    )


# -- claims ------------------------------------------------------------------------------------
def insert_claims(tx: Transaction, claims: Iterable[HostClaim]) -> None:
    """Store new claims.

    :raises vmmonitor.model.errors.Conflict: one of them is already stored.
    """
    ordered = sorted(claims, key=lambda one: (one.instance.uuid, one.host))
    if ordered:
        with unique("Another engine stored the claim"):
            tx.execute(sa.insert(HOST_CLAIMS), [_columns(one) for one in ordered])


def update_claim(tx: Transaction, claim: HostClaim, **changes: Any) -> bool:
    """Change a claim; return False if another engine has examined or removed it meanwhile."""
    this = (*_this(claim), HOST_CLAIMS.c.checked_at == claim.checked_at)
    return bool(tx.execute(sa.update(HOST_CLAIMS).where(*this).values(changes)).rowcount)


def set_reported(tx: Transaction, claim: HostClaim, now: int) -> None:
    """Store that an event reported a claim."""
    tx.execute(sa.update(HOST_CLAIMS).where(*_this(claim)).values(reported_at=now))


def set_contested(tx: Transaction, claim: HostClaim) -> None:
    """Store that the owner runs the instance too."""
    tx.execute(sa.update(HOST_CLAIMS).where(*_this(claim)).values(contested=True))


def touch_claim(tx: Transaction, claim: HostClaim) -> None:
    """Store the newest report of a claim."""
    names = ("last_at", "running", "contested")
    changes = {name: getattr(claim, name) for name in names}
    tx.execute(sa.update(HOST_CLAIMS).where(*_this(claim)).values(changes))


def delete_claims(tx: Transaction, claims: Iterable[HostClaim]) -> None:
    """Delete claims."""
    for claim in claims:
        tx.execute(sa.delete(HOST_CLAIMS).where(*_this(claim)))


def claims_of(tx: Transaction, instance_uuid: str) -> list[HostClaim]:
    """Return the claims on an instance."""
    query = sa.select(HOST_CLAIMS).where(HOST_CLAIMS.c.instance_uuid == instance_uuid)
    return [_claim(row) for row in tx.execute(query.order_by(HOST_CLAIMS.c.id))]


def claims_to_check(tx: Transaction, before: int, limit: int) -> list[HostClaim]:
    """Return the claims that no engine has examined since a time, the oldest first.

    :param before: microseconds since the epoch, engines' clock.
    """
    query = sa.select(HOST_CLAIMS).where(HOST_CLAIMS.c.checked_at < before)
    ordered = query.order_by(HOST_CLAIMS.c.checked_at, HOST_CLAIMS.c.id).limit(limit)
    return [_claim(row) for row in tx.execute(ordered)]


def contested_places(tx: Transaction) -> set[Place]:
    """Return the places of the contested claims."""
    columns = (HOST_CLAIMS.c.instance_uuid, HOST_CLAIMS.c.host)
    query = sa.select(*columns).where(HOST_CLAIMS.c.contested)
    return {(uuid, host) for uuid, host in tx.execute(query)}


def reported_claims(tx: Transaction) -> dict[str, int]:
    """Return host -> number of instances of other hosts that it reports."""
    query = (
        sa.select(HOST_CLAIMS.c.host, sa.func.count())
        .where(HOST_CLAIMS.c.reported_at.is_not(None))
        .group_by(HOST_CLAIMS.c.host)
    )
    return {host: count for host, count in tx.execute(query)}


def _this(claim: HostClaim) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        HOST_CLAIMS.c.instance_uuid == claim.instance.uuid,
        HOST_CLAIMS.c.host == claim.host,
    )


def _columns(claim: HostClaim) -> dict[str, Any]:
    columns = rows.shallow(claim)
    return {**columns, **rows.of_instance(columns.pop("instance"))}


def _claim(row: sa.Row[Any], prefix: str = "") -> HostClaim:
    """Return the claim of a row, whose column names begin with a prefix."""
    columns = {
        str(name).removeprefix(prefix): value
        for name, value in row._mapping.items()
        if str(name).startswith(prefix)
    }
    instance = {field: columns[column] for field, column in rows.INSTANCE_COLUMNS.items()}
    names = [field.name for field in dataclasses.fields(HostClaim) if field.name != "instance"]
    return HostClaim(
        instance=instances.Instance(**instance), **{name: columns[name] for name in names}
    )
