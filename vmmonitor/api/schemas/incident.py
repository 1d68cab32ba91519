# SPDX-License-Identifier: Apache-2.0
"""Query strings of incidents."""

from vmmonitor.api.schemas import listing
from vmmonitor.model import incident, states

#: Why an incident may be held or silenced.
HELD_BY = (
    incident.BY_UNKNOWN,
    incident.BY_SILENCE,
    incident.BY_MAINTENANCE,
    incident.BY_STORM,
    incident.BY_BUDGET,
    incident.BY_FLAPPING,
    incident.BY_TURN,
    incident.BY_OPERATOR,
)

INDEX = listing.of(
    filters={
        "state": listing.one_of(tuple(states.INCIDENT)),
        "kind": listing.one_of(incident.KINDS),
        "instance_uuid": listing.UUID,
        "host": listing.TEXT,
        "cause": listing.TEXT,
        "severity": listing.SEVERITY,
        "project_id": listing.TEXT,
        "policy": listing.TEXT,
        "held_by": listing.one_of(HELD_BY),
        "part_of": listing.UUID,
    },
    sort_keys=("opened_at", "updated_at", "host"),
)
#: Whether the incident is not over, and whether it was ignored; each stands for several states.
INDEX["properties"]["open"] = listing.once(listing.one_of(("true", "false")))
INDEX["properties"]["ignored"] = INDEX["properties"]["open"]
