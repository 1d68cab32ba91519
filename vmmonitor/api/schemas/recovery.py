# SPDX-License-Identifier: Apache-2.0
"""Query strings of recoveries."""

from vmmonitor.api.schemas import common
from vmmonitor.model import states

INDEX = common.listing(
    filters={
        "state": common.one_of(tuple(states.RECOVERY)),
        "driver": common.TEXT,
        "instance_uuid": common.UUID,
        "host": common.TEXT,
        "incident_id": common.TEXT,
    },
    sort_keys=("created_at",),
)
