# SPDX-License-Identifier: Apache-2.0
"""The agents, and the instances that each of them last listed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.page import Listing, Page
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import AGENTS, INSTANCES
from vmmonitor.model import errors, states
from vmmonitor.model.agent import UNWATCHED, Agent, AgentReport
from vmmonitor.model.clock import HostClock
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
    this = AGENTS.c.host == report.host
    found = tx.execute(sa.select(*BESIDE).where(this).with_for_update()).first()
    known = Beside(*found) if found else Beside()
    clock = _clock(known).after(now - report.sent_at)
    since = now if known.unwatched_since is None else known.unwatched_since
    columns = rows.shallow(report) | {
        "reported_state": report.state,
        "seen_at": now,
        "clock_offset": clock.offset,
        "clock_correction": clock.correction,
        "clock_samples": " ".join(map(str, clock.samples)),
        "unwatched_since": since if report.state in UNWATCHED else None,
    }
    if not tx.execute(sa.update(AGENTS).where(this).values(columns)).rowcount:
        with unique("Another engine stores the first report of the agent"):
            tx.execute(sa.insert(AGENTS), columns | {"held_digest": ""})
    return known.held_digest


def mark_late(tx: Transaction, now: int, factor: float, working_since: int = 0) -> list[str]:
    """Mark the agents that ought to have reported. One that was stopped is never late.

    :param now: microseconds since the epoch, engines' clock.
    :param factor: late is who is silent for this many times its report interval.
    :param working_since: no agent had a chance to report before; like ``now``.
    :return: the hosts of those that became late by this call, sorted.
    """
    silent_for = AGENTS.c.interval * (factor * 1_000_000)
    silent = sa.and_(
        AGENTS.c.state.in_([states.UP, states.BLIND, states.BEHIND]),
        AGENTS.c.seen_at < now - silent_for,
        silent_for < now - working_since,
    )
    hosts = tx.execute(sa.select(AGENTS.c.host).where(silent).order_by(AGENTS.c.host)).scalars()
    since = sa.func.coalesce(AGENTS.c.unwatched_since, AGENTS.c.seen_at)
    late = sa.update(AGENTS).values(state=states.LATE, unwatched_since=since)
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


def lock(tx: Transaction, host: str) -> Agent | None:
    """Return the agent of a host as it is now, with its row locked until the end of the
    transaction; None if none of this host ever reported."""
    row = tx.execute(sa.select(AGENTS).where(AGENTS.c.host == host).with_for_update()).first()
    return None if row is None else _agent(row)


def unwatched(tx: Transaction, before: int) -> list[str]:
    """Return the hosts that were last watched before a moment, sorted.

    :param before: microseconds since the epoch, engines' clock.
    """
    query = sa.select(AGENTS.c.host).where(
        AGENTS.c.state.in_(UNWATCHED), AGENTS.c.unwatched_since < before
    )
    return list(tx.execute(query.order_by(AGENTS.c.host)).scalars())


def clocks(tx: Transaction, beyond: int) -> dict[str, int]:
    """Return host -> offset of its clock, of those that are farther from the engines' clock.

    :param beyond: microseconds, like the offsets.
    """
    offset = AGENTS.c.clock_offset
    far = sa.or_(offset > beyond, offset < -beyond)
    return {host: us for host, us in tx.execute(sa.select(AGENTS.c.host, offset).where(far))}


def corrections(tx: Transaction) -> dict[str, int]:
    """Return host -> microseconds to add to its times, of those where that is not 0."""
    correction = AGENTS.c.clock_correction
    found = tx.execute(sa.select(AGENTS.c.host, correction).where(correction != 0))
    return {host: us for host, us in found}


def put_right(tx: Transaction, now: int) -> int:
    """Let what was seen at a time that has not come yet, as the engines' clock was put back, be
    seen now.

    :param now: microseconds since the epoch, engines' clock.
    :return: how many agents that concerns.
    """
    later = AGENTS.c.seen_at > now
    unwatched = sa.case((AGENTS.c.unwatched_since > now, now), else_=AGENTS.c.unwatched_since)
    changes = {"seen_at": now, "unwatched_since": unwatched}
    return tx.execute(sa.update(AGENTS).where(later).values(changes)).rowcount


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


class Beside(NamedTuple):
    """What a row holds that no report says."""

    held_digest: str = ""
    clock_samples: str = ""
    clock_offset: int = 0
    clock_correction: int = 0
    unwatched_since: int | None = None


BESIDE = [AGENTS.c[name] for name in Beside._fields]


def _clock(row: Any) -> HostClock:
    return HostClock(
        samples=tuple(map(int, row.clock_samples.split())),
        offset=row.clock_offset,
        correction=row.clock_correction,
    )


def _agent(row: sa.Row[Any]) -> Agent:
    columns = row._mapping
    said = rows.fields(AgentReport, columns) | {"state": columns["reported_state"]}
    return Agent(
        report=AgentReport(**said),
        state=columns["state"],
        seen_at=columns["seen_at"],
        clock=_clock(row),
        unwatched_since=columns["unwatched_since"],
    )
