# SPDX-License-Identifier: Apache-2.0
"""The agents, and the instances that each of them last listed."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.page import Listing, Page
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import AGENTS, INSTANCES
from vmmonitor.model import errors, states
from vmmonitor.model.agent import Agent, AgentReport
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


def replace_inventory(
    tx: Transaction, host: str, digest: str, seen: Sequence[Seen], now: int
) -> None:
    """Store the instances of a host in place of those that were stored for it.

    :param digest: of the inventory; ``report`` returns it from then on.
    :param now: microseconds since the epoch, engines' clock.
    :raises vmmonitor.model.errors.Conflict: another engine did the same at the same time.
    """
    # First, because it makes two engines that have the same host's inventory wait.
    tx.execute(
        sa.update(AGENTS).where(AGENTS.c.host == host).values(held_digest=digest, seen_at=now)
    )
    tx.execute(sa.delete(INSTANCES).where(INSTANCES.c.host == host))
    by_uuid = {each.instance.uuid: _columns(host, each) for each in seen}
    if by_uuid:
        with unique("Another engine stores the inventory"):
            tx.execute(sa.insert(INSTANCES), [by_uuid[uuid] for uuid in sorted(by_uuid)])


def inventory(tx: Transaction, host: str) -> list[Seen]:
    """Return the instances that a host last listed, by name, without their definitions."""
    query = sa.select(INSTANCES).where(INSTANCES.c.host == host)
    by_name = query.order_by(INSTANCES.c.instance_name, INSTANCES.c.id)
    return [
        Seen(instance=rows.instance(row._mapping), **rows.fields(Seen, row._mapping))
        for row in tx.execute(by_name)
    ]


def _columns(host: str, seen: Seen) -> dict[str, Any]:
    columns = rows.shallow(seen)
    columns.pop("definition")
    return {"host": host, **rows.of_instance(columns.pop("instance")), **columns}


def _agent(row: sa.Row[Any]) -> Agent:
    columns = row._mapping
    said = rows.fields(AgentReport, columns) | {"state": columns["reported_state"]}
    return Agent(report=AgentReport(**said), state=columns["state"], seen_at=columns["seen_at"])
