# SPDX-License-Identifier: Apache-2.0
"""Store the incidents."""

import enum
import hashlib
from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa

from vmmonitor.db import outbox, rows
from vmmonitor.db.repository import Repository
from vmmonitor.db.session import Transaction, unique
from vmmonitor.db.tables import INCIDENTS, RECOVERIES, TIMELINE_ENTRIES
from vmmonitor.model import errors, states
from vmmonitor.model.incident import UNTIL_RELEASED, HoldReason, Incident, IncidentKind
from vmmonitor.model.instance import Instance
from vmmonitor.model.states import IncidentState, IncidentTransition


class Keep(enum.Enum):
    """Define the type of KEEP."""

    KEEP = "keep"


#: Leaves a value unchanged, for arguments with None as a valid value.
KEEP: Final = Keep.KEEP

#: An instance uuid and a host.
Place = tuple[str, str]

#: The states that end at hold_until.
WAITING = (IncidentState.PENDING, IncidentState.HELD, IncidentState.SILENCED)

#: The incidents that policies and expectations handle.
OF_INSTANCE = INCIDENTS.c.kind == IncidentKind.INSTANCE

#: The time since which a waiting incident is due.
DUE_SINCE = sa.case(
    (INCIDENTS.c.held_by == HoldReason.CONCURRENCY, INCIDENTS.c.opened_at),
    else_=INCIDENTS.c.hold_until,
)


def insert(tx: Transaction, incidents: Sequence[Incident]) -> None:
    """Store new incidents, all or none.

    :raises vmmonitor.model.errors.Conflict: one of the instances or hosts already has an open
        incident; ``lock_open`` or ``lock_open_host`` returns it in a new transaction.
    """
    if not incidents:
        return
    # In one order, so that two engines wait for each other instead of deadlocking.
    ordered = sorted(incidents, key=lambda each: (each.instance.uuid, each.host))
    with unique("The instance already has an open incident on its host"):
        tx.execute(sa.insert(INCIDENTS), [_columns(each) for each in ordered])
    for each in ordered:
        outbox.record_change(tx, None, each, each.updated_at)


def lock_open(tx: Transaction, places: Collection[Place]) -> dict[Place, Incident]:
    """Return the open incidents of instances on hosts, and lock their rows.

    Each transaction that changes an incident or its recovery locks the incident's row first.
    Therefore an event that reports the instance running, and the recovery that waits for it,
    cannot miss each other.

    :param places: (instance uuid, host). An instance may have an open incident on each host.
    """
    found = {}
    # In one order, so that two engines wait for each other instead of deadlocking.
    for chunk in rows.chunks(sorted(_instance_key(*place) for place in places)):
        query = sa.select(INCIDENTS).where(INCIDENTS.c.open_key.in_(chunk))
        query = query.order_by(INCIDENTS.c.open_key).with_for_update()
        for row in tx.execute(query):
            incident = from_row(row)
            found[incident.instance.uuid, incident.host] = incident
    return found


def lock_open_host(tx: Transaction, host: str) -> Incident | None:
    """Return the open incident of a host, and lock its row; None without one."""
    return _lock_open_key(tx, _key(IncidentKind.HOST, host))


def lock_open_storm(tx: Transaction, shared_cause: str) -> Incident | None:
    """Return the open incident of a storm, and lock its row; None without one.

    :param shared_cause: the cause that its members share.
    """
    return _lock_open_key(tx, _key(IncidentKind.STORM, shared_cause))


def _lock_open_key(tx: Transaction, key: str) -> Incident | None:
    query = sa.select(INCIDENTS).where(INCIDENTS.c.open_key == key)
    row = tx.execute(query.with_for_update()).first()
    return None if row is None else from_row(row)


def hosts_with_open_incident(tx: Transaction) -> list[str]:
    """Return the hosts that have an open host incident, sorted."""
    query = sa.select(INCIDENTS.c.host).where(
        INCIDENTS.c.kind == IncidentKind.HOST, INCIDENTS.c.open_key.is_not(None)
    )
    return list(tx.execute(query.order_by(INCIDENTS.c.host)).scalars())


def transition(
    tx: Transaction,
    incident: Incident,
    transition: IncidentTransition,
    *,
    reason: str,
    now: int,
    **changes: Any,
) -> Incident:
    """Change the state of an incident, if no other transaction did so meanwhile.

    :param incident: the incident as it was when the transition was decided.
    :param transition: RUN is a conflict if a newer failure arrived since the instance was seen
        running.
    :param reason: one sentence for the operator.
    :param now: microseconds since the epoch.
    :param changes: new values of other fields (``hold_until``, ``running_at``, ``policy``).
    :return: the incident after the change.
    :raises vmmonitor.model.errors.IllegalTransition: its state does not have this transition.
    :raises vmmonitor.model.errors.Conflict: it was changed meanwhile; read it again.
    """
    state = states.next_state(states.INCIDENT_TRANSITIONS, incident.state, transition)
    changes |= {"state": state, "reason": reason, "updated_at": now}
    if state in states.CLOSED_INCIDENT_STATES:
        changes |= {"closed_at": now, "open_key": None}
    elif incident.closed_at is not None:
        changes |= {"closed_at": None, "open_key": _open_key(incident)}
    if state not in (IncidentState.HELD, IncidentState.SILENCED):
        changes["held_by"] = ""
    if state == IncidentState.UNHANDLED:
        changes["judged_at"] = now
    guards = []
    if transition == IncidentTransition.RUN and incident.running_at is not None:
        guards.append(INCIDENTS.c.running_at.is_not(None))
    with unique("The instance has another open incident on its host"):
        return _update(tx, incident, changes, *guards)


def reschedule(
    tx: Transaction, incident: Incident, hold_until: int, reason: str, now: int, **changes: Any
) -> Incident:
    """Change the ``hold_until`` of a waiting incident, if it was not changed meanwhile.

    :param hold_until: microseconds since the epoch, like ``now``.
    :param changes: new values of other fields (``policy``, ``cause``).
    :return: the incident after the change.
    :raises vmmonitor.model.errors.Conflict: it was changed meanwhile, or is not waiting.
    """
    changes |= {"hold_until": hold_until, "reason": reason, "updated_at": now}
    return _update(
        tx,
        incident,
        changes,
        INCIDENTS.c.state.in_(WAITING),
        INCIDENTS.c.hold_until == incident.hold_until,
    )


def set_reason(tx: Transaction, incident: Incident, reason: str, now: int) -> Incident:
    """Replace the reason of an incident's state.

    :param now: microseconds since the epoch.
    :return: the incident after the change.
    :raises vmmonitor.model.errors.Conflict: its state was changed meanwhile.
    """
    return _update(tx, incident, {"reason": reason, "updated_at": now})


def set_override(tx: Transaction, incident: Incident, author: str, now: int) -> Incident:
    """Note that an operator wants the incident recovered despite limits and silences.

    :param now: microseconds since the epoch.
    :return: the incident after the change.
    :raises vmmonitor.model.errors.Conflict: its state was changed meanwhile.
    """
    return _update(tx, incident, {"override": author, "updated_at": now})


def set_host(tx: Transaction, incident: Incident, host: str, now: int) -> Incident:
    """Replace the host of an open incident whose instance moved.

    :param now: microseconds since the epoch.
    :return: the incident after the change.
    :raises vmmonitor.model.errors.Conflict: its state was changed meanwhile.
    """
    key = _instance_key(incident.instance.uuid, host)
    with unique("The instance already has an open incident on its new host"):
        return _update(tx, incident, {"host": host, "open_key": key, "updated_at": now})


def count_events(
    tx: Transaction,
    incident_id: str,
    count: int,
    running_at: int | None | Keep,
    now: int,
) -> None:
    """Add to the event count of an open incident.

    :param count: the number of further events.
    :param running_at: when the instance was seen running; None if it failed again since; KEEP
        if the events do not change it.
    :param now: microseconds since the epoch.
    :raises vmmonitor.model.errors.Conflict: it is closed or does not exist; call ``lock_open``
        in a new transaction.
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
        raise errors.Conflict("The incident is closed", incident_id=incident_id)


def due(tx: Transaction, now: int, limit: int) -> list[Incident]:
    """Return the waiting incidents that are due: by priority, then by the time since they are due.

    A queued incident is due since it opened, so that newer incidents cannot overtake it.

    :param now: microseconds since the epoch.
    :param limit: maximum number of incidents.
    """
    query = (
        sa.select(INCIDENTS)
        .where(OF_INSTANCE, INCIDENTS.c.state.in_(WAITING), INCIDENTS.c.hold_until <= now)
        .order_by(INCIDENTS.c.priority.desc(), DUE_SINCE, INCIDENTS.c.id)
        .limit(limit)
    )
    return [from_row(row) for row in tx.execute(query)]


def next_due(tx: Transaction, now: int) -> int | None:
    """Return the end of the next hold; None if no incident waits for one.

    :param now: microseconds since the epoch; incidents due by then are left to ``due``.
    """
    query = sa.select(sa.func.min(INCIDENTS.c.hold_until))
    later = query.where(OF_INSTANCE, INCIDENTS.c.state.in_(WAITING), INCIDENTS.c.hold_until > now)
    return tx.execute(later).scalar()


def rebase_after_clock_step(tx: Transaction, now: int) -> int:
    """Restart holds that began in the future, after the engines' clock stepped back.

    :param now: microseconds since the epoch, engines' clock.
    :return: the number of changed incidents.
    """
    later = sa.and_(
        INCIDENTS.c.state.in_(WAITING),
        INCIDENTS.c.updated_at > now,
        INCIDENTS.c.hold_until < UNTIL_RELEASED,
    )
    # The order matters: MySQL evaluates an assignment with the new values of earlier ones.
    changes = {
        INCIDENTS.c.hold_until: INCIDENTS.c.hold_until - INCIDENTS.c.updated_at + now,
        INCIDENTS.c.updated_at: now,
    }
    return tx.execute(sa.update(INCIDENTS).where(later).ordered_values(*changes.items())).rowcount


def instances(tx: Transaction, incident_ids: Collection[str]) -> dict[str, Instance]:
    """Return the instances of these incidents, by incident id."""
    columns = (INCIDENTS.c[name] for name in ("incident_id", *rows.INSTANCE_COLUMNS.values()))
    query = sa.select(*columns)
    return {
        row.incident_id: rows.instance(row._mapping)
        for chunk in rows.chunks(incident_ids)
        for row in tx.execute(query.where(INCIDENTS.c.incident_id.in_(chunk)))
    }


def purge(tx: Transaction, before: int, limit: int) -> int:
    """Delete closed incidents, with their timelines and recoveries, the oldest first.

    :param before: incidents closed earlier are deleted; microseconds since the epoch.
    :param limit: maximum number of incidents to delete in this transaction.
    :return: the number of deleted incidents; fewer than ``limit`` if no more are left.
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
    """Change a row if its state is still that of ``incident``."""
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
    # Read the row again: events may have been attached since ``incident`` was read.
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
        return _instance_key(incident.instance.uuid, incident.host)
    return _key(
        incident.kind,
        incident.host if incident.kind == IncidentKind.HOST else incident.shared_cause,
    )


def _instance_key(instance_uuid: str, host: str) -> str:
    return f"{instance_uuid}|{host}"


def _key(kind: str, name: str) -> str:
    """Return the ``open_key`` of a host or a storm.

    It differs from that of an instance, and has the same length for any name.
    """
    return f"{kind}:{hashlib.sha256(name.encode()).hexdigest()[:56]}"


def from_row(row: sa.Row[Any]) -> Incident:
    """Return the incident of a row."""
    columns = row._mapping
    fields = rows.fields(Incident, columns)
    fields |= {"kind": IncidentKind(row.kind), "state": IncidentState(row.state)}
    return Incident(instance=rows.instance(columns), **fields)


REPOSITORY = Repository(
    table=INCIDENTS,
    key="incident_id",
    from_row=from_row,
    time="opened_at",
    filters=frozenset(
        {
            "state",
            "kind",
            "instance_uuid",
            "host",
            "cause",
            "severity",
            "project_id",
            "policy",
            "held_by",
            "part_of",
        }
    ),
    sort=frozenset({"opened_at", "updated_at", "host"}),
    default=[("opened_at", "desc")],
)
get, lock, page = REPOSITORY.get, REPOSITORY.lock, REPOSITORY.page
