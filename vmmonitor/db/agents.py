# SPDX-License-Identifier: Apache-2.0
"""Store the reports of the agents, and the clock offsets of their hosts."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.repository import Repository
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import AGENTS
from vmmonitor.model.agent import UNWATCHED, Agent, AgentReport, Identities, identity
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
    identities = _identities(known).after(report, known.seen_at, now)
    columns = rows.shallow(report) | {
        "reported_state": report.state,
        "seen_at": now,
        "clock_offset": clock.offset,
        "clock_correction": clock.correction,
        "clock_samples": " ".join(map(str, clock.samples)),
        "unwatched_since": since if report.state in UNWATCHED else None,
        "other_identity": identities.other,
        "other_seen_at": identities.other_seen_at,
        "contended_at": identities.contended_at,
    }
    if not tx.execute(sa.update(AGENTS).where(this).values(columns)).rowcount:
        with unique("Another engine stores the first report of the agent"):
            tx.execute(
                sa.insert(AGENTS),
                columns | {"held_digest": "", "expected_name": "", "conflict": ""},
            )
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


def find(tx: Transaction, host: str) -> Agent | None:
    """Return the agent of a host; None if it has never reported."""
    return REPOSITORY.find(tx, host)


def find_locked(tx: Transaction, host: str) -> Agent | None:
    """Return the agent of a host, and lock its row; None if it has never reported."""
    return REPOSITORY.find(tx, host, lock=True)


def is_reporting(tx: Transaction, host: str, *, is_blind_included: bool = True) -> bool:
    """Return whether the agent of a host reports in time; False if the host has no agent.

    :param is_blind_included: whether an agent counts that cannot reach libvirt.
    """
    reporting = [AgentState.UP, AgentState.BEHIND] + [AgentState.BLIND] * is_blind_included
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


def reports_as(tx: Transaction, host: str) -> bool:
    """Return whether an agent has reported under this name of a host."""
    query = sa.select(AGENTS.c.id).where(AGENTS.c.host == host)
    return tx.execute(query.limit(1)).first() is not None


def reporting_hosts(tx: Transaction, hosts: Collection[str]) -> set[str]:
    """Return the hosts, of these, under whose names an agent has reported."""
    found: set[str] = set()
    for chunk in rows.chunks(sorted(hosts)):
        query = sa.select(AGENTS.c.host).where(AGENTS.c.host.in_(chunk))
        found.update(tx.execute(query).scalars())
    return found


def contended(tx: Transaction, since: int) -> list[Agent]:
    """Return the agents with a machine that took turns with another one since a time.

    :param since: microseconds since the epoch, engines' clock.
    """
    query = sa.select(AGENTS).where(AGENTS.c.contended_at >= since).order_by(AGENTS.c.host)
    return [_from_row(row) for row in tx.execute(query)]


def set_expected_names(tx: Transaction, names: Mapping[str, str]) -> None:
    """Store the names that the expectation has for hosts, where the agents have others.

    :param names: host of an agent -> its name in the expectation; other agents get none.
    """
    stored = expected_names(tx)
    for host in sorted(names.keys() | stored.keys()):
        name = names.get(host, "")
        if name != stored.get(host, ""):
            update = sa.update(AGENTS).where(AGENTS.c.host == host)
            tx.execute(update.values(expected_name=name))


def expected_names(tx: Transaction) -> dict[str, str]:
    """Return host of an agent -> its other name in the expectation."""
    query = sa.select(AGENTS.c.host, AGENTS.c.expected_name)
    return {host: name for host, name in tx.execute(query.where(AGENTS.c.expected_name != ""))}


def set_conflict(tx: Transaction, host: str, conflict: str) -> bool:
    """Store what contradicts an agent, for operators; return whether it has changed."""
    this = (AGENTS.c.host == host, AGENTS.c.conflict != conflict)
    return bool(tx.execute(sa.update(AGENTS).where(*this).values(conflict=conflict)).rowcount)


def conflicts(tx: Transaction) -> dict[str, str]:
    """Return host -> what contradicts its agent, of the hosts with a contradiction."""
    query = sa.select(AGENTS.c.host, AGENTS.c.conflict).where(AGENTS.c.conflict != "")
    return {host: conflict for host, conflict in tx.execute(query)}


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
    """The columns of a row that the next report needs."""

    held_digest: str = ""
    clock_samples: str = ""
    clock_offset: int = 0
    clock_correction: int = 0
    unwatched_since: int | None = None
    seen_at: int = 0
    machine_id: str = ""
    boot_id: str = ""
    other_identity: str = ""
    other_seen_at: int = 0
    contended_at: int | None = None


_UNREPORTED = [AGENTS.c[name] for name in _Unreported._fields]


def _clock(row: Any) -> HostClock:
    return HostClock(
        samples=tuple(map(int, row.clock_samples.split())),
        offset=row.clock_offset,
        correction=row.clock_correction,
    )


def _identities(row: Any) -> Identities:
    return Identities(
        current=identity(row.machine_id, row.boot_id),
        other=row.other_identity,
        other_seen_at=row.other_seen_at,
        contended_at=row.contended_at,
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
        identities=_identities(row),
        conflict=columns["conflict"],
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
