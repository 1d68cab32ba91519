# SPDX-License-Identifier: Apache-2.0
"""Query strings of agents."""

from vmmonitor.api.schemas import listing
from vmmonitor.model.states import AgentState

INDEX = listing.of(
    filters={"state": listing.one_of(list(AgentState)), "host": listing.TEXT},
    sort_keys=("host", "state", "seen_at"),
    times=False,
)
