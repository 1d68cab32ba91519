# SPDX-License-Identifier: Apache-2.0
"""The incidents."""

import enum
import hashlib
from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa

from vmmonitor.db import outbox, rows
from vmmonitor.db.page import Listing, Page
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import INCIDENTS, RECOVERIES, TIMELINE_ENTRIES
from vmmonitor.model import errors, states
from vmmonitor.model.incident import UNTIL_RELEASED, HoldReason, Incident, IncidentKind
from vmmonitor.model.instance import Instance
from vmmonitor.model.states import IncidentState


class Keep(enum.Enum):
    """The type of KEEP."""

    KEEP = "keep"


#: Leaves a value as it is, where None means something.
KEEP: Final = Keep.KEEP

#: The states that end at hold_until.
WAITING = (IncidentState.PENDING, IncidentState.HELD, IncidentState.SILENCED)

#: What policies and the expectation know of.
OF_INSTANCE = INCIDENTS.c.kind == IncidentKind.INSTANCE

#: Since when a waiting incident is due.
DUE_SINCE = sa.case(
    (INCIDENTS.c.held_by == HoldReason.CONCURRENCY, INCIDENTS.c.opened_at),
    else_=INCIDENTS.c.hold_until,
)

LISTING = Listing(
    table=INCIDENTS,
    key="incident_id",
    time="opened_at",
    filters=frozenset(
        {
            *("state", "kind", "instance_uuid", "host", "cause", "severity", "project_id"),
            *("policy", "held_by", "part_of"),
        }
    ),
    sort=frozenset({"opened_at", "updated_at", "host"}),
    default=[("opened_at", "desc")],
)


def insert(tx: Transaction, incidents: Sequence[Incident]) -> None:
    """Store new incidents, all or none.

    :raises vmmonitor.model.errors.Conflict: one of the instances, or hosts, has an open incident
        already; ``open_for`` or ``open_for_host`` in a new transaction returns it.
    """
    if not incidents:
        return
    # In one order, so that two engines wait for each other instead of deadlocking.
    ordered = sorted(incidents, key=lambda each: each.instance.uuid)
    with unique("An incident of the instance is open already"):
        tx.execute(sa.insert(INCIDENTS), [_columns(each) for each in ordered])
    for each in ordered:
        outbox.record_change(tx, None, each, each.updated_at)


def open_for(tx: Transaction, instance_uuids: Collection[str]) -> dict[str, Incident]:
    """Return the open incidents of these instances, by instance uuid, and lock their rows.

    Whoever changes an incident or its recovery locks the incident's row first, so that an event
    that says "it runs" and the recovery that waits for it cannot miss each other.
    """
    found = {}
    # In one order, so that two engines wait for each other instead of deadlocking.
    for chunk in rows.chunks(sorted(instance_uuids)):
        query = sa.select(INCIDENTS).where(INCIDENTS.c.open_key.in_(chunk))
        query = query.order_by(INCIDENTS.c.open_key).with_for_update()
        for row in tx.execute(query):
            incident = _incident(row)
            found[incident.instance.uuid] = incident
    return found


def open_for_host(tx: Transaction, host: str) -> Incident | None:
    """Return the open incident of a host, None if there is none, and lock its row."""
    query = sa.select(INCIDENTS).where(INCIDENTS.c.open_key == _key(IncidentKind.HOST, host))
    row = tx.execute(query.with_for_update()).first()
    return None if row is None else _incident(row)


def open_storm(tx: Transaction, shared_cause: str) -> Incident | None:
    """Return the open incident of a storm, None if there is none, and lock its row.

    :param shared_cause: what its members have in common.
    """
    query = sa.select(INCIDENTS).where(
        INCIDENTS.c.open_key == _key(IncidentKind.STORM, shared_cause)
    )
    row = tx.execute(query.with_for_update()).first()
    return None if row is None else _incident(row)


def hosts(tx: Transaction) -> list[str]:
    """Return the hosts that have an open incident, sorted."""
    query = sa.select(INCIDENTS.c.host).where(
        INCIDENTS.c.kind == IncidentKind.HOST, INCIDENTS.c.open_key.is_not(None)
    )
    return list(tx.execute(query.order_by(INCIDENTS.c.host)).scalars())


def lock(tx: Transaction, incident_id: str) -> Incident:
    """Return an incident as it is now, with its row locked until the end of the transaction.

    :raises vmmonitor.model.errors.NotFound: there is none with this id.
    """
    query = sa.select(INCIDENTS).where(INCIDENTS.c.incident_id == incident_id).with_for_update()
    row = tx.execute(query).first()
    if row is None:
        raise errors.NotFound(incident_id=incident_id)
    return _incident(row)


def move(
    tx: Transaction, incident: Incident, move: str, *, reason: str, now: int, **changes: Any
) -> Incident:
    """Take an incident to another state, if nobody else did meanwhile.

    :param incident: as it was when the move was decided.
    :param move: a move of ``states.INCIDENT``. ``run``, decided because the instance was seen
        running, does not happen if a newer failure has come in since.
    :param reason: for a person to read.
    :param now: microseconds since the epoch.
    :param changes: new values of other fields (``hold_until``, ``running_at``, ``policy``).
    :return: the incident as it is then.
    :raises vmmonitor.model.errors.IllegalTransition: the state table has no such move.
    :raises vmmonitor.model.errors.Conflict: it is not as it was; read it again.
    """
    state = states.next_state(states.INCIDENT_TRANSITIONS, incident.state, move)
    over = state not in states.OPEN_INCIDENT_STATES
    changes |= {"state": state, "reason": reason, "updated_at": now}
    if over:
        changes |= {"closed_at": now, "open_key": None}
    elif incident.closed_at is not None:
        changes |= {"closed_at": None, "open_key": _open_key(incident)}
    if state not in (IncidentState.HELD, IncidentState.SILENCED):
        changes["held_by"] = ""
    guards = []
    if move == "run" and incident.running_at is not None:
        guards.append(INCIDENTS.c.running_at.is_not(None))
    with unique("Another incident of the instance is open"):
        return _update(tx, incident, changes, *guards)


def reschedule(
    tx: Transaction, incident: Incident, hold_until: int, reason: str, now: int, **changes: Any
) -> Incident:
    """Let a waiting incident wait for another time, if nobody changed it meanwhile.

    :param hold_until: microseconds since the epoch, like ``now``.
    :param changes: new values of other fields (``policy``, ``cause``).
    :return: the incident as it is then.
    :raises vmmonitor.model.errors.Conflict: it is not as it was, or does not wait.
    """
    changes |= {"hold_until": hold_until, "reason": reason, "updated_at": now}
    return _update(
        tx,
        incident,
        changes,
        INCIDENTS.c.state.in_(WAITING),
        INCIDENTS.c.hold_until == incident.hold_until,
    )


def reword(tx: Transaction, incident: Incident, reason: str, now: int) -> Incident:
    """Give an incident another reason for the state that it stays in.

    :param now: microseconds since the epoch.
    :return: the incident as it is then.
    :raises vmmonitor.model.errors.Conflict: it is not as it was.
    """
    return _update(tx, incident, {"reason": reason, "updated_at": now})


def relocate(tx: Transaction, incident: Incident, host: str, now: int) -> Incident:
    """Let an incident go with its instance to another host.

    :param now: microseconds since the epoch.
    :return: the incident as it is then.
    :raises vmmonitor.model.errors.Conflict: its state is not as it was.
    """
    return _update(tx, incident, {"host": host, "updated_at": now})


def attach(
    tx: Transaction,
    incident_id: str,
    count: int,
    running_at: int | None | Keep,
    now: int,
) -> None:
    """Count more events to an open incident.

    :param count: how many.
    :param running_at: when the instance was seen running; None: it failed again since; KEEP:
        the events say nothing of it.
    :param now: microseconds since the epoch.
    :raises vmmonitor.model.errors.Conflict: it is over, or there is none; ``open_for`` in a new
        transaction tells.
    """
    changes: dict[str, Any] = {
        "event_count": INCIDENTS.c.event_count + count,
        "updated_at": now,
    }
    if running_at is not KEEP:
        changes["running_at"] = running_at
    updated = tx.execute(
        sa.update(INCIDENTS)
        .where(INCIDENTS.c.incident_id == incident_id, INCIDENTS.c.open_key.is_not(None))
        .values(changes)
    )
    if not updated.rowcount:
        raise errors.Conflict("The incident is over", incident_id=incident_id)


def due(tx: Transaction, now: int, limit: int) -> list[Incident]:
    """Return the waiting incidents whose time has come: the most important, then the longest due
    first. Whose turn has come is due since it opened: none is kept from it by those that came
    after.

    :param now: microseconds since the epoch.
    :param limit: greatest number of incidents.
    """
    query = (
        sa.select(INCIDENTS)
        .where(OF_INSTANCE, INCIDENTS.c.state.in_(WAITING), INCIDENTS.c.hold_until <= now)
        .order_by(INCIDENTS.c.priority.desc(), DUE_SINCE, INCIDENTS.c.id)
        .limit(limit)
    )
    return [_incident(row) for row in tx.execute(query)]


def next_due(tx: Transaction, now: int) -> int | None:
    """Return when the next hold will be over; None if nothing waits for that.

    :param now: microseconds since the epoch; what is due already, ``due`` returns.
    """
    query = sa.select(sa.func.min(INCIDENTS.c.hold_until))
    later = query.where(OF_INSTANCE, INCIDENTS.c.state.in_(WAITING), INCIDENTS.c.hold_until > now)
    return tx.execute(later).scalar()


def put_right(tx: Transaction, now: int) -> int:
    """Let holds that were set at a time that has not come yet, as the engines' clock was put back,
    begin now.

    :param now: microseconds since the epoch, engines' clock.
    :return: how many incidents that concerns.
    """
    later = sa.and_(
        INCIDENTS.c.state.in_(WAITING),
        INCIDENTS.c.updated_at > now,
        INCIDENTS.c.hold_until < UNTIL_RELEASED,
    )
    # In this order: MySQL computes from values that it has set before.
    changes = {
        INCIDENTS.c.hold_until: INCIDENTS.c.hold_until - INCIDENTS.c.updated_at + now,
        INCIDENTS.c.updated_at: now,
    }
    return tx.execute(sa.update(INCIDENTS).where(later).ordered_values(*changes.items())).rowcount


def get(tx: Transaction, incident_id: str) -> Incident:
    """Return an incident.

    :raises vmmonitor.model.errors.NotFound: there is none with this id.
    """
    row = tx.execute(sa.select(INCIDENTS).where(INCIDENTS.c.incident_id == incident_id)).first()
    if row is None:
        raise errors.NotFound(incident_id=incident_id)
    return _incident(row)


def instances(tx: Transaction, incident_ids: Collection[str]) -> dict[str, Instance]:
    """Return the instances of these incidents, by incident id."""
    columns = (INCIDENTS.c[name] for name in ("incident_id", *rows.INSTANCE.values()))
    query = sa.select(*columns)
    return {
        row.incident_id: rows.instance(row._mapping)
        for chunk in rows.chunks(incident_ids)
        for row in tx.execute(query.where(INCIDENTS.c.incident_id.in_(chunk)))
    }


def page(tx: Transaction, page: Page) -> list[Incident]:
    """Return a page of the incidents, the newest first unless asked otherwise.

    ``since`` and ``until`` mean ``opened_at``.

    :raises ValueError: see Listing.rows.
    :raises vmmonitor.model.errors.NotFound: nothing has the marker's id.
    """
    return [_incident(row) for row in LISTING.rows(tx, page)]


def purge(tx: Transaction, before: int, limit: int) -> int:
    """Delete incidents that are over, with their steps and recoveries, the oldest first.

    :param before: those closed earlier go; microseconds since the epoch.
    :param limit: greatest number to delete in this transaction.
    :return: how many were deleted; fewer than ``limit``: there is nothing left to delete.
    """
    query = (
        sa.select(INCIDENTS.c.incident_id)
        .where(INCIDENTS.c.closed_at < before)
        .order_by(INCIDENTS.c.closed_at)
        .limit(limit)
    )
    deleted = 0
    for chunk in rows.chunks(tx.execute(query).scalars().all()):
        for table in (TIMELINE_ENTRIES, RECOVERIES):
            tx.execute(sa.delete(table).where(table.c.incident_id.in_(chunk)))
        gone = tx.execute(sa.delete(INCIDENTS).where(INCIDENTS.c.incident_id.in_(chunk)))
        deleted += gone.rowcount
    return deleted


def _update(
    tx: Transaction,
    incident: Incident,
    changes: dict[str, Any],
    *guards: sa.ColumnElement[bool],
) -> Incident:
    """Change a row if its state is still the one that we know."""
    updated = tx.execute(
        sa.update(INCIDENTS)
        .where(
            INCIDENTS.c.incident_id == incident.incident_id,
            INCIDENTS.c.state == incident.state,
            *guards,
        )
        .values(changes)
    )
    if not updated.rowcount:
        raise errors.Conflict(incident_id=incident.incident_id, state=incident.state)
    # Read, not computed: events may have been attached since ``incident`` was read.
    changed = get(tx, incident.incident_id)
    outbox.record_change(tx, incident, changed, changed.updated_at)
    return changed


def _columns(incident: Incident) -> dict[str, Any]:
    columns = rows.shallow(incident)
    columns |= rows.of_instance(columns.pop("instance"))
    is_open = incident.state in states.OPEN_INCIDENT_STATES
    return columns | {"open_key": _open_key(incident) if is_open else None}


def _open_key(incident: Incident) -> str:
    if incident.kind == IncidentKind.INSTANCE:
        return incident.instance.uuid
    return _key(
        incident.kind,
        incident.host if incident.kind == IncidentKind.HOST else incident.shared_cause,
    )


def _key(kind: str, name: str) -> str:
    """Return the ``open_key`` of what is no instance's, which no instance's uuid can be: it is
    longer than an agent may tell, and of a name it holds what fits, however long that is."""
    return f"{kind}:{hashlib.sha256(name.encode()).hexdigest()[:56]}"


def _incident(row: sa.Row[Any]) -> Incident:
    columns = row._mapping
    fields = rows.fields(Incident, columns)
    fields |= {"kind": IncidentKind(row.kind), "state": IncidentState(row.state)}
    return Incident(instance=rows.instance(columns), **fields)


#: The same for others of this room.
from_row = _incident
