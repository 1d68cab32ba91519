# SPDX-License-Identifier: Apache-2.0
"""Store the reports of the agents, and the clock offsets of their hosts."""

from typing import Any, NamedTuple

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.repository import Repository
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import AGENTS
from vmmonitor.model.agent import UNWATCHED, Agent, AgentReport
from vmmonitor.model.clock import SECOND, HostClock
from vmmonitor.model.observed import InventoryTrust
from vmmonitor.model.states import AgentState

#: Maximum difference of the database's clock as read by different engines, in microseconds.
MAX_READING_DIFFERENCE = SECOND


def store_report(tx: Transaction, report: AgentReport, now: int) -> str:
    """Store the report of an agent.

    :param now: when it arrived; microseconds since the epoch, engines' clock.
    :return: digest of the stored inventory of its host, empty without one.
    :raises vmmonitor.model.errors.Conflict: its first two reports arrived at the same time.
    """
    this = AGENTS.c.host == report.host
    found = tx.execute(sa.select(*_UNREPORTED).where(this).with_for_update()).first()
    known = _Unreported(*found) if found else _Unreported()
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
    """Mark the agents whose report is overdue. A stopped agent is never late.

    :param now: microseconds since the epoch, engines' clock.
    :param factor: an agent is late after this many times its report interval.
    :param working_since: when agents could report for the first time; like ``now``.
    :return: the hosts of the agents that this call marked, sorted.
    """
    silent_for = AGENTS.c.interval * (factor * SECOND)
    silent = sa.and_(
        AGENTS.c.state.in_([AgentState.UP, AgentState.BLIND, AgentState.BEHIND]),
        AGENTS.c.seen_at < now - silent_for,
        silent_for < now - working_since,
    )
    hosts = tx.execute(sa.select(AGENTS.c.host).where(silent).order_by(AGENTS.c.host)).scalars()
    since = sa.func.coalesce(AGENTS.c.unwatched_since, AGENTS.c.seen_at)
    late = sa.update(AGENTS).values(state=AgentState.LATE, unwatched_since=since)
    # Each update repeats the condition: the agent may have reported meanwhile, or another engine
    # may have marked it.
    return [
        host
        for host in hosts.all()
        if tx.execute(late.where(AGENTS.c.host == host, silent)).rowcount
    ]


def find_locked(tx: Transaction, host: str) -> Agent | None:
    """Return the agent of a host, and lock its row; None if it has never reported."""
    return REPOSITORY.find(tx, host, lock=True)


def is_reporting(tx: Transaction, host: str) -> bool:
    """Return whether the agent of a host reports in time; False if the host has no agent."""
    reporting = [AgentState.UP, AgentState.BLIND, AgentState.BEHIND]
    query = sa.select(AGENTS.c.host).where(AGENTS.c.host == host, AGENTS.c.state.in_(reporting))
    return tx.execute(query).first() is not None


def unwatched_hosts(tx: Transaction, before: int) -> list[str]:
    """Return the hosts without monitoring since before a time, sorted.

    :param before: microseconds since the epoch, engines' clock.
    """
    query = sa.select(AGENTS.c.host).where(
        AGENTS.c.state.in_(UNWATCHED), AGENTS.c.unwatched_since < before
    )
    return list(tx.execute(query.order_by(AGENTS.c.host)).scalars())


def clock_offsets_beyond(tx: Transaction, beyond: int) -> dict[str, int]:
    """Return host -> clock offset, of the hosts with a greater offset.

    :param beyond: the limit in both directions, in microseconds.
    """
    offset = AGENTS.c.clock_offset
    far = sa.or_(offset > beyond, offset < -beyond)
    return {host: us for host, us in tx.execute(sa.select(AGENTS.c.host, offset).where(far))}


def clock_corrections(tx: Transaction) -> dict[str, int]:
    """Return host -> correction of its times in microseconds, of the hosts that need one."""
    correction = AGENTS.c.clock_correction
    found = tx.execute(sa.select(AGENTS.c.host, correction).where(correction != 0))
    return {host: us for host, us in found}


def rebase_after_clock_step(tx: Transaction, now: int) -> int:
    """Correct times that lie in the future, after the engines' clock stepped back.

    :param now: microseconds since the epoch, engines' clock.
    :return: the number of changed agents.
    """
    later = AGENTS.c.seen_at > now + MAX_READING_DIFFERENCE
    unwatched = sa.case((AGENTS.c.unwatched_since > now, now), else_=AGENTS.c.unwatched_since)
    changes = {"seen_at": now, "unwatched_since": unwatched}
    return tx.execute(sa.update(AGENTS).where(later).values(changes)).rowcount


def inventory_trusts(tx: Transaction) -> list[InventoryTrust]:
    """Return the facts about the trust in each host's inventory, sorted by host."""
    of = AGENTS.c
    columns = (of.host, of.state, of.seen_at, of.interval, of.held_digest, of.inventory_digest)
    return [
        InventoryTrust(
            host=host,
            state=state,
            seen_at=seen_at,
            interval=interval,
            digest=held,
            current=bool(held) and held == has,
            settled=state == AgentState.UP and not depth,
        )
        for host, state, seen_at, interval, held, has, depth in tx.execute(
            sa.select(*columns, of.spool_depth).order_by(of.host)
        )
    ]


class _Unreported(NamedTuple):
    """The columns of a row that are not part of a report."""

    held_digest: str = ""
    clock_samples: str = ""
    clock_offset: int = 0
    clock_correction: int = 0
    unwatched_since: int | None = None


_UNREPORTED = [AGENTS.c[name] for name in _Unreported._fields]


def _clock(row: Any) -> HostClock:
    return HostClock(
        samples=tuple(map(int, row.clock_samples.split())),
        offset=row.clock_offset,
        correction=row.clock_correction,
    )


def _from_row(row: sa.Row[Any]) -> Agent:
    columns = row._mapping
    fields = rows.fields(AgentReport, columns) | {"state": columns["reported_state"]}
    return Agent(
        report=AgentReport(**fields),
        state=columns["state"],
        seen_at=columns["seen_at"],
        clock=_clock(row),
        unwatched_since=columns["unwatched_since"],
    )


REPOSITORY = Repository(
    table=AGENTS,
    key="host",
    from_row=_from_row,
    time="seen_at",
    filters=frozenset({"host", "state"}),
    sort=frozenset({"host", "seen_at", "state"}),
    default=[("host", "asc")],
)
get, page = REPOSITORY.get, REPOSITORY.page
