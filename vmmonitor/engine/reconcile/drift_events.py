# SPDX-License-Identifier: Apache-2.0
"""The records of drifts and the events that report them. Pure.

The id of an event follows from the record, so engines that report the same drift store one event.
"""

import uuid

from vmmonitor.model.drift import Drift, DriftRecord
from vmmonitor.model.event import AGREES_AGAIN, RECONCILE_SOURCE, RawEvent

#: Namespace of the ids of events. Must never change.
NAMESPACE = uuid.UUID("5f1d9a3e-6f0b-4c7e-9d57-2f6f5f1b8a10")


def new_record(found: Drift, now: int) -> DriftRecord:
    """Return the record of a drift that is found for the first time."""
    return DriftRecord(
        instance=found.instance,
        host=found.host,
        hosts=found.hosts,
        key=found.key,
        first_seen_at=now,
        last_seen_at=now,
    )


def drift_event(found: Drift, record: DriftRecord) -> RawEvent:
    """Return the event that reports a drift."""
    return RawEvent(
        source=RECONCILE_SOURCE,
        type=found.type,
        detail=found.detail,
        occurred_at=record.first_seen_at,
        instance=found.instance,
        attributes={"hosts": list(found.hosts), **found.facts},
        host=found.host,
        event_id=_event_id(f"{record.instance.uuid} {record.key} {record.first_seen_at}"),
    )


def end_event(reported: DriftRecord, now: int) -> RawEvent:
    """Return the event that reports the end of a drift.

    :param reported: the record of the drift, with the id of the event that reported it.
    """
    return RawEvent(
        source=RECONCILE_SOURCE,
        type=AGREES_AGAIN,
        detail=reported.reported_key.partition(" ")[0].removeprefix("reconcile."),
        occurred_at=now,
        instance=reported.instance,
        attributes={"hosts": list(reported.hosts), "reported_by": reported.event_id},
        host=reported.host,
        event_id=_event_id(f"{reported.event_id} over"),
    )


def _event_id(text: str) -> str:
    return str(uuid.uuid5(NAMESPACE, text))
