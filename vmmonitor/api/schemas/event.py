# SPDX-License-Identifier: Apache-2.0
"""Query strings of events."""

from vmmonitor.api.schemas import listing
from vmmonitor.model import event

INDEX = listing.of(
    filters={
        "host": listing.TEXT,
        "instance_uuid": listing.UUID_SCHEMA,
        "source": listing.TEXT,
        "type": listing.TEXT,
        "detail": listing.TEXT,
        "severity": listing.SEVERITY,
        "action": listing.one_of(event.ACTIONS),
        "incident_id": listing.TEXT,
        "project_id": listing.TEXT,
    },
    # "stored" is the order of insertion, for clients that follow the events.
    sort_keys=("occurred_at", "stored_at", "stored"),
)
