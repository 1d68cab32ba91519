# SPDX-License-Identifier: Apache-2.0
"""Reports the health of the agent and its inventory to the engine, regularly and on changes."""

import logging
import threading
import time
from collections.abc import Callable

from oslo_config import cfg
from oslo_log import log

from vmmonitor import version
from vmmonitor.agent.event_filter import EventFilter
from vmmonitor.agent.evidence.collector import EvidenceCollector
from vmmonitor.agent.health import HealthAssessor, HealthState
from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.inventory_sync import InventorySync
from vmmonitor.agent.machine import read_identity
from vmmonitor.agent.pipeline import Pipeline
from vmmonitor.agent.signals import AgentClock
from vmmonitor.agent.spool import Spool
from vmmonitor.model.agent import AgentReport
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.model.states import AgentState
from vmmonitor.periodic import PeriodicThread
from vmmonitor.rpc.engine_api import EngineAPI

LOG = log.getLogger(__name__)

#: Delay, in seconds, until a report that no engine accepted is repeated.
REPORT_RETRY_DELAY = 2.0
#: Minimum interval of messages, in seconds. Changes within it are sent together.
MIN_REPORT_INTERVAL = 0.3


class Reporter:
    """Sends reports from one thread.

    A report is sent every ``[agent] report_interval`` and at once when the health changes. Between
    reports, changes of the inventory are sent by themselves.
    """

    def __init__(
        self,
        *,
        conf: cfg.ConfigOpts,
        pipeline: Pipeline,
        event_filter: EventFilter,
        health: HealthAssessor,
        inventory: Inventory,
        inventory_sync: InventorySync,
        spool: Spool,
        evidence: EvidenceCollector,
        engine: EngineAPI,
        now: AgentClock,
    ):
        """Store the collaborators; start no thread."""
        self._conf = conf
        self._pipeline = pipeline
        self._event_filter = event_filter
        self._health = health
        self._inventory = inventory
        self._inventory_sync = inventory_sync
        self._spool = spool
        self._evidence = evidence
        self._engine = engine
        self._now = now
        self._started_at = now()
        self._machine = read_identity(conf.agent.machine_id_file, conf.agent.boot_id_file)
        self._reported: HealthState | None = None
        self._engine_answers = True
        self._due = 0.0
        self._stopping = threading.Event()
        self._final_report_sent = threading.Event()
        self._thread = PeriodicThread(
            "reporter", self._work, lambda: max(0.0, self._due - time.monotonic())
        )

    def start(self) -> None:
        """Start the thread, which sends a report at once."""
        self._thread.wake()
        self._thread.start()

    def wake(self) -> None:
        """Send a report now."""
        self._due = 0.0
        self._thread.wake()

    def check_status(self) -> None:
        """Send a report now if the health has changed, or the changes of the inventory."""
        if self.assess_health().differs_from(self._reported):
            self.wake()
        elif self._inventory_sync.has_changes():
            self._thread.wake()

    def stop(self, timeout: float) -> None:
        """Report that the agent was stopped, then end the thread.

        :param timeout: maximum duration, in seconds.
        """
        deadline = time.monotonic() + timeout
        self._stopping.set()
        self.wake()
        self._final_report_sent.wait(timeout)
        self._thread.stop(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        final = self._stopping.is_set()
        try:
            if final or time.monotonic() >= self._due:
                self._due = time.monotonic() + self._conf.agent.report_interval
                self.send_report()
            else:
                self._isolate_errors(self._inventory_sync.send_changes)
        finally:
            if final:
                self._final_report_sent.set()
            self._stopping.wait(min(MIN_REPORT_INTERVAL, self._conf.agent.report_interval))

    def send_report(self) -> None:
        """Send one report; it is repeated soon if no engine accepts it."""
        self._isolate_errors(self._send_report)

    def _isolate_errors(self, send: Callable[[], None]) -> None:
        try:
            send()
            self._engine_answers = True
        except VmmonitorError as error:
            level = logging.WARNING if self._engine_answers else logging.DEBUG
            LOG.log(level, "No engine accepted the report of this agent, retrying: %s", error)
            self._engine_answers = False
            self._due = min(self._due, time.monotonic() + REPORT_RETRY_DELAY)

    def _send_report(self) -> None:
        self._pipeline.forget(self._now() - self._conf.agent.forget_after * 1_000_000)
        health = self.assess_health()
        report = self.build_report(health)
        self._reported = health
        held = self._engine.report_agent(report, self._conf.forwarder.reply_timeout)
        if report.inventory_digest:
            self._inventory_sync.resync(held)

    def assess_health(self) -> HealthState:
        """Return the health of the agent, ``stopped`` included."""
        if self._stopping.is_set():
            return HealthState(AgentState.STOPPED, "stopped on purpose")
        return self._health.assess()

    def build_report(self, health: HealthState) -> AgentReport:
        """Return the report of the agent as it is now."""
        return AgentReport(
            host=self._conf.host,
            state=health.state,
            reason=health.reason,
            version=version.version_info.version_string(),
            sent_at=self._now(),
            started_at=self._started_at,
            interval=self._conf.agent.report_interval,
            spool_depth=self._spool.depth,
            spool_refused=self._spool.refused_count,
            last_event_at=self._event_filter.last_event_at,
            filter_checksum=self._event_filter.filters.checksum,
            # Before the first listing, the inventory is that of an earlier run of the agent.
            inventory_digest=self._inventory.snapshot().digest if self._inventory.listed else "",
            instances=len(self._inventory),
            machine_id=self._machine.machine_id,
            boot_id=self._machine.boot_id,
            figures={
                "dropped": dict(self._pipeline.dropped),
                "overflowed": self._spool.overflowed,
                "evidence_lost": self._evidence.figures(),
                "spools_set_aside": list(self._spool.set_aside),
            },
        )
