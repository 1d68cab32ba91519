# SPDX-License-Identifier: Apache-2.0
"""Ends a storm and releases its members."""

from oslo_log import log

from vmmonitor.db import incidents, storms, timeline_entries
from vmmonitor.db.session import Transaction
from vmmonitor.engine.incidents.transitions import move
from vmmonitor.model.incident import Incident
from vmmonitor.model.states import IncidentTransition
from vmmonitor.model.timeline import TimelineEntry, TimelineKind

LOG = log.getLogger(__name__)

#: Cause of a storm whose members share a storage.
STORAGE = "storm.storage"


def end_storm(tx: Transaction, storm: Incident, reason: str, now: int) -> int:
    """End a storm; make its members due, and retry those that failed while a storage failed.

    :param storm: an open storm, whose row is locked by this transaction (``incidents.lock``).
    :param reason: one sentence for the operator.
    :param now: microseconds since the epoch, engines' clock.
    :return: number of released incidents.
    :raises vmmonitor.model.errors.IllegalTransition: the storm is not open.
    """
    move(tx, storm, IncidentTransition.RUN, reason, now)
    message = f"storm {storm.incident_id} is over: {reason}"
    held = storms.release_members(tx, storm.incident_id, now)
    timeline_entries.insert(tx, [_entry(incident_id, message, now) for incident_id in held])
    failed = (
        storms.list_unrecovered_members(tx, storm.incident_id) if storm.cause == STORAGE else []
    )
    for incident_id in failed:
        incident = incidents.lock(tx, incident_id)
        move(tx, incident, IncidentTransition.RETRY, message, now, hold_until=now)
    LOG.warning(
        "Storm %s ended, %d incidents are released and %d retried: %s",
        storm.incident_id,
        len(held),
        len(failed),
        reason,
    )
    return len(held) + len(failed)


def _entry(incident_id: str, message: str, now: int) -> TimelineEntry:
    return TimelineEntry(incident_id=incident_id, at=now, kind=TimelineKind.HOLD, message=message)
