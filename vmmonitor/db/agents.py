# SPDX-License-Identifier: Apache-2.0
"""The agents, and the instances that each of them last listed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.page import Listing, Page
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import AGENTS, INSTANCES
from vmmonitor.model import errors, states
from vmmonitor.model.agent import Agent, AgentReport
from vmmonitor.model.expected import Sight, Watch, lost_at
from vmmonitor.model.instance import Seen

LISTING = Listing(
    table=AGENTS,
    key="host",
    time="seen_at",
    filters=frozenset({"host", "state"}),
    sort=frozenset({"host", "seen_at", "state"}),
    default=[("host", "asc")],
)


def report(tx: Transaction, report: AgentReport, now: int) -> str:
    """Store what an agent says of itself.

    :param now: when it said so; microseconds since the epoch, engines' clock.
    :return: digest of the inventory that the database holds for its host, empty if none.
    :raises vmmonitor.model.errors.Conflict: its very first two reports came at the same time.
    """
    columns = rows.shallow(report)
    columns |= {"reported_state": report.state, "seen_at": now}
    this = AGENTS.c.host == report.host
    if not tx.execute(sa.update(AGENTS).where(this).values(columns)).rowcount:
        with unique("Another engine stores the first report of the agent"):
            tx.execute(sa.insert(AGENTS), columns | {"held_digest": ""})
    held: str = tx.execute(sa.select(AGENTS.c.held_digest).where(this)).scalar_one()
    return held


def mark_late(tx: Transaction, now: int, factor: float) -> list[str]:
    """Mark the agents that ought to have reported. One that was stopped is never late.

    :param now: microseconds since the epoch, engines' clock.
    :param factor: late is who is silent for this many times its report interval.
    :return: the hosts of those that became late by this call, sorted.
    """
    silent = sa.and_(
        AGENTS.c.state.in_([states.UP, states.BLIND, states.BEHIND]),
        AGENTS.c.seen_at < now - AGENTS.c.interval * (factor * 1_000_000),
    )
    hosts = tx.execute(sa.select(AGENTS.c.host).where(silent).order_by(AGENTS.c.host)).scalars()
    late = sa.update(AGENTS).values(state=states.LATE)
    # One by one, the condition repeated: it may have reported since, or another engine was first.
    return [
        host
        for host in hosts.all()
        if tx.execute(late.where(AGENTS.c.host == host, silent)).rowcount
    ]


def get(tx: Transaction, host: str) -> Agent:
    """Return the agent of a host.

    :raises vmmonitor.model.errors.NotFound: none of this host ever reported.
    """
    row = tx.execute(sa.select(AGENTS).where(AGENTS.c.host == host)).first()
    if row is None:
        raise errors.NotFound(host=host)
    return _agent(row)


def page(tx: Transaction, page: Page) -> list[Agent]:
    """Return a page of the agents, by host unless asked otherwise.

    ``since`` and ``until`` mean ``seen_at``.

    :raises ValueError: see Listing.rows.
    :raises vmmonitor.model.errors.NotFound: nothing has the marker's id.
    """
    return [_agent(row) for row in LISTING.rows(tx, page)]


def watches(tx: Transaction) -> list[Watch]:
    """Return how far each host's inventory can be trusted, by host."""
    of = AGENTS.c
    columns = (of.host, of.state, of.seen_at, of.interval, of.held_digest, of.inventory_digest)
    return [
        Watch(
            host=host,
            state=state,
            seen_at=seen_at,
            interval=interval,
            digest=held,
            current=bool(held) and held == has,
            settled=state == states.UP and not depth,
        )
        for host, state, seen_at, interval, held, has, depth in tx.execute(
            sa.select(*columns, of.spool_depth).order_by(of.host)
        )
    ]


# -- inventories -------------------------------------------------------------------------------
def replace_inventory(
    tx: Transaction, host: str, digest: str, seen: Sequence[Seen], now: int
) -> None:
    """Store the instances of a host in place of those that were stored for it.

    Those that ran and are not there any more stay as lost: their agent does not know of them.

    :param digest: of the inventory; ``report`` returns it from then on.
    :param now: microseconds since the epoch, engines' clock.
    :raises vmmonitor.model.errors.Conflict: another engine did the same at the same time.
    """
    # First, because it makes two engines that have the same host's inventory wait.
    tx.execute(sa.update(AGENTS).where(AGENTS.c.host == host).values(_held(digest, now)))
    before = {sight.seen.instance.uuid: sight for sight in sights(tx, host)}
    tx.execute(sa.delete(INSTANCES).where(INSTANCES.c.host == host))
    after = {one.instance.uuid: _sight(host, one, before, now) for one in seen}
    for uuid in before.keys() - after.keys():
        if since := lost_at(before[uuid], None, now):
            after[uuid] = dataclasses.replace(before[uuid], present=False, lost_at=since)
    _insert(tx, after)


def change_inventory(
    tx: Transaction,
    host: str,
    base_digest: str,
    digest: str,
    changed: Sequence[Seen],
    gone: Sequence[str],
    now: int,
) -> str:
    """Change the instances that are stored for a host, if they are those with ``base_digest``.

    :param changed: the instances that are new or another way than before.
    :param gone: uuids of those that the host's agent took leave of.
    :param now: microseconds since the epoch, engines' clock.
    :return: digest of the inventory that is stored then; empty if none is.
    :raises vmmonitor.model.errors.Conflict: another engine did the same at the same time.
    """
    this = AGENTS.c.host == host
    change = sa.update(AGENTS).where(this, AGENTS.c.held_digest == base_digest)
    if not tx.execute(change.values(_held(digest, now))).rowcount:
        return tx.execute(sa.select(AGENTS.c.held_digest).where(this)).scalar() or ""
    touched = {*gone, *(one.instance.uuid for one in changed)}
    before: dict[str, Sight] = {}
    for chunk in rows.chunks(sorted(touched)):
        these = (INSTANCES.c.host == host, INSTANCES.c.instance_uuid.in_(chunk))
        found = tx.execute(sa.select(INSTANCES).where(*these))
        before |= {row.instance_uuid: _read_sight(row) for row in found}
        tx.execute(sa.delete(INSTANCES).where(*these))
    _insert(tx, {one.instance.uuid: _sight(host, one, before, now) for one in changed})
    return digest


def inventory(tx: Transaction, host: str) -> list[Seen]:
    """Return the instances that a host last listed, by name, without their definitions."""
    query = sa.select(INSTANCES).where(INSTANCES.c.host == host, INSTANCES.c.present)
    by_name = query.order_by(INSTANCES.c.instance_name, INSTANCES.c.id)
    return [_read_sight(row).seen for row in tx.execute(by_name)]


def sights(tx: Transaction, host: str) -> list[Sight]:
    """Return what is known of every instance on a host, those that are lost among them."""
    query = sa.select(INSTANCES).where(INSTANCES.c.host == host).order_by(INSTANCES.c.id)
    return [_read_sight(row) for row in tx.execute(query)]


def purge_lost(tx: Transaction, before: int, limit: int) -> int:
    """Forget instances that are lost for long and were never seen again.

    :param before: those that were lost earlier go; microseconds since the epoch.
    :param limit: greatest number to delete in this transaction.
    :return: how many were deleted.
    """
    lost = sa.and_(~INSTANCES.c.present, INSTANCES.c.lost_at < before)
    ids = tx.execute(sa.select(INSTANCES.c.id).where(lost).limit(limit)).scalars().all()
    return sum(
        tx.execute(sa.delete(INSTANCES).where(INSTANCES.c.id.in_(chunk))).rowcount
        for chunk in rows.chunks(ids)
    )


def _held(digest: str, now: int) -> dict[str, Any]:
    # What an agent has told is what it has, until it reports another digest.
    return {"held_digest": digest, "inventory_digest": digest, "seen_at": now}


def _sight(host: str, seen: Seen, before: Mapping[str, Sight], now: int) -> Sight:
    since = lost_at(before.get(seen.instance.uuid), seen, now)
    return Sight(host=host, seen=seen, lost_at=since)


def _insert(tx: Transaction, sights: Mapping[str, Sight]) -> None:
    if sights:
        with unique("Another engine stores the inventory"):
            tx.execute(sa.insert(INSTANCES), [_columns(sights[uuid]) for uuid in sorted(sights)])


def _columns(sight: Sight) -> dict[str, Any]:
    columns = rows.shallow(sight) | rows.shallow(sight.seen)
    del columns["seen"], columns["definition"]
    return {**columns, **rows.of_instance(columns.pop("instance"))}


def _read_sight(row: sa.Row[Any]) -> Sight:
    columns = row._mapping
    seen = Seen(instance=rows.instance(columns), **rows.fields(Seen, columns))
    return Sight(seen=seen, **rows.fields(Sight, columns))


def _agent(row: sa.Row[Any]) -> Agent:
    columns = row._mapping
    said = rows.fields(AgentReport, columns) | {"state": columns["reported_state"]}
    return Agent(report=AgentReport(**said), state=columns["state"], seen_at=columns["seen_at"])
