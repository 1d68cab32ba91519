# SPDX-License-Identifier: Apache-2.0
"""Whether every host is watched: marks silent agents, and opens an incident of a host whose agent
is late or blind for too long.

An engine judges no agent before it has worked itself, without a break, for as long as it grants to
the agent: after all engines, the database or the bus were away, every agent looks silent that had
no chance to report. A clock that was set counts as a break.
"""

import uuid
from collections.abc import Callable

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import agents, clock, incidents, recoveries
from vmmonitor.db.session import Database, Transaction
from vmmonitor.engine.clock_steps import ClockStepDetector
from vmmonitor.engine.incidents.transitions import move, note
from vmmonitor.model.agent import UNWATCHED, Agent
from vmmonitor.model.clock import SECOND, told
from vmmonitor.model.errors import Conflict
from vmmonitor.model.event import CRITICAL
from vmmonitor.model.incident import Incident, IncidentKind
from vmmonitor.model.instance import Instance
from vmmonitor.model.states import AgentState, IncidentState

LOG = log.getLogger(__name__)

#: Seconds without a round after which an engine has not worked.
BREAK = 10.0
#: By which a clock's offset must fall below the mark before a new warning is due.
AGAIN = 0.9


class AgentHealth:
    """One round a second, in every engine; any number of them at once do no harm."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        ticks: Callable[[], int] = clock.monotonic,
    ):
        """Keep the parts; start nothing.

        :param ticks: returns microseconds of a clock that nobody sets.
        """
        self._conf = conf
        self._database = database
        self._clock_steps = ClockStepDetector(ticks)
        #: By the engines' clock: since when this engine has worked.
        self._working_since = 0
        #: Whether the last round came to its end.
        self._worked = False
        self._warned: set[str] = set()

    def round(self) -> None:
        """Do what is due.

        :raises vmmonitor.model.errors.Retriable: the database is away.
        """
        now = self._database.now()
        worked, self._worked = self._worked, False
        self._look_at_the_clock(now, worked)
        self._mark_late(now)
        self._look_at_hosts(now)
        self._look_at_their_clocks()
        self._worked = True

    # -- this engine -----------------------------------------------------------------------------
    def _look_at_the_clock(self, now: int, worked: bool) -> None:
        looked = self._clock_steps.check(now)
        if worked and looked and looked[0] <= BREAK * SECOND and not looked[1]:
            return
        self._working_since = now
        if looked and looked[1]:
            LOG.warning("The engines' clock leapt by %.1f s", looked[1] / SECOND)
        for noun in (agents, incidents, recoveries):
            if count := self._database.run(noun.put_right, now):
                name = noun.__name__.rpartition(".")[2]
                LOG.warning("The engines' clock was put back: %d %s start over", count, name)

    # -- agents ----------------------------------------------------------------------------------
    def _mark_late(self, now: int) -> None:
        factor = self._conf.housekeeping.late_after
        for host in self._database.run(agents.mark_late, now, factor, self._working_since):
            LOG.warning("The agent of host %s is late: its instances are unwatched", host)

    def _look_at_their_clocks(self) -> None:
        mark = round(self._conf.housekeeping.clock_warn * SECOND)
        with self._database.reader() as tx:
            off = agents.clocks(tx, round(mark * AGAIN))
        for host, offset in sorted(off.items()):
            if abs(offset) > mark and host not in self._warned:
                LOG.warning("The clock of host %s is wrong: %s", host, told(offset))
                self._warned.add(host)
        self._warned &= set(off)

    # -- hosts -----------------------------------------------------------------------------------
    def _look_at_hosts(self, now: int) -> None:
        """Open, continue and close the incidents of hosts."""
        grace = round(self._conf.housekeeping.unwatched_after * SECOND)
        with self._database.reader() as tx:
            concerned = set(incidents.hosts(tx))
            if now - self._working_since > grace:
                concerned.update(agents.unwatched(tx, now - grace))
        for host in sorted(concerned):
            try:
                self._database.run(self._judge, host, grace)
            except Conflict as error:
                LOG.debug("Another engine was faster with host %s: %s", host, error)

    def _judge(self, tx: Transaction, host: str, grace: int) -> None:
        """Make a host's incident say what its agent is, whose row is locked meanwhile."""
        agent = agents.lock(tx, host)
        incident = incidents.open_for_host(tx, host)
        now = self._database.now()
        if agent is None or agent.state not in UNWATCHED:
            if incident is not None:
                self._close(tx, incident, agent, now)
        elif incident is None:
            if now - _since(agent) > grace:
                self._open(tx, agent, now)
        elif incident.reason != (why := _why(agent)):
            note(tx, incident, now, "decision", why, cause=f"agent.{agent.state}")
            incidents.reword(tx, incident, why, now)

    def _open(self, tx: Transaction, agent: Agent, now: int) -> None:
        host, since, why = agent.report.host, _since(agent), _why(agent)
        incident = Incident(
            incident_id=str(uuid.uuid4()),
            kind=IncidentKind.HOST,
            instance=Instance(uuid=""),
            host=host,
            cause=f"agent.{agent.state}",
            severity=CRITICAL,
            state=IncidentState.PENDING,
            reason=why,
            policy="",
            opened_at=since,
            hold_until=now,
            updated_at=now,
            event_count=0,
        )
        incidents.insert(tx, [incident])
        message = f"unwatched for {(now - since) / SECOND:,.0f} s: {why}"
        note(tx, incident, now, "decision", message, cause=incident.cause)
        move(tx, incident, "leave", why, now)
        LOG.warning("Host %s is unwatched: %s", host, why)

    def _close(self, tx: Transaction, incident: Incident, agent: Agent | None, now: int) -> None:
        after = f"after {(now - incident.opened_at) / SECOND:,.0f} s"
        if agent is None:
            reason = f"nobody expects the host's agent any more, {after}"
        elif agent.state == AgentState.STOPPED:
            reason = f"the agent was stopped on purpose, {after}"
        else:
            reason = f"the host is watched again, {after}: its agent is {agent.state}"
        move(tx, incident, "run", reason, now)
        LOG.info("Host %s: %s", incident.host, reason)


def _since(agent: Agent) -> int:
    return agent.seen_at if agent.unwatched_since is None else agent.unwatched_since


def _why(agent: Agent) -> str:
    """Return why a host is not watched; it changes only when that does."""
    return f"the agent is {agent.state}: {agent.reason}"
