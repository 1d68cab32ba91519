# SPDX-License-Identifier: Apache-2.0
"""Sends evidence to the engine, once the engine has the event that it belongs to."""

import collections
import logging
import threading
import time

from oslo_config import cfg
from oslo_log import log

from vmmonitor.agent.evidence.files import EvidenceFiles, EvidenceIncomplete
from vmmonitor.agent.spool import Spool
from vmmonitor.model.errors import InvalidMessage, Retriable
from vmmonitor.model.receipt import ReceiptStatus
from vmmonitor.periodic import PeriodicThread
from vmmonitor.rpc.engine_api import EngineAPI

LOG = log.getLogger(__name__)

#: Delay, in seconds, before evidence is sent again whose event has not reached the engine yet.
EVENT_MISSING_DELAY = 1.0


class EvidenceSender:
    """Empties the directory of outgoing evidence from one thread."""

    def __init__(
        self, *, conf: cfg.ConfigOpts, files: EvidenceFiles, spool: Spool, engine: EngineAPI
    ):
        """Store the collaborators; start no thread.

        :param files: the outgoing evidence.
        :param spool: shows whether events are still on their way to the engine.
        """
        self._conf = conf
        self._files = files
        self._spool = spool
        self._engine = engine
        self._failures: collections.Counter[str] = collections.Counter()
        #: Delay, in seconds, until the next attempt without new evidence.
        self._delay = threading.TIMEOUT_MAX
        self._started = False
        self._thread = PeriodicThread(
            "evidence-sender",
            self._send_all,
            lambda: self._delay,
            failure="Sending evidence failed, retrying",
        )

    def start(self) -> None:
        """Start the thread unless it runs; it first sends what an earlier run left."""
        self._thread.wake()
        if not self._started:
            self._started = True
            self._thread.start()

    def wake(self) -> None:
        """Send new evidence now."""
        self._thread.wake()

    def stop(self, timeout: float) -> None:
        """End the thread after the current call.

        :param timeout: maximum duration, in seconds.
        """
        self._thread.stop(timeout)

    def _send_all(self) -> None:
        """Send the evidence, oldest first, and set the delay until the next attempt."""
        self._delay = self._conf.forwarder.retry_max
        delay = threading.TIMEOUT_MAX
        # Those that failed most come last, so that one that no engine can store blocks no other.
        for event_id in sorted(self._files.names(), key=self._failures.__getitem__):
            if self._thread.stopping.is_set():
                break
            # Read before the engine is asked: an event that the engine lacks although the spool
            # is empty will never arrive.
            spool_is_empty = self._spool.depth == 0
            try:
                event_known = self._send(event_id)
            except (Retriable, InvalidMessage) as error:
                self._log_failure(event_id, error)
                self._thread.stopping.wait(min(EVENT_MISSING_DELAY, self._delay))
                return
            if event_known or spool_is_empty:
                self._files.remove(event_id)
                self._failures.pop(event_id, None)
            else:
                delay = EVENT_MISSING_DELAY
        self._delay = delay

    def _log_failure(self, event_id: str, error: Exception) -> None:
        level = logging.DEBUG if self._failures[event_id] else logging.WARNING
        LOG.log(level, "No engine accepted evidence of event %s, retrying: %s", event_id, error)
        self._failures[event_id] += 1

    def _send(self, event_id: str) -> bool:
        """Send the evidence of an event.

        :returns: whether the engine has the event; True also if the evidence is unreadable.
        :raises vmmonitor.model.errors.Retriable: no engine answered.
        """
        try:
            items = self._files.read(event_id)
        except EvidenceIncomplete as error:
            LOG.warning("Deleted unreadable evidence of event %s: %s", event_id, error)
            return True
        for item in items:
            started = time.monotonic()
            receipt = self._engine.report_evidence(
                self._conf.host, event_id, item, self._conf.forwarder.reply_timeout
            )
            if receipt.status == ReceiptStatus.UNKNOWN:
                LOG.debug("The engine does not have event %s yet", event_id)
                return False
            LOG.debug(
                "Sent evidence %s of event %s: %d bytes, %s after %.1f ms%s",
                item.kind,
                event_id,
                len(item.content),
                receipt.status,
                (time.monotonic() - started) * 1000,
                f": {receipt.reason}" if receipt.reason else "",
            )
        return True
