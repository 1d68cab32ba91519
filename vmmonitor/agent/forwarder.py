# SPDX-License-Identifier: Apache-2.0
"""Empties the spool into an engine: in order, in batches, each event until it has a receipt."""

import threading
from collections.abc import Callable, Sequence

import tenacity
from oslo_config import cfg
from oslo_log import log

from vmmonitor.agent.spool import Spool, SpooledEvent, SpoolUnavailable
from vmmonitor.model.errors import InvalidMessage, Retriable
from vmmonitor.model.receipt import Receipt, ReceiptStatus
from vmmonitor.rpc.engine_api import EngineAPI

LOG = log.getLogger(__name__)

#: Seconds to wait after an error that nobody thought of.
PAUSE = 1.0


class Forwarder:
    """Sends what is spooled, for ever."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        spool: Spool,
        engine: EngineAPI,
        changed: Callable[[], None],
        now: Callable[[], int],
    ):
        """Keep the parts; start nothing.

        :param changed: called after each try: what is reported of the agent may have changed.
        :param now: microseconds since the epoch.
        """
        #: Why the engine does not answer; empty if it does.
        self.trouble = ""
        self._conf = conf
        self._spool = spool
        self._engine = engine
        self._changed = changed
        self._now = now
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)

    def start(self) -> None:
        """Start the thread; it sends at once what an earlier life left in the spool."""
        self._wake.set()
        self._thread.start()

    def wake(self) -> None:
        """Tell that there is something to send."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """End the thread after the call that is under way; at most ``timeout`` seconds.

        What was not acknowledged by then stays in the spool for the next start.
        """
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                for attempt in self._attempts():
                    with attempt:
                        self._empty()
            except Exception as error:
                # Whatever it is: without this thread nothing leaves the host any more.
                LOG.exception("Forwarding failed; it starts over")
                self._in_trouble(f"{type(error).__name__}: {error}")
                self._stopping.wait(PAUSE)
                self._wake.set()

    def _attempts(self) -> tenacity.Retrying:
        """Try for ever, until the stop: exponentially rarer, with jitter."""
        options = self._conf.forwarder
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Exception),
            wait=tenacity.wait_random_exponential(
                multiplier=options.retry_min, min=options.retry_min, max=options.retry_max
            ),
            stop=tenacity.stop_when_event_set(self._stopping),
            sleep=tenacity.sleep_using_event(self._stopping),
            before_sleep=self._tell,
            retry_error_callback=lambda _state: None,
        )

    def _tell(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        expected = isinstance(error, Retriable | InvalidMessage)
        self._in_trouble(str(error) if expected else f"{type(error).__name__}: {error}")

    def _empty(self) -> None:
        """Send batch after batch until nothing is left."""
        while not self._stopping.is_set():
            entries = self._spool.read(self._conf.forwarder.batch_size)
            if not entries:
                return
            self._settle(entries, self._send(entries))
            self._in_trouble("")

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
                LOG.error("The engine refused event %s: %s", event_id, receipt.reason)
            else:
                LOG.debug(
                    "Event %s is %s, %.1f ms after its callback",
                    *(event_id, receipt.status, (now - entry.body["occurred_at"]) / 1000),
                )
        try:
            self._spool.settle(entries, refused, now)
        except SpoolUnavailable as error:
            # They are stored; what is sent again for this is a duplicate there.
            raise Retriable(str(error)) from error

    def _in_trouble(self, trouble: str) -> None:
        if bool(trouble) != bool(self.trouble):
            if trouble:
                LOG.warning("Events wait in the spool: %s", trouble)
            else:
                LOG.info("The engine answers again")
        self.trouble = trouble
        self._changed()
