# SPDX-License-Identifier: Apache-2.0
"""The libvirt source: list, then follow; and again whenever libvirt was away."""

import contextlib
import dataclasses
import threading
import time

import libvirt
from oslo_config import cfg

from vmmonitor import sources
from vmmonitor.model.event import RawEvent, SourceSnapshot
from vmmonitor.model.instance import Seen
from vmmonitor.sources.libvirt import decode, domain, tables
from vmmonitor.sources.libvirt.connection import Connection, DomainCallback, DomainEvents
from vmmonitor.sources.libvirt.reconnecting import ReconnectingSource

#: Events after which the instance is worth a look: who it is may be new, or have changed.
LOOK_AFTER = frozenset({"lifecycle.started", "lifecycle.defined", "metadata_change"})
LOOK_AFTER_CAUSE = frozenset({("lifecycle.resumed", "migrated")})

#: Seconds after which everything is listed again, once libvirt was connected and after it lost
#: control of a domain. A libvirtd that has just started is still finding its domains again; one
#: that dies meanwhile is shown as running, and then it is gone with a control_error or with no
#: event at all.
LIST_AGAIN = (2.0, 10.0)
#: Seconds for which a listing waits for the events of what it has seen.
LAST_WORDS = 0.1
#: Seconds for which stop() waits for a listing; one that hangs ends with its connection.
LISTER_TIMEOUT = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class DomainListing:
    """Every domain at one moment.

    :param started_at: when the look began; microseconds since the epoch.
    """

    started_at: int
    seen: tuple[Seen, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ListingDone:
    """A listing has ended.

    :param looked: None if it was in vain.
    :param lister: the thread that did it, and does nothing more.
    """

    looked: DomainListing | None
    lister: threading.Thread


class LibvirtSource(ReconnectingSource):
    """Watches libvirt: every event of every domain, and whether libvirt can be reached."""

    name = decode.SOURCE

    def __init__(self, conf: cfg.ConfigOpts, observe: sources.Observe):
        """Keep what is needed; start nothing."""
        super().__init__(conf, observe)
        self._why = "start"
        self._list_at: list[float] = []
        self._lister = threading.Thread()

    def stop(self) -> None:
        """Stop watching; what arrived before is still told. Stopping twice does nothing."""
        super().stop()
        if self._lister.is_alive():
            self._lister.join(LISTER_TIMEOUT)

    def _open(self) -> Connection:
        options = self.conf.libvirt
        return DomainEvents(options, options.read_only, self._queue.put)

    def _listen(self, connection: Connection) -> None:
        self._take(0)
        self._list_at = []
        self._list_again()
        seen = self._look_at_all(connection.libvirt)
        # What the listing saw libvirt may be about to say, with a better word for its cause.
        self._take(LAST_WORDS)
        self._tell(seen)
        self._reach(True)
        while not self._stopping.is_set():
            # One that is due while another is under way waits for its end, which arrives, too.
            waits = self._list_at and not self._lister.is_alive()
            if waits and self._list_at[0] <= time.monotonic():
                self._list_at.pop(0)
                self._list_beside(connection.libvirt)
                continue
            self._take(self._list_at[0] - time.monotonic() if waits else None)

    def _list_again(self) -> None:
        # The first one that is due stays: a storm of reasons must not put it off for ever.
        due = [time.monotonic() + delay for delay in LIST_AGAIN]
        self._list_at = sorted([*self._list_at[:1], *due])

    def _look_at_all(self, connection: libvirt.virConnect) -> DomainListing:
        started_at = time.time_ns() // 1000
        return DomainListing(started_at, domain.look_at_all(connection))

    def _list_beside(self, connection: libvirt.virConnect) -> None:
        """List in a thread of its own, so that events go on: libvirt lists nothing for the 10 s
        in which it ends a QEMU that hangs."""

        def look() -> None:
            looked = None
            with contextlib.suppress(libvirt.libvirtError):  # its connection's loss arrives, too
                looked = self._look_at_all(connection)
                self._stopping.wait(LAST_WORDS)
            self._queue.put(ListingDone(looked, threading.current_thread()))

        self._lister = threading.Thread(target=look, name="libvirt-listing", daemon=True)
        self._lister.start()

    def _tell(self, looked: DomainListing) -> None:
        self.observe(
            SourceSnapshot(
                source=decode.SOURCE,
                started_at=looked.started_at,
                why=self._why,
                seen=looked.seen,
            )
        )
        self._why = "reconnect"

    def _arrived(self, arrival: DomainCallback | ListingDone) -> bool:
        if isinstance(arrival, ListingDone):
            arrival.lister.join()
            if arrival.looked:
                self._tell(arrival.looked)
            return True
        event = decode.event(
            arrival.event_id, arrival.uuid, arrival.name, arrival.arguments, arrival.occurred_at
        )
        if event.type in LOOK_AFTER or (event.type, event.detail) in LOOK_AFTER_CAUSE:
            event = self._completed(event)
        self.observe(event)
        if arrival.event_id != tables.CONTROL_ERROR_ID:
            return False
        self._list_again()
        return True

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
