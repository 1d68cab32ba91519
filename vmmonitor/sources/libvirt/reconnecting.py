# SPDX-License-Identifier: Apache-2.0
"""What every source that listens to libvirt does: connect, listen, and again after each loss."""

import abc
import queue
import random
import threading
import time
from typing import Any, ClassVar

import libvirt
from oslo_config import cfg
from oslo_log import log

from vmmonitor import sources
from vmmonitor.model.event import Reachability
from vmmonitor.sources.libvirt.connection import (
    EVENT_LOOP,
    Connection,
    ConnectionLost,
    LossNotice,
    call_after,
)

LOG = log.getLogger(__name__)

#: Seconds for which stop() waits. A call to a hung libvirtd cannot be interrupted; the thread
#: ends when keepalive ends the call.
JOIN_TIMEOUT = 7.0


class ReconnectingSource(sources.Source):
    """Has one thread that listens to libvirt for ever, however often the connection breaks."""

    #: Entry point name.
    name: ClassVar[str]

    def __init__(self, conf: cfg.ConfigOpts, observe: sources.Observe):
        """Keep what is needed; start nothing."""
        super().__init__(conf, observe)
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"{self.name}-source", daemon=True)
        self._stopping = threading.Event()
        self._connection: Connection | None = None
        self._reachable: bool | None = None
        self._reached = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start watching, and return at once. Once stopped, it cannot be started again."""
        EVENT_LOOP.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; what arrived before is still told. Stopping twice does nothing."""
        if self._stopping.is_set() or self._thread.ident is None:
            return
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(JOIN_TIMEOUT)
        if self._thread.is_alive():
            LOG.warning("libvirt does not answer; the thread that asked it ends when it does")
        EVENT_LOOP.stop()

    @abc.abstractmethod
    def _open(self) -> Connection:
        """Return a new connection that puts what it brings into ``_queue``."""

    @abc.abstractmethod
    def _listen(self, connection: Connection) -> None:
        """Tell of everything that the connection brings, until the source is stopped.

        :raises libvirt.libvirtError: libvirt failed.
        :raises ConnectionLost: the connection broke.
        """

    @abc.abstractmethod
    def _arrived(self, arrival: Any) -> bool:
        """Tell of one thing that the connection brought; True if ``_take`` is to return."""

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._reached = False
            try:
                self._watch()
            except Exception:
                # A bug must not leave the host unwatched: starting over makes up for it.
                LOG.exception("Watching libvirt failed; it starts over")
                self._reached = False
            failures = 0 if self._reached else failures + 1
            self._take(self._delay(failures))

    def _watch(self) -> None:
        """Connect and listen until the connection is lost or the source is stopped."""
        try:
            self._connection = self._connect()
            self._listen(self._connection)
        except (libvirt.libvirtError, ConnectionLost) as error:
            self._reach(False, str(error))
        finally:
            if self._connection:
                self._connection.close()
            self._connection = None

    def _connect(self) -> Connection:
        options = self.conf.libvirt
        patience = options.keepalive_interval * options.keepalive_count

        def hangs() -> None:
            self._reach(False, f"libvirt has not answered for {patience} s")

        # Opening has no timeout of its own, and keepalive works only once it is open.
        with call_after(patience, hangs):
            return self._open()

    def _take(self, seconds: float | None) -> None:
        """Tell of what arrives, for so many seconds (None: for ever), until it is stopped, or
        until ``_arrived`` asks for a return.

        :raises ConnectionLost: the connection broke.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while not (self._stopping.is_set() and self._queue.empty()):
            try:
                item = self._queue.get(
                    timeout=None if until is None else max(0, until - time.monotonic())
                )
            except queue.Empty:
                return
            if isinstance(item, LossNotice):
                if item.connection is self._connection:
                    raise ConnectionLost(item.reason)
            elif item is not None and self._arrived(item):
                return

    def _reach(self, reachable: bool, reason: str = "") -> None:
        """Tell whether libvirt can be reached, if that is new."""
        with self._lock:
            self._reached = self._reached or reachable
            if reachable is self._reachable:
                return
            self._reachable = reachable
            self.observe(
                Reachability(
                    source=self.name,
                    reachable=reachable,
                    at=time.time_ns() // 1000,
                    reason=reason,
                )
            )

    def _delay(self, failures: int) -> float:
        """Return the seconds to wait before the next try: exponential, with full jitter."""
        least, most = self.conf.libvirt.reconnect_min, self.conf.libvirt.reconnect_max
        return random.uniform(least, max(least, min(most, least * 2 ** min(failures, 30))))
