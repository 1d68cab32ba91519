# SPDX-License-Identifier: Apache-2.0
"""The state of the agent, as it is reported to the engine."""

import dataclasses

from oslo_config import cfg

from vmmonitor.agent.forwarder import Forwarder
from vmmonitor.agent.reachability import ReachabilityTracker
from vmmonitor.agent.spool import Spool
from vmmonitor.agent.spool_writer import SpoolWriter
from vmmonitor.model.event import Reachability
from vmmonitor.model.states import AgentState

#: The source without which the agent is blind. The other sources only add to its events.
REQUIRED_SOURCE = "libvirt"


@dataclasses.dataclass(frozen=True, slots=True)
class HealthState:
    """State of an agent, and the reason for it.

    :param reason: empty if everything works. An agent that is ``up`` has a reason if a source
        other than libvirt's is not connected.
    """

    state: str
    reason: str

    def differs_from(self, other: "HealthState | None") -> bool:
        """Return whether a change must be reported at once.

        The reason of an agent that is behind contains the number of waiting events, which changes
        all the time.
        """
        if other is None or self.state != other.state:
            return True
        return self.state != AgentState.BEHIND and self.reason != other.reason


class HealthAssessor:
    """Derives the state of the agent from its parts."""

    def __init__(
        self,
        *,
        conf: cfg.ConfigOpts,
        reachability: ReachabilityTracker,
        spool: Spool,
        spool_writer: SpoolWriter,
        forwarder: Forwarder,
    ):
        """Store the parts."""
        self._conf = conf
        self._reachability = reachability
        self._spool = spool
        self._spool_writer = spool_writer
        self._forwarder = forwarder

    def assess(self) -> HealthState:
        """Return the health of a running agent; the gravest reason wins."""
        reports = dict(self._reachability.reports)
        unreachable = [report for report in reports.values() if not report.reachable]
        required = reports
        if REQUIRED_SOURCE in self._conf.agent.sources:
            required = {name: r for name, r in reports.items() if name == REQUIRED_SOURCE}
        if not required:
            return HealthState(AgentState.BLIND, "no source has connected yet")
        for report in required.values():
            if not report.reachable:
                return HealthState(AgentState.BLIND, _describe(report))
        for source, doubt in self._reachability.doubts.items():
            return HealthState(AgentState.BLIND, f"source {source}: {doubt}")
        if self._spool_writer.trouble:
            return HealthState(AgentState.BEHIND, self._spool_writer.trouble)
        depth, trouble = self._spool.depth, self._forwarder.trouble
        if depth > self._conf.agent.behind_mark or (depth and trouble):
            cause = trouble or "the engine accepts them slowly"
            return HealthState(AgentState.BEHIND, f"{depth} events are spooled: {cause}")
        return HealthState(AgentState.UP, _describe(unreachable[0]) if unreachable else "")


def _describe(report: Reachability) -> str:
    return f"source {report.source}: {report.reason}"
