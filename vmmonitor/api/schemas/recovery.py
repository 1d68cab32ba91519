# SPDX-License-Identifier: Apache-2.0
"""Query strings of recoveries."""

from vmmonitor.api.schemas import listing
from vmmonitor.model import states

INDEX = listing.of(
    filters={
        "state": listing.one_of(tuple(states.RECOVERY_TRANSITIONS)),
        "driver": listing.TEXT,
        "instance_uuid": listing.UUID_SCHEMA,
        "host": listing.TEXT,
        "incident_id": listing.TEXT,
    },
    sort_keys=("created_at",),
)
