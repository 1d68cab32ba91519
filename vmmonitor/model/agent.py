# SPDX-License-Identifier: Apache-2.0
"""Define the reports of agents, and the agents as the engines store them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.model.clock import HostClock
from vmmonitor.model.states import AgentState

#: States of an agent that cannot detect failures on its host.
UNWATCHED = (AgentState.LATE, AgentState.BLIND)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AgentReport:
    """An agent's report of itself, sent regularly and at every change.

    Times are microseconds since the epoch.

    :param state: an ``AgentState`` other than LATE, which only an engine sets.
    :param reason: why the state is not ``up``; for ``up``, the sources that are not reachable.
    :param sent_at: by the host's clock.
    :param started_at: when the agent's process started, by the host's clock.
    :param spool_depth: number of spooled events without a receipt.
    :param spool_refused: number of events that an engine refused, which the agent quarantined.
    :param filter_checksum: SHA-256 of the filter file in force, in hex.
    :param inventory_digest: digest of the inventory, in hex; the agent sends the difference or the
        whole inventory to an engine that has another one. Empty until the agent reached its host.
    :param figures: counters for operators (dropped per rule, per source ...); JSON values only.
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
    """An agent as the engines store it.

    :param report: the newest report of the agent.
    :param state: the report's state, or ``late``.
    :param seen_at: when that report arrived; microseconds, engines' clock.
    :param clock: the clock of the host, measured from its reports.
    :param unwatched_since: when monitoring of the host stopped, if the state is one of UNWATCHED;
        microseconds, engines' clock.
    """

    report: AgentReport
    state: str
    seen_at: int
    clock: HostClock = HostClock()
    unwatched_since: int | None = None

    @property
    def reason(self) -> str:
        """The reason for the state, for operators; constant while the agent does not report."""
        if self.state != AgentState.LATE:
            return self.report.reason
        before = ": ".join(filter(None, (self.report.state, self.report.reason)))
        return f"does not report any longer; was {before}"
