# SPDX-License-Identifier: Apache-2.0
"""Base of the sources that listen to libvirt: they reconnect after every loss."""

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

#: Maximum duration, in seconds, of ``stop``. A call to a hung libvirtd cannot be interrupted; its
#: thread ends when keepalive ends the call.
LISTENER_STOP_TIMEOUT = 7.0


class ReconnectingSource(sources.Source):
    """Listens to libvirt in one thread, and reconnects with exponential backoff."""

    #: Entry point name.
    name: ClassVar[str]

    def __init__(self, conf: cfg.ConfigOpts, observe: sources.Observe):
        """Store the collaborators; start no thread."""
        super().__init__(conf, observe)
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"{self.name}-source", daemon=True)
        self._stopping = threading.Event()
        self._connection: Connection | None = None
        self._reported: bool | None = None
        #: True if the current connection attempt succeeded.
        self._connected = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start watching, and return at once. A stopped source cannot be started again."""
        EVENT_LOOP.start()
        self._thread.start()

    def stop(self) -> None:
        """Observe the callbacks that are queued, and stop. Stopping twice has no effect."""
        if self._stopping.is_set() or self._thread.ident is None:
            return
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(LISTENER_STOP_TIMEOUT)
        if self._thread.is_alive():
            LOG.warning(
                "libvirt does not answer; the thread of source %s ends when its call returns",
                self.name,
            )
        EVENT_LOOP.stop()

    @abc.abstractmethod
    def _open(self) -> Connection:
        """Return a new connection that delivers into ``_queue``."""

    @abc.abstractmethod
    def _listen(self, connection: Connection) -> None:
        """Observe everything that the connection delivers, until the source is stopped.

        :raises libvirt.libvirtError: a call to libvirt failed.
        :raises ConnectionLost: the connection was lost.
        """

    @abc.abstractmethod
    def _handle(self, item: Any) -> bool:
        """Observe one item of the queue; return whether ``_drain_queue`` must return."""

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._connected = False
            try:
                self._connect_and_listen()
            except Exception:
                # A bug must not leave the host unmonitored: the next connection resyncs.
                LOG.exception("Unexpected error in source %s; reconnecting", self.name)
                self._connected = False
            failures = 0 if self._connected else failures + 1
            self._drain_queue(self._reconnect_delay(failures))

    def _connect_and_listen(self) -> None:
        """Connect and listen until the connection is lost or the source is stopped."""
        try:
            self._connection = self._connect()
            self._listen(self._connection)
        except (libvirt.libvirtError, ConnectionLost) as error:
            self._report_reachability(False, str(error))
        finally:
            if self._connection:
                self._connection.close()
            self._connection = None

    def _connect(self) -> Connection:
        options = self.conf.libvirt
        timeout = options.keepalive_interval * options.keepalive_count

        def report_hang() -> None:
            self._report_reachability(False, f"libvirt has not answered for {timeout} s")

        # Opening has no timeout of its own, and keepalive works only on an open connection.
        with call_after(timeout, report_hang):
            return self._open()

    def _drain_queue(self, seconds: float | None) -> None:
        """Handle the items of the queue.

        Returns when the time is over, the source is stopped, or ``_handle`` asks for it.

        :param seconds: maximum duration; None for no limit.
        :raises ConnectionLost: the connection was lost.
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
            elif item is not None and self._handle(item):
                return

    def _report_reachability(self, reachable: bool, reason: str = "") -> None:
        """Observe whether libvirt is reachable, if that has changed."""
        with self._lock:
            self._connected = self._connected or reachable
            if reachable is self._reported:
                return
            self._reported = reachable
            self.observe(
                Reachability(
                    source=self.name,
                    reachable=reachable,
                    at=time.time_ns() // 1000,
                    reason=reason,
                )
            )

    def _reconnect_delay(self, failures: int) -> float:
        """Return the delay, in seconds, before the next attempt: exponential, with full jitter."""
        minimum, maximum = self.conf.libvirt.reconnect_min, self.conf.libvirt.reconnect_max
        limit = max(minimum, min(maximum, minimum * 2 ** min(failures, 30)))
        return random.uniform(minimum, limit)
