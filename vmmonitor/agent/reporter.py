# SPDX-License-Identifier: Apache-2.0
"""Tells the engine how the agent is: regularly, and at once when that changes."""

import threading
from collections.abc import Callable

from oslo_config import cfg
from oslo_log import log

from vmmonitor import version
from vmmonitor.agent.forwarder import Forwarder
from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.pipeline import Pipeline
from vmmonitor.agent.spool import Spool
from vmmonitor.model import states
from vmmonitor.model.agent import AgentReport
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.rpc.engine_api import EngineAPI

LOG = log.getLogger(__name__)

#: Seconds after which a report that nobody took is made again.
AGAIN = 2.0


class Reporter:
    """Reports the agent's state, and its inventory where the engine holds another one."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        pipeline: Pipeline,
        forwarder: Forwarder,
        inventory: Inventory,
        spool: Spool,
        engine: EngineAPI,
        now: Callable[[], int],
    ):
        """Keep the parts; start nothing.

        :param now: microseconds since the epoch.
        """
        self._conf = conf
        self._pipeline = pipeline
        self._forwarder = forwarder
        self._inventory = inventory
        self._spool = spool
        self._engine = engine
        self._now = now
        self._started_at = now()
        self._last_word = ("", "")
        self._interval = conf.agent.report_interval
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Start the thread; it reports at once."""
        self._thread.start()

    def wake(self) -> None:
        """Report now."""
        self._wake.set()

    def look(self) -> None:
        """Report now if the agent is not as it was last reported; more of the same can wait."""
        if _word(*self.state()) != self._last_word:
            self._wake.set()

    def stop(self, timeout: float) -> None:
        """Report that the agent was stopped on purpose, then end; at most ``timeout`` seconds."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            self.tell()
            self._wake.wait(self._interval)
        self.tell()

    def tell(self) -> None:
        """Report once; an engine that was away gets another report soon."""
        try:
            self._interval = self._conf.agent.report_interval
            self._pipeline.forget(self._now() - self._conf.agent.forget_after * 1_000_000)
            self._report()
        except VmmonitorError as error:
            LOG.debug("No engine took the agent's report: %s", error)
            self._interval = min(self._interval, AGAIN)
        except Exception:
            # Without this thread the host would seem unwatched for ever.
            LOG.exception("Reporting failed; it is tried again")

    def _report(self) -> None:
        timeout = self._conf.forwarder.reply_timeout
        report = self.report()
        self._last_word = _word(report.state, report.reason)
        held = self._engine.report_agent(report, timeout)
        if held != report.inventory_digest:
            self._engine.report_inventory(
                self._conf.host, report.inventory_digest, self._inventory.all(), timeout
            )

    def report(self) -> AgentReport:
        """Return the agent's word of itself, as it is now."""
        state, reason = self.state()
        evidence = self._pipeline.evidence
        return AgentReport(
            host=self._conf.host,
            state=state,
            reason=reason,
            version=version.version_info.version_string(),
            sent_at=self._now(),
            started_at=self._started_at,
            interval=self._conf.agent.report_interval,
            spool_depth=self._spool.depth,
            spool_refused=self._spool.refused_count,
            last_event_at=self._pipeline.last_event_at,
            filter_checksum=self._pipeline.filters.checksum,
            inventory_digest=self._inventory.digest(),
            instances=len(self._inventory),
            figures={
                "dropped": dict(self._pipeline.dropped),
                "overflowed": self._spool.overflowed,
                "evidence_lost": evidence.figures() if evidence else {},
                "spools_set_aside": list(self._spool.set_aside),
            },
        )

    def state(self) -> tuple[str, str]:
        """Return the agent's state and why it is not ``up``; the gravest reason wins."""
        if self._stopping.is_set():
            return states.STOPPED, "stopped on purpose"
        for word in list(self._pipeline.reachability.values()):
            if not word.reachable:
                return states.BLIND, f"source {word.source}: {word.reason}"
        if not self._pipeline.reachability:
            return states.BLIND, "no source has seen this host yet"
        if self._pipeline.trouble:
            return states.BEHIND, self._pipeline.trouble
        depth, trouble = self._spool.depth, self._forwarder.trouble
        if depth > self._conf.agent.behind_mark or (depth and trouble):
            why = trouble or "the engine takes them slowly"
            return states.BEHIND, f"{depth} events are spooled: {why}"
        return states.UP, ""


def _word(state: str, reason: str) -> tuple[str, str]:
    """Return what of an agent's state is news; how far it is behind changes all the time."""
    return state, "" if state == states.BEHIND else reason
