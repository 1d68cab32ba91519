# SPDX-License-Identifier: Apache-2.0
"""Sends evidence to an engine, each item until it is acknowledged; behind the events, not before.

What is not acknowledged lies in a directory, through restarts and for as long as no engine
answers; that directory is bounded, and events do not wait for it.
"""

import collections
import threading
import time

from oslo_config import cfg
from oslo_log import log

from vmmonitor.agent.evidence.files import EvidenceFiles, EvidenceIncomplete
from vmmonitor.agent.spool import Spool
from vmmonitor.model.errors import InvalidMessage, Retriable
from vmmonitor.model.receipt import ReceiptStatus
from vmmonitor.rpc.engine_api import EngineAPI

LOG = log.getLogger(__name__)

#: Seconds until the next try for an event that the engine does not have yet.
SOON = 1.0


class EvidenceSender:
    """Empties the directory of outgoing evidence, for ever."""

    def __init__(
        self, conf: cfg.ConfigOpts, files: EvidenceFiles, spool: Spool, engine: EngineAPI
    ):
        """Keep the parts; start nothing."""
        self._conf = conf
        self._files = files
        self._spool = spool
        self._engine = engine
        self._failures: collections.Counter[str] = collections.Counter()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evidence-sender", daemon=True)

    def start(self) -> None:
        """Start the thread if it does not run; it sends at once what an earlier life has left."""
        self._wake.set()
        if not self._thread.is_alive():
            self._thread.start()

    def wake(self) -> None:
        """Tell that there is something to send."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """End the thread after the call that is under way; at most ``timeout`` seconds."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        pause: float | None = None
        while not self._stopping.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            try:
                pause = self._empty()
            except Exception:
                # Without this thread the directory would fill up for ever.
                LOG.exception("Sending evidence failed; it is tried again")
                pause = self._conf.forwarder.retry_max

    def _empty(self) -> float | None:
        """Send what is there, oldest first; returns in how many seconds to try again."""
        left = None
        # What failed most often comes last: one that no engine can store must not stop the others.
        for event_id in sorted(self._files.names(), key=self._failures.__getitem__):
            if self._stopping.is_set():
                break
            # Looked at before the engine is asked: what it does not have then, it never gets.
            settled = self._spool.depth == 0
            try:
                there = self._send(event_id)
            except (Retriable, InvalidMessage) as error:
                LOG.debug("No engine took the evidence of event %s: %s", event_id, error)
                self._failures[event_id] += 1
                self._stopping.wait(min(SOON, self._conf.forwarder.retry_max))
                return float(self._conf.forwarder.retry_max)
            if there or settled:
                self._files.remove(event_id)
                self._failures.pop(event_id, None)
            else:
                left = SOON
        return left

    def _send(self, event_id: str) -> bool:
        """Send the evidence of an event; returns whether the engine has the event.

        :raises vmmonitor.model.errors.Retriable: no engine answered.
        """
        try:
            items = self._files.read(event_id)
        except EvidenceIncomplete as error:
            LOG.warning("Evidence of event %s is given up: %s", event_id, error)
            return True
        for item in items:
            started = time.monotonic()
            receipt = self._engine.report_evidence(
                self._conf.host, event_id, item, self._conf.forwarder.reply_timeout
            )
            if receipt.status == ReceiptStatus.UNKNOWN:
                LOG.debug("The engine does not have event %s", event_id)
                return False
            LOG.debug(
                "Evidence %s of event %s, %d bytes, is %s after %.1f ms%s",
                *(item.kind, event_id, len(item.content), receipt.status),
                *((time.monotonic() - started) * 1000, receipt.reason and f": {receipt.reason}"),
            )
        return True
