# SPDX-License-Identifier: Apache-2.0
"""The libvirt source: list, then follow; and again whenever libvirt was away."""

import dataclasses
import queue
import random
import threading
import time

import libvirt
from oslo_config import cfg
from oslo_log import log

from vmmonitor import sources
from vmmonitor.model.event import Listing, RawEvent, Reachability
from vmmonitor.sources.libvirt import decode, domain, tables
from vmmonitor.sources.libvirt.connection import (
    EVENT_LOOP,
    Arrival,
    Connection,
    ConnectionLost,
    Lost,
    after,
)

LOG = log.getLogger(__name__)

#: Seconds for which stop() waits. A call to a hung libvirtd cannot be interrupted; the thread
#: ends when keepalive ends the call.
JOIN_TIMEOUT = 7.0

#: Events after which the instance is worth a look: who it is may be new, or have changed.
LOOK_AFTER = frozenset({"lifecycle.started", "lifecycle.defined", "metadata_change"})
LOOK_AFTER_CAUSE = frozenset({("lifecycle.resumed", "migrated")})

#: Seconds after which everything is listed again, once libvirt was connected and after it lost
#: control of a domain. A libvirtd that has just started is still finding its domains again; one
#: that dies meanwhile is shown as running, and then it is gone with a control_error or with no
#: event at all.
LIST_AGAIN = (2.0, 10.0)


class LibvirtSource(sources.Source):
    """Watches libvirt: every event of every domain, and whether libvirt can be reached."""

    def __init__(self, conf: cfg.ConfigOpts, observe: sources.Observe):
        """Keep what is needed; start nothing."""
        super().__init__(conf, observe)
        self._queue: queue.SimpleQueue[Arrival | Lost | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="libvirt-source", daemon=True)
        self._stopping = threading.Event()
        self._connection: Connection | None = None
        self._why = "start"
        self._list_at: list[float] = []
        self._reachable: bool | None = None
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

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                failures = 0 if self._watch() else failures + 1
            except Exception:
                # A bug must not leave the host unwatched: listing again makes up for it.
                LOG.exception("Watching libvirt failed; it starts over")
                failures += 1
            self._take(self._delay(failures))

    def _watch(self) -> bool:
        """Connect, list, follow until the connection is lost; tell whether it was listed."""
        listed = False
        try:
            self._connection = self._connect()
            self._take(0)
            self._list_at = [time.monotonic()]
            self._list_again()
            while not self._stopping.is_set():
                if self._list_at and self._list_at[0] <= time.monotonic():
                    self._list(self._connection.libvirt)
                    listed = True
                self._take(self._list_at[0] - time.monotonic() if self._list_at else None)
        except (libvirt.libvirtError, ConnectionLost) as error:
            self._reach(False, str(error))
        finally:
            if self._connection:
                self._connection.close()
            self._connection = None
        return listed

    def _connect(self) -> Connection:
        options = self.conf.libvirt
        patience = options.keepalive_interval * options.keepalive_count

        def hangs() -> None:
            self._reach(False, f"libvirt has not answered for {patience} s")

        # Opening has no timeout of its own, and keepalive works only once it is open.
        with after(patience, hangs):
            return Connection(options, self._queue.put)

    def _list_again(self) -> None:
        # The first one that is due stays: a storm of reasons must not put it off for ever.
        due = [time.monotonic() + delay for delay in LIST_AGAIN]
        self._list_at = sorted([*self._list_at[:1], *due])

    def _list(self, connection: libvirt.virConnect) -> None:
        self._list_at.pop(0)
        started_at = _now()
        seen = domain.look_at_all(connection)
        self.observe(
            Listing(source=decode.SOURCE, started_at=started_at, why=self._why, seen=seen)
        )
        self._why = "reconnect"
        self._reach(True)

    def _take(self, seconds: float | None) -> None:
        """Tell of what arrives, for so many seconds (None: for ever), until it is stopped, or
        until there is reason to list again.

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
            if isinstance(item, Arrival):
                self._tell(item)
                if item.event_id == tables.CONTROL_ERROR_ID:
                    self._list_again()
                    return
            elif item and item.connection is self._connection:
                raise ConnectionLost(item.reason)

    def _tell(self, arrival: Arrival) -> None:
        event = decode.event(
            arrival.event_id, arrival.uuid, arrival.name, arrival.arguments, arrival.occurred_at
        )
        if event.type in LOOK_AFTER or (event.type, event.detail) in LOOK_AFTER_CAUSE:
            event = self._completed(event)
        self.observe(event)

    def _completed(self, event: RawEvent) -> RawEvent:
        """Add what a look at the instance shows, if there is still something to look at."""
        if not self._connection or self._stopping.is_set():
            return event
        try:
            found = self._connection.libvirt.lookupByUUIDString(event.instance.uuid)
            seen = domain.look(found)
        except libvirt.libvirtError:
            return event
        return dataclasses.replace(event, instance=seen.instance, seen=seen)

    def _reach(self, reachable: bool, reason: str = "") -> None:
        """Tell whether libvirt can be reached, if that is new."""
        with self._lock:
            if reachable is self._reachable:
                return
            self._reachable = reachable
            self.observe(
                Reachability(source=decode.SOURCE, reachable=reachable, at=_now(), reason=reason)
            )

    def _delay(self, failures: int) -> float:
        """Return the seconds to wait before the next try: exponential, with full jitter."""
        least, most = self.conf.libvirt.reconnect_min, self.conf.libvirt.reconnect_max
        return random.uniform(least, max(least, min(most, least * 2 ** min(failures, 30))))


def _now() -> int:
    return time.time_ns() // 1000
