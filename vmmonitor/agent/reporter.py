# SPDX-License-Identifier: Apache-2.0
"""Tells the engine how the agent is and what is on its host: regularly, and at once when that
changes."""

import threading
import time
from collections.abc import Callable

from oslo_config import cfg
from oslo_log import log

from vmmonitor import version
from vmmonitor.agent.forwarder import Forwarder
from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.pipeline import Pipeline
from vmmonitor.agent.snapshot import EMPTY_SNAPSHOT, InventorySnapshot
from vmmonitor.agent.spool import Spool
from vmmonitor.model.agent import AgentReport
from vmmonitor.model.errors import VmmonitorError
from vmmonitor.model.event import Reachability
from vmmonitor.model.states import AgentState
from vmmonitor.rpc.engine_api import EngineAPI
from vmmonitor.rpc.inventory_wire import InventoryChanges
from vmmonitor.rpc.transport import Unsupported

LOG = log.getLogger(__name__)

#: The source from which all is learnt that an agent has to know; the others add to it.
SPINE = "libvirt"
#: Seconds after which a report that nobody took is made again.
AGAIN = 2.0
#: Seconds between two words: changes that come meanwhile are told together.
GAP = 0.3


class Reporter:
    """Reports the agent's state, and its inventory where the engine holds another one.

    The whole inventory goes only to an engine that does not hold what this agent told last;
    otherwise what changed since. The digest that the engine answers to each report, and to each
    change, tells whether any got lost.
    """

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
        #: What the engines hold, as far as this agent knows.
        self._told = EMPTY_SNAPSHOT
        self._told_version = -1
        self._due = 0.0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Start the thread; it reports at once."""
        self._thread.start()

    def wake(self) -> None:
        """Report now."""
        self._due = 0.0
        self._wake.set()

    def look(self) -> None:
        """Report now if the agent or its host is not as it was last reported; more of the same
        can wait."""
        if _word(*self.state()) != self._last_word:
            self.wake()
        elif self._inventory.listed and self._inventory.version != self._told_version:
            self._wake.set()

    def stop(self, timeout: float) -> None:
        """Report that the agent was stopped on purpose, then end; at most ``timeout`` seconds."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + self._conf.agent.report_interval
                self._surviving(self._report)
            else:
                self._surviving(self._report_changes)
            if not self._stopping.wait(min(GAP, self._conf.agent.report_interval)):
                self._wake.wait(max(0.0, self._due - time.monotonic()))
        self.tell()

    def tell(self) -> None:
        """Report once; an engine that was away gets another report soon."""
        self._surviving(self._report)

    def _surviving(self, report: Callable[[], None]) -> None:
        try:
            report()
        except VmmonitorError as error:
            LOG.debug("No engine took the agent's report: %s", error)
            self._due = min(self._due, time.monotonic() + AGAIN)
        except Exception:
            # Without this thread the host would seem unwatched for ever.
            LOG.exception("Reporting failed; it is tried again")

    def _report(self) -> None:
        self._pipeline.forget(self._now() - self._conf.agent.forget_after * 1_000_000)
        report = self.report()
        self._last_word = _word(report.state, report.reason)
        held = self._engine.report_agent(report, self._conf.forwarder.reply_timeout)
        if report.inventory_digest:
            self._report_inventory(held)

    def _report_changes(self) -> None:
        self._report_inventory(self._told.digest)

    def _report_inventory(self, held: str) -> None:
        """Have the engine hold what is on this host.

        :param held: digest of what it holds.
        """
        version, now = self._inventory.version, self._inventory.snapshot()
        if held != now.digest and (held != self._told.digest or not self._change(now)):
            timeout = self._conf.forwarder.reply_timeout
            self._engine.report_inventory(self._conf.host, now.digest, now.all(), timeout)
        self._told, self._told_version = now, version

    def _change(self, now: InventorySnapshot) -> bool:
        """Tell what changed; returns whether the engine holds the inventory then."""
        changes = now.delta_since(self._told)
        form = InventoryChanges(
            host=self._conf.host,
            base_digest=self._told.digest,
            digest=now.digest,
            changed=changes.changed,
            gone=changes.gone,
        )
        timeout = self._conf.forwarder.reply_timeout
        try:
            return self._engine.report_inventory_changes(form, timeout) == now.digest
        except Unsupported:
            return False

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
            # Without a look at the host there is no inventory that anybody may go by.
            inventory_digest=self._inventory.snapshot().digest if self._inventory.listed else "",
            instances=len(self._inventory),
            figures={
                "dropped": dict(self._pipeline.dropped),
                "overflowed": self._spool.overflowed,
                "evidence_lost": evidence.figures() if evidence else {},
                "spools_set_aside": list(self._spool.set_aside),
            },
        )

    def state(self) -> tuple[str, str]:
        """Return the agent's state and why it is not ``up``; the gravest reason wins.

        One that is ``up`` may have a reason too: a source beside libvirt's sees nothing.
        """
        if self._stopping.is_set():
            return AgentState.STOPPED, "stopped on purpose"
        words = dict(self._pipeline.reachability)
        blind = [word for word in words.values() if not word.reachable]
        if SPINE in self._conf.agent.sources:
            words = {name: word for name, word in words.items() if name == SPINE}
        if not words:
            return AgentState.BLIND, "no source has seen this host yet"
        for word in words.values():
            if not word.reachable:
                return AgentState.BLIND, _blindness(word)
        if self._pipeline.trouble:
            return AgentState.BEHIND, self._pipeline.trouble
        depth, trouble = self._spool.depth, self._forwarder.trouble
        if depth > self._conf.agent.behind_mark or (depth and trouble):
            why = trouble or "the engine takes them slowly"
            return AgentState.BEHIND, f"{depth} events are spooled: {why}"
        return AgentState.UP, _blindness(blind[0]) if blind else ""


def _blindness(word: Reachability) -> str:
    return f"source {word.source}: {word.reason}"


def _word(state: str, reason: str) -> tuple[str, str]:
    """Return what of an agent's state is news; how far it is behind changes all the time."""
    return state, "" if state == AgentState.BEHIND else reason
