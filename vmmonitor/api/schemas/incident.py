# SPDX-License-Identifier: Apache-2.0
"""Query strings of incidents."""

from vmmonitor.api.schemas import listing
from vmmonitor.model import states

INDEX = listing.of(
    filters={
        "state": listing.one_of(tuple(states.INCIDENT)),
        "instance_uuid": listing.UUID,
        "host": listing.TEXT,
        "cause": listing.TEXT,
        "severity": listing.SEVERITY,
        "project_id": listing.TEXT,
        "policy": listing.TEXT,
    },
    sort_keys=("opened_at", "updated_at", "host"),
)
#: Whether the incident is not over, and whether it was ignored; each stands for several states.
INDEX["properties"]["open"] = listing.once(listing.one_of(("true", "false")))
INDEX["properties"]["ignored"] = INDEX["properties"]["open"]
