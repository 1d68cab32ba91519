# SPDX-License-Identifier: Apache-2.0
"""Store the inventories: the instances that each agent reports for its host.

An instance that ran on a host and is no longer in the inventory is kept as lost, unless an event
reports the reason.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import AGENTS, INSTANCES
from vmmonitor.model.instance import RUNNING, Seen
from vmmonitor.model.observed import ObservedInstance, lost_since


def replace(tx: Transaction, host: str, digest: str, seen: Sequence[Seen], now: int) -> None:
    """Replace the inventory of a host.

    Instances that ran and are missing from the new inventory are kept as lost.

    :param digest: digest of the inventory; ``agents.store_report`` returns it afterwards.
    :param now: microseconds since the epoch, engines' clock.
    :raises vmmonitor.model.errors.Conflict: another engine stores it at the same time.
    """
    # First, because its row lock serializes engines that store the inventory of one host.
    tx.execute(sa.update(AGENTS).where(AGENTS.c.host == host).values(_digests(digest, now)))
    before = {known.seen.instance.uuid: known for known in observed(tx, host)}
    tx.execute(sa.delete(INSTANCES).where(INSTANCES.c.host == host))
    after = {each.instance.uuid: _observe(host, each, before, now) for each in seen}
    for uuid in before.keys() - after.keys():
        if since := lost_since(before[uuid], None, now):
            after[uuid] = dataclasses.replace(before[uuid], present=False, lost_at=since)
    _insert(tx, after)


def change(
    tx: Transaction,
    host: str,
    base_digest: str,
    digest: str,
    changed: Sequence[Seen],
    gone: Sequence[str],
    now: int,
) -> str:
    """Change the inventory of a host, if the stored one has ``base_digest``.

    :param changed: the new and the changed instances.
    :param gone: uuids of the instances that the agent removed from its inventory.
    :param now: microseconds since the epoch, engines' clock.
    :return: digest of the inventory that is stored afterwards; empty without one.
    :raises vmmonitor.model.errors.Conflict: another engine stores it at the same time.
    """
    this = AGENTS.c.host == host
    update = sa.update(AGENTS).where(this, AGENTS.c.held_digest == base_digest)
    if not tx.execute(update.values(_digests(digest, now))).rowcount:
        return tx.execute(sa.select(AGENTS.c.held_digest).where(this)).scalar() or ""
    touched = {*gone, *(each.instance.uuid for each in changed)}
    before: dict[str, ObservedInstance] = {}
    for chunk in rows.chunks(sorted(touched)):
        these = (INSTANCES.c.host == host, INSTANCES.c.instance_uuid.in_(chunk))
        found = tx.execute(sa.select(INSTANCES).where(*these))
        before |= {row.instance_uuid: _from_row(row) for row in found}
        tx.execute(sa.delete(INSTANCES).where(*these))
    _insert(tx, {each.instance.uuid: _observe(host, each, before, now) for each in changed})
    return digest


def present(tx: Transaction, host: str) -> list[Seen]:
    """Return the instances in a host's inventory, by name, without their definitions."""
    query = sa.select(INSTANCES).where(INSTANCES.c.host == host, INSTANCES.c.present)
    by_name = query.order_by(INSTANCES.c.instance_name, INSTANCES.c.id)
    return [_from_row(row).seen for row in tx.execute(by_name)]


def observed(tx: Transaction, host: str) -> list[ObservedInstance]:
    """Return the observed state of each instance of a host, including lost ones."""
    query = sa.select(INSTANCES).where(INSTANCES.c.host == host).order_by(INSTANCES.c.id)
    return [_from_row(row) for row in tx.execute(query)]


def is_running(tx: Transaction, host: str, instance_uuid: str) -> bool:
    """Return whether a host's inventory contains an instance as running."""
    this = INSTANCES.c
    query = sa.select(this.id).where(
        this.host == host,
        this.instance_uuid == instance_uuid,
        this.present,
        this.state == RUNNING,
    )
    return tx.execute(query).first() is not None


def purge_lost(tx: Transaction, before: int, limit: int) -> int:
    """Delete lost instances that were not seen again.

    :param before: instances lost earlier are deleted; microseconds since the epoch.
    :param limit: maximum number of instances to delete in this transaction.
    :return: the number of deleted instances; fewer than ``limit`` if no more are left.
    """
    lost = sa.and_(~INSTANCES.c.present, INSTANCES.c.lost_at < before)
    ids = tx.execute(sa.select(INSTANCES.c.id).where(lost).limit(limit)).scalars().all()
    return sum(
        tx.execute(sa.delete(INSTANCES).where(INSTANCES.c.id.in_(chunk))).rowcount
        for chunk in rows.chunks(ids)
    )


def _digests(digest: str, now: int) -> dict[str, Any]:
    # The stored inventory is also that of the agent, until the agent reports another digest.
    return {"held_digest": digest, "inventory_digest": digest, "seen_at": now}


def _observe(
    host: str, seen: Seen, before: Mapping[str, ObservedInstance], now: int
) -> ObservedInstance:
    since = lost_since(before.get(seen.instance.uuid), seen, now)
    return ObservedInstance(host=host, seen=seen, lost_at=since)


def _insert(tx: Transaction, instances: Mapping[str, ObservedInstance]) -> None:
    if instances:
        values = [_columns(instances[uuid]) for uuid in sorted(instances)]
        with unique("Another engine stores the inventory"):
            tx.execute(sa.insert(INSTANCES), values)


def _columns(instance: ObservedInstance) -> dict[str, Any]:
    columns = rows.shallow(instance) | rows.shallow(instance.seen)
    del columns["seen"], columns["definition"]
    return {**columns, **rows.of_instance(columns.pop("instance"))}


def _from_row(row: sa.Row[Any]) -> ObservedInstance:
    columns = row._mapping
    seen = Seen(instance=rows.instance(columns), **rows.fields(Seen, columns))
    return ObservedInstance(seen=seen, **rows.fields(ObservedInstance, columns))
