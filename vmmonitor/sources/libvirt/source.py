# SPDX-License-Identifier: Apache-2.0
"""The libvirt source: list, then follow; and again whenever libvirt was away."""

import dataclasses
import time

import libvirt
from oslo_config import cfg

from vmmonitor import sources
from vmmonitor.model.event import Listing, RawEvent
from vmmonitor.sources.libvirt import decode, domain, tables
from vmmonitor.sources.libvirt.connected import ConnectedSource
from vmmonitor.sources.libvirt.connection import Arrival, Connection, DomainEvents

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


class LibvirtSource(ConnectedSource):
    """Watches libvirt: every event of every domain, and whether libvirt can be reached."""

    name = decode.SOURCE

    def __init__(self, conf: cfg.ConfigOpts, observe: sources.Observe):
        """Keep what is needed; start nothing."""
        super().__init__(conf, observe)
        self._why = "start"
        self._list_at: list[float] = []

    def _open(self) -> Connection:
        options = self.conf.libvirt
        return DomainEvents(options, options.read_only, self._queue.put)

    def _listen(self, connection: Connection) -> None:
        self._take(0)
        self._list_at = [time.monotonic()]
        self._list_again()
        while not self._stopping.is_set():
            if self._list_at and self._list_at[0] <= time.monotonic():
                self._list(connection.libvirt)
            self._take(self._list_at[0] - time.monotonic() if self._list_at else None)

    def _list_again(self) -> None:
        # The first one that is due stays: a storm of reasons must not put it off for ever.
        due = [time.monotonic() + delay for delay in LIST_AGAIN]
        self._list_at = sorted([*self._list_at[:1], *due])

    def _list(self, connection: libvirt.virConnect) -> None:
        self._list_at.pop(0)
        started_at = time.time_ns() // 1000
        seen = domain.look_at_all(connection)
        # What the listing saw libvirt may be about to say, with a better word for its cause.
        self._take(LAST_WORDS)
        self.observe(
            Listing(source=decode.SOURCE, started_at=started_at, why=self._why, seen=seen)
        )
        self._why = "reconnect"
        self._reach(True)

    def _arrived(self, arrival: Arrival) -> bool:
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
