# SPDX-License-Identifier: Apache-2.0
"""Query strings of agents."""

from vmmonitor.api.schemas import common
from vmmonitor.model import states

INDEX = common.listing(
    filters={"state": common.one_of(states.AGENT), "host": common.TEXT},
    sort_keys=("host", "state", "seen_at"),
    times=False,
)
