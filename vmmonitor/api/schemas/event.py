# SPDX-License-Identifier: Apache-2.0
"""Query strings of events."""

from vmmonitor.api.schemas import common
from vmmonitor.model import event

INDEX = common.listing(
    filters={
        "host": common.TEXT,
        "instance_uuid": common.UUID,
        "source": common.TEXT,
        "type": common.TEXT,
        "detail": common.TEXT,
        "severity": common.SEVERITY,
        "action": common.one_of(event.ACTIONS),
        "incident_id": common.TEXT,
        "project_id": common.TEXT,
    },
    # "stored" is the order in which events were inserted, which a follower needs.
    sort_keys=("occurred_at", "stored_at", "stored"),
)
