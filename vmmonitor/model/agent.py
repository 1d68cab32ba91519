# SPDX-License-Identifier: Apache-2.0
"""What an agent says of itself."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.model.clock import HostClock
from vmmonitor.model.states import AgentState

#: The states in which failures on the host stay undetected.
UNWATCHED = (AgentState.LATE, AgentState.BLIND)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AgentReport:
    """An agent's word of itself, sent regularly and at every change.

    All times are microseconds since the epoch.

    :param state: one of ``states.AGENT``, except late, which only an engine can tell.
    :param reason: why it is not ``up``; if it is, which of its sources sees nothing.
    :param sent_at: by the host's clock.
    :param started_at: when the agent's process started, by the host's clock.
    :param spool_depth: events that are spooled and not yet acknowledged.
    :param spool_refused: events that the engine refused and the agent set aside.
    :param filter_checksum: SHA-256 of the filter file in force, in hex.
    :param inventory_digest: digest of the inventory, in hex; an engine that holds another one is
        told what is missing, or the whole. Empty until the agent has seen its host.
    :param figures: counters for a person (dropped per rule, per source ...); JSON values only.
    """

    host: str
    state: str
    reason: str
    version: str
    sent_at: int
    started_at: int
    interval: float
    spool_depth: int
    spool_refused: int
    last_event_at: int
    filter_checksum: str
    inventory_digest: str
    instances: int
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """An agent as the engine knows it.

    :param report: its newest report.
    :param state: the report's state, or ``late``.
    :param seen_at: when that report arrived; microseconds, engines' clock.
    :param clock: what its reports tell of the host's clock.
    :param unwatched_since: when the host was last watched, if the state is one of UNWATCHED;
        microseconds, engines' clock.
    """

    report: AgentReport
    state: str
    seen_at: int
    clock: HostClock = HostClock()
    unwatched_since: int | None = None

    @property
    def reason(self) -> str:
        """Why it is in its state, for a person; it changes only when that does."""
        if self.state != AgentState.LATE:
            return self.report.reason
        before = ": ".join(filter(None, (self.report.state, self.report.reason)))
        return f"does not report any more; was {before}"
