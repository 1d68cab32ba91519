# SPDX-License-Identifier: Apache-2.0
"""Query strings of incidents."""

from vmmonitor.api.schemas import common
from vmmonitor.model import states

INDEX = common.listing(
    filters={
        "state": common.one_of(tuple(states.INCIDENT)),
        "instance_uuid": common.UUID,
        "host": common.TEXT,
        "cause": common.TEXT,
        "severity": common.SEVERITY,
        "project_id": common.TEXT,
        "policy": common.TEXT,
    },
    sort_keys=("opened_at", "updated_at", "host"),
)
#: Whether the incident is not over; stands for several states.
INDEX["properties"]["open"] = common.once(common.one_of(("true", "false")))
