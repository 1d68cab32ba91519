# SPDX-License-Identifier: Apache-2.0
"""Define the reports of agents, and the agents as the engines store them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vmmonitor.model.clock import SECOND, HostClock
from vmmonitor.model.states import AgentState

#: States of an agent that cannot detect failures on its host.
UNWATCHED = (AgentState.LATE, AgentState.BLIND)
#: States of an agent that observes its host.
WATCHING = (AgentState.UP, AgentState.BEHIND)
#: Minimum time, in seconds, without a report until one of two machines with one name is gone.
MIN_TURN_WINDOW = 60.0
#: Maximum of ``turn_window``: a report interval is at most a day; in microseconds.
MAX_TURN_WINDOW = 3 * 86400 * SECOND


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
    :param machine_id: identity of the operating system (``/etc/machine-id``); empty if unknown.
    :param boot_id: identity of its current run, from the kernel; empty if unknown.
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
    machine_id: str = ""
    boot_id: str = ""
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
    :param identities: the machines that report under the name of this host.
    :param conflict: what contradicts the agent, for operators; empty without a contradiction.
    """

    report: AgentReport
    state: str
    seen_at: int
    clock: HostClock = HostClock()
    unwatched_since: int | None = None
    identities: "Identities" = dataclasses.field(default_factory=lambda: Identities())
    conflict: str = ""

    @property
    def reason(self) -> str:
        """The reason for the state, for operators; constant while the agent does not report."""
        if self.state != AgentState.LATE:
            return self.report.reason
        before = ": ".join(filter(None, (self.report.state, self.report.reason)))
        return f"does not report any longer; was {before}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Identities:
    """The machines whose agents report under the name of one host.

    A machine is identified by its machine id and boot id. A restart of the host, or a new machine
    with the name of an old one, changes the identity once. Two machines with one name take turns.

    :param current: identity of the machine that reported last.
    :param other: identity of the machine before it; empty if there was none.
    :param other_seen_at: when the other one last reported; microseconds, engines' clock.
    :param contended_at: when the two last took turns; None if they never did.
    """

    current: str = ""
    other: str = ""
    other_seen_at: int = 0
    contended_at: int | None = None

    def after(self, report: AgentReport, last_seen_at: int, now: int) -> "Identities":
        """Return the identities after a further report.

        :param last_seen_at: when the report before it arrived; microseconds, engines' clock.
        """
        reported = identity(report.machine_id, report.boot_id)
        if not reported or reported == self.current:
            return self
        returns = reported == self.other and now - self.other_seen_at <= turn_window(report)
        return Identities(
            current=reported,
            other=self.current,
            other_seen_at=last_seen_at,
            contended_at=now if returns else self.contended_at,
        )

    def is_contended(self, report: AgentReport, now: int) -> bool:
        """Return whether two machines report under the name now.

        It ends when one of them has not reported for some time.
        """
        return self.contended_at is not None and now - self.contended_at <= turn_window(report)


def identity(machine_id: str, boot_id: str) -> str:
    """Return the identity of a machine; empty if it is unknown."""
    return f"{machine_id} {boot_id}" if machine_id or boot_id else ""


def turn_window(report: AgentReport) -> int:
    """Return the maximum time between reports of two machines with one name, in microseconds."""
    return round(max(MIN_TURN_WINDOW, 3 * report.interval) * SECOND)
