# SPDX-License-Identifier: Apache-2.0
"""Query strings of agents."""

from vmmonitor.api.schemas import listing
from vmmonitor.model import states

INDEX = listing.of(
    filters={"state": listing.one_of(states.AGENT), "host": listing.TEXT},
    sort_keys=("host", "state", "seen_at"),
    times=False,
)
