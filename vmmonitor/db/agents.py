# SPDX-License-Identifier: Apache-2.0
"""The agents, and the instances that each of them last listed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from vmmonitor.db import rows
from vmmonitor.db.page import Listing, Page
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import AGENTS, INSTANCES
from vmmonitor.model import errors
from vmmonitor.model.agent import UNWATCHED, Agent, AgentReport
from vmmonitor.model.clock import HostClock
from vmmonitor.model.instance import Seen
from vmmonitor.model.observed import InventoryTrust, ObservedInstance, lost_since
from vmmonitor.model.states import AgentState

#: Microseconds by which two engines' readings of the database's clock may differ.
AGREED = 1_000_000

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
        AGENTS.c.state.in_([AgentState.UP, AgentState.BLIND, AgentState.BEHIND]),
        AGENTS.c.seen_at < now - silent_for,
        silent_for < now - working_since,
    )
    hosts = tx.execute(sa.select(AGENTS.c.host).where(silent).order_by(AGENTS.c.host)).scalars()
    since = sa.func.coalesce(AGENTS.c.unwatched_since, AGENTS.c.seen_at)
    late = sa.update(AGENTS).values(state=AgentState.LATE, unwatched_since=since)
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
    seen now. By less than a second two engines' readings of one clock may differ.

    :param now: microseconds since the epoch, engines' clock.
    :return: how many agents that concerns.
    """
    later = AGENTS.c.seen_at > now + AGREED
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


def inventory_trusts(tx: Transaction) -> list[InventoryTrust]:
    """Return how far each host's inventory can be trusted, by host."""
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
    before = {sight.seen.instance.uuid: sight for sight in observed_instances(tx, host)}
    tx.execute(sa.delete(INSTANCES).where(INSTANCES.c.host == host))
    after = {one.instance.uuid: _sight(host, one, before, now) for one in seen}
    for uuid in before.keys() - after.keys():
        if since := lost_since(before[uuid], None, now):
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
    before: dict[str, ObservedInstance] = {}
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


def observed_instances(tx: Transaction, host: str) -> list[ObservedInstance]:
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


def _sight(
    host: str, seen: Seen, before: Mapping[str, ObservedInstance], now: int
) -> ObservedInstance:
    since = lost_since(before.get(seen.instance.uuid), seen, now)
    return ObservedInstance(host=host, seen=seen, lost_at=since)


def _insert(tx: Transaction, sights: Mapping[str, ObservedInstance]) -> None:
    if sights:
        with unique("Another engine stores the inventory"):
            tx.execute(sa.insert(INSTANCES), [_columns(sights[uuid]) for uuid in sorted(sights)])


def _columns(sight: ObservedInstance) -> dict[str, Any]:
    columns = rows.shallow(sight) | rows.shallow(sight.seen)
    del columns["seen"], columns["definition"]
    return {**columns, **rows.of_instance(columns.pop("instance"))}


def _read_sight(row: sa.Row[Any]) -> ObservedInstance:
    columns = row._mapping
    seen = Seen(instance=rows.instance(columns), **rows.fields(Seen, columns))
    return ObservedInstance(seen=seen, **rows.fields(ObservedInstance, columns))


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
