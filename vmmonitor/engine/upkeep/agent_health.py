# SPDX-License-Identifier: Apache-2.0
"""Checks the agents: marks silent ones as late, and opens and closes the incidents of hosts.

An engine judges an agent only after it has itself run without a break for the time that the agent
has: after an outage of all engines, of the database or of the message bus, all agents look silent
because none of them could report. A clock step counts as a break.
"""

from collections.abc import Callable

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import agents, clock, incidents, recoveries
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.clock_steps import ClockStepDetector
from vmmonitor.engine.upkeep import host_incidents
from vmmonitor.model.agent import MAX_TURN_WINDOW
from vmmonitor.model.clock import SECOND, told
from vmmonitor.model.errors import Conflict
from vmmonitor.periodic import PeriodicThread

LOG = log.getLogger(__name__)

#: Maximum interval of the checks, in seconds.
_INTERVAL = 1.0
#: Time without a check that counts as a break of this engine, in seconds.
BREAK = 10.0
#: Fraction of ``clock_warn`` below which a clock offset must fall before the next warning.
REARM_FACTOR = 0.9


class AgentHealth:
    """Checks all agents every second. Each engine does; simultaneous checks do not conflict."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        ticks: Callable[[], int] = clock.monotonic,
    ):
        """Create the thread; ``start`` starts it.

        :param ticks: returns the time of a monotonic clock, in microseconds.
        """
        self._conf = conf
        self._database = database
        self._clock_steps = ClockStepDetector(ticks)
        #: Engines' clock since when this engine has run without a break.
        self._running_since = 0
        self._last_check_completed = False
        #: Hosts whose clock offset was logged.
        self._warned: set[str] = set()
        self._thread = PeriodicThread(
            "agent-health",
            self.check,
            lambda: min(_INTERVAL, conf.housekeeping.interval),
            failure="Agent health check failed",
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop after the transaction in progress.

        :param timeout: maximum time to wait for it, in seconds.
        """
        self._thread.stop(timeout)

    def check(self) -> None:
        """Check this engine's clock, then all agents, hosts and host clocks.

        :raises vmmonitor.model.errors.Retriable: the database is not available.
        """
        now = self._database.now()
        completed, self._last_check_completed = self._last_check_completed, False
        self._check_engine_clock(now, completed)
        self._mark_late_agents(now)
        self._update_host_incidents(now)
        self._check_host_clocks()
        self._last_check_completed = True

    def _check_engine_clock(self, now: int, last_check_completed: bool) -> None:
        """After a break or a clock step, start to count the time of this engine again."""
        since_last = self._clock_steps.check(now)
        passed, step = since_last or (0, 0)
        if last_check_completed and since_last and passed <= BREAK * SECOND and not step:
            return
        self._running_since = now
        if step:
            LOG.warning("System clock stepped by %.1f s", step / SECOND)
        for table in (agents, incidents, recoveries):
            if count := self._database.run(table.rebase_after_clock_step, now):
                name = table.__name__.rpartition(".")[2]
                LOG.warning("System clock stepped backwards; rescheduled %d %s", count, name)

    def _mark_late_agents(self, now: int) -> None:
        factor = self._conf.housekeeping.late_after
        for host in self._database.run(agents.mark_late, now, factor, self._running_since):
            LOG.warning("Agent of host %s is late; its instances are not monitored", host)

    def _update_host_incidents(self, now: int) -> None:
        grace = round(self._conf.housekeeping.unwatched_after * SECOND)
        with self._database.reader() as tx:
            hosts = set(incidents.hosts_with_open_incident(tx))
            if now - self._running_since > grace:
                hosts.update(agents.unwatched_hosts(tx, now - grace))
            hosts.update(_contended_hosts(tx, now))
        for host in sorted(hosts):
            try:
                self._database.run(host_incidents.update, host, grace, self._database.now)
            except Conflict as error:
                LOG.debug("Another engine updated the incident of host %s: %s", host, error)

    def _check_host_clocks(self) -> None:
        limit = round(self._conf.housekeeping.clock_warn * SECOND)
        with self._database.reader() as tx:
            offsets = agents.clock_offsets_beyond(tx, round(limit * REARM_FACTOR))
        for host, offset in sorted(offsets.items()):
            if abs(offset) > limit and host not in self._warned:
                LOG.warning(
                    "Clock offset of host %s exceeds [housekeeping] clock_warn: %s",
                    host,
                    told(offset),
                )
                self._warned.add(host)
        self._warned &= set(offsets)


def _contended_hosts(tx: Transaction, now: int) -> list[str]:
    return [
        agent.report.host
        for agent in agents.contended(tx, now - MAX_TURN_WINDOW)
        if agent.identities.is_contended(agent.report, now)
    ]
