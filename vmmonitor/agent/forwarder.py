# SPDX-License-Identifier: Apache-2.0
"""Sends the spool to the engine: in order, in batches, each event until it has a receipt."""

import threading
from collections.abc import Sequence

import tenacity
from oslo_config import cfg
from oslo_log import log

from vmmonitor.agent.signals import AgentClock, StatusChanges
from vmmonitor.agent.spool import Spool, SpooledEvent, SpoolUnavailable
from vmmonitor.model.errors import InvalidMessage, Retriable
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.periodic import PeriodicThread
from vmmonitor.rpc.engine_api import EngineAPI

LOG = log.getLogger(__name__)

#: Delay, in seconds, after an unexpected error.
UNEXPECTED_ERROR_DELAY = 1.0


class Forwarder:
    """Forwards the spooled events from one thread."""

    def __init__(
        self,
        *,
        conf: cfg.ConfigOpts,
        spool: Spool,
        engine: EngineAPI,
        changes: StatusChanges,
        now: AgentClock,
    ):
        """Store the collaborators; start no thread.

        :param changes: receives an announcement after each attempt.
        """
        #: Why events cannot be forwarded; empty if they can.
        self.trouble = ""
        self._conf = conf
        self._spool = spool
        self._engine = engine
        self._changes = changes
        self._now = now
        self._delay = threading.TIMEOUT_MAX
        self._thread = PeriodicThread(
            "forwarder",
            self._forward,
            lambda: self._delay,
            failure="Unexpected error in the forwarder; retrying",
        )

    def start(self) -> None:
        """Start the thread; it first sends what an earlier run left in the spool."""
        self._thread.wake()
        self._thread.start()

    def wake(self) -> None:
        """Send new events now."""
        self._thread.wake()

    def stop(self, timeout: float) -> None:
        """End the thread after the current call; events without a receipt stay in the spool.

        :param timeout: maximum duration, in seconds.
        """
        self._thread.stop(timeout)

    def _forward(self) -> None:
        """Empty the spool, however long the engine does not answer."""
        self._delay = UNEXPECTED_ERROR_DELAY
        try:
            for attempt in self._attempts():
                with attempt:
                    self._empty_spool()
        except Exception as error:
            self._set_trouble(f"{type(error).__name__}: {error}")
            raise
        self._delay = threading.TIMEOUT_MAX

    def _attempts(self) -> tenacity.Retrying:
        """Return attempts until the stop, with exponential backoff and jitter."""
        options = self._conf.forwarder
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Exception),
            wait=tenacity.wait_random_exponential(
                multiplier=options.retry_min, min=options.retry_min, max=options.retry_max
            ),
            stop=tenacity.stop_when_event_set(self._thread.stopping),
            sleep=tenacity.sleep_using_event(self._thread.stopping),
            before_sleep=self._note_failure,
            retry_error_callback=lambda _state: None,
        )

    def _note_failure(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        expected = isinstance(error, Retriable | InvalidMessage)
        self._set_trouble(str(error) if expected else f"{type(error).__name__}: {error}")

    def _empty_spool(self) -> None:
        """Send one batch after the other."""
        while not self._thread.stopping.is_set():
            entries = self._spool.read(self._conf.forwarder.batch_size)
            if not entries:
                return
            self._settle(entries, self._send(entries))
            self._set_trouble("")

    def _send(self, entries: Sequence[SpooledEvent]) -> list[Receipt]:
        return self._engine.report_events(
            self._conf.host,
            self._now(),
            [entry.body for entry in entries],
            self._conf.forwarder.reply_timeout,
        )

    def _settle(self, entries: Sequence[SpooledEvent], receipts: Sequence[Receipt]) -> None:
        now = self._now()
        refused = {}
        for entry, receipt in zip(entries, receipts, strict=True):
            event_id = entry.body["event_id"]
            if receipt.status == ReceiptStatus.REFUSED:
                refused[entry.sequence] = receipt.reason
                LOG.error("Engine refused event %s, quarantined: %s", event_id, receipt.reason)
            else:
                LOG.debug(
                    "Event %s is %s, %.1f ms after its callback",
                    event_id,
                    receipt.status,
                    (now - entry.body["occurred_at"]) / 1000,
                )
        try:
            self._spool.settle(entries, refused, now)
        except SpoolUnavailable as error:
            # The engine has stored them, and ignores the duplicates that the retry sends.
            raise Retriable(str(error)) from error

    def _set_trouble(self, trouble: str) -> None:
        if bool(trouble) != bool(self.trouble):
            if trouble:
                LOG.warning("Events are waiting in the spool: %s", trouble)
            else:
                LOG.info("The engine accepts events again")
        self.trouble = trouble
        self._changes.announce()
