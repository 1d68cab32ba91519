# SPDX-License-Identifier: Apache-2.0
"""Changes the state of incidents and recoveries, and adds each change to the timeline.

Every state change of an incident or a recovery passes through this module. The caller holds the
lock of the incident's row (``db.incidents.lock_open`` or ``lock``), and locks a recovery's row
only after it.
"""

from collections.abc import Mapping
from typing import Any

from vmmonitor.db import incidents, recoveries, timeline_entries
from vmmonitor.db.session import Transaction
from vmmonitor.model.incident import Incident
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import IncidentTransition, RecoveryTransition
from vmmonitor.model.timeline import TimelineEntry, TimelineKind

#: Time after the end of an attempt, in seconds, in which events of the host may still report what
#: that attempt did: a driver's answer can overtake the events of a guest that was resumed and
#: paused again at once. Within this time neither the one nor the other ends a recovery.
LATE_EVENT_WINDOW = 2.0


def move(
    tx: Transaction, incident: Incident, name: str, reason: str, now: int, **changes: Any
) -> Incident:
    """Take an incident to another state and say so in its timeline. The only door.

    :param name: an ``IncidentTransition``.
    :param reason: one sentence for a person.
    :param now: microseconds since the epoch, engines' clock.
    :param changes: as for ``db.incidents.transition``.
    :raises vmmonitor.model.errors.Conflict: it was changed meanwhile.
    """
    transition = IncidentTransition(name)
    moved = incidents.transition(tx, incident, transition, reason=reason, now=now, **changes)
    told = {"before": incident.state, "after": moved.state, "reason": reason}
    note(tx, moved, now, "state", f"{incident.state} -> {moved.state}: {reason}", **told)
    return moved


def move_recovery(
    tx: Transaction,
    recovery: Recovery,
    name: str,
    message: str,
    now: int,
    told: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Recovery:
    """Take a recovery to another state and say so in its incident's timeline.

    :param name: a ``RecoveryTransition``.
    :param message: one sentence for a person.
    :param now: microseconds since the epoch, engines' clock.
    :param told: what else the data of the line says.
    :param changes: as for ``db.recoveries.transition``.
    :raises vmmonitor.model.errors.Conflict: it was changed meanwhile.
    """
    transition = RecoveryTransition(name)
    moved = recoveries.transition(tx, recovery, transition, now=now, message=message, **changes)
    data = {"recovery_id": recovery.recovery_id, "state": moved.state, "said": message}
    line = f"{recovery.driver}, attempt {recovery.attempt}: {message}"
    note(tx, recovery, now, "recovery", line, **data, **(told or {}))
    return moved


def note(
    tx: Transaction, of: Incident | Recovery, now: int, kind: str, message: str, **data: Any
) -> None:
    """Add a line to an incident's timeline.

    :param of: the incident, or a recovery of it.
    :param now: microseconds since the epoch, engines' clock.
    """
    step = TimelineEntry(
        incident_id=of.incident_id, at=now, kind=TimelineKind(kind), message=message, data=data
    )
    timeline_entries.insert(tx, [step])
