# SPDX-License-Identifier: Apache-2.0
"""Query strings of incidents."""

from vmmonitor.api.schemas import listing
from vmmonitor.model import states
from vmmonitor.model.incident import HoldReason, IncidentKind

#: Reasons of a hold or a silence.
HELD_BY = (
    HoldReason.UNKNOWN,
    HoldReason.SILENCE,
    HoldReason.MAINTENANCE,
    HoldReason.STORM,
    HoldReason.BUDGET,
    HoldReason.FLAPPING,
    HoldReason.CONCURRENCY,
    HoldReason.OPERATOR,
)

INDEX = listing.of(
    filters={
        "state": listing.one_of(tuple(states.INCIDENT_TRANSITIONS)),
        "kind": listing.one_of(list(IncidentKind)),
        "instance_uuid": listing.UUID_SCHEMA,
        "host": listing.TEXT,
        "cause": listing.TEXT,
        "severity": listing.SEVERITY,
        "project_id": listing.TEXT,
        "policy": listing.TEXT,
        "held_by": listing.one_of(HELD_BY),
        "part_of": listing.UUID_SCHEMA,
    },
    sort_keys=("opened_at", "updated_at", "host"),
)
#: Each of these filters stands for several states.
INDEX["properties"]["open"] = listing.once(listing.one_of(("true", "false")))
INDEX["properties"]["ignored"] = INDEX["properties"]["open"]
