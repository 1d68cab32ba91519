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

#: Time after the end of an attempt, in seconds. During this time an event of the host may still be
#: an effect of the attempt, for example of a guest that was resumed and paused again at once: the
#: driver's answer can overtake the events. Neither of them alone ends a recovery then.
LATE_EVENT_WINDOW = 2.0


def move(
    tx: Transaction, incident: Incident, name: str, reason: str, now: int, **changes: Any
) -> Incident:
    """Change the state of an incident, and add the change to its timeline.

    :param name: an ``IncidentTransition``.
    :param reason: one sentence for the operator.
    :param now: microseconds since the epoch, engines' clock.
    :param changes: as for ``db.incidents.transition``.
    :raises vmmonitor.model.errors.Conflict: the incident has changed in the meantime.
    """
    changed = incidents.transition(
        tx, incident, IncidentTransition(name), reason=reason, now=now, **changes
    )
    data = {"before": incident.state, "after": changed.state, "reason": reason}
    message = f"{incident.state} -> {changed.state}: {reason}"
    note(tx, changed, now, TimelineKind.STATE, message, **data)
    return changed


def move_recovery(
    tx: Transaction,
    recovery: Recovery,
    name: str,
    message: str,
    now: int,
    data: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Recovery:
    """Change the state of a recovery, and add the change to the timeline of its incident.

    :param name: a ``RecoveryTransition``.
    :param message: one sentence for the operator.
    :param now: microseconds since the epoch, engines' clock.
    :param data: further data of the timeline entry.
    :param changes: as for ``db.recoveries.transition``.
    :raises vmmonitor.model.errors.Conflict: the recovery has changed in the meantime.
    """
    changed = recoveries.transition(
        tx, recovery, RecoveryTransition(name), now=now, message=message, **changes
    )
    entry_data = {
        "recovery_id": recovery.recovery_id,
        "state": changed.state,
        "said": message,
        **(data or {}),
    }
    entry_message = f"{recovery.driver}, attempt {recovery.attempt}: {message}"
    note(tx, recovery, now, TimelineKind.RECOVERY, entry_message, **entry_data)
    return changed


def note(
    tx: Transaction, subject: Incident | Recovery, now: int, kind: str, message: str, **data: Any
) -> None:
    """Add an entry to an incident's timeline.

    :param subject: the incident, or a recovery of it.
    :param now: microseconds since the epoch, engines' clock.
    :param kind: a ``TimelineKind``.
    """
    entry = TimelineEntry(
        incident_id=subject.incident_id,
        at=now,
        kind=TimelineKind(kind),
        message=message,
        data=data,
    )
    timeline_entries.insert(tx, [entry])
