# SPDX-License-Identifier: Apache-2.0
"""The libvirt source: lists the domains, then follows their events (list-watch).

It lists again after every reconnect, and soon after libvirt may have missed something itself.
"""

import contextlib
import dataclasses
import threading
import time

import libvirt
from oslo_config import cfg

from vmmonitor import sources
from vmmonitor.model.event import RawEvent
from vmmonitor.sources.libvirt import decode, domain, tables
from vmmonitor.sources.libvirt.connection import Connection, DomainCallback, DomainEvents
from vmmonitor.sources.libvirt.definitions import DefinitionReader
from vmmonitor.sources.libvirt.listing import DomainListing, list_domains
from vmmonitor.sources.libvirt.reconnecting import ReconnectingSource

#: Events that make the source examine the domain, whose identity may be new or have changed.
EXAMINE_AFTER_TYPES = frozenset({"lifecycle.started", "lifecycle.defined", "metadata_change"})
EXAMINE_AFTER_CAUSES = frozenset({("lifecycle.resumed", "migrated")})

#: Delays, in seconds, of two more listings after libvirt was connected and after it lost control
#: of a domain. A libvirtd that has just started is still finding its domains: one that dies
#: meanwhile is listed as running, and ends later with a control_error or without any event.
RESYNC_DELAYS = (2.0, 10.0)
#: Delay, in seconds, of the next listing while a QEMU process runs that libvirt does not manage.
LOST_RESYNC_DELAY = 60.0
#: Time, in seconds, that a listing waits for the events of the changes it shows.
EVENT_GRACE = 0.1
#: Maximum wait, in seconds, of ``stop`` for a listing; one that hangs ends with its connection.
LISTING_STOP_TIMEOUT = 1.0


#: Action of a watchdog that needs the guest, which hangs.
IGNORED_BY_HUNG_GUEST = "watchdog/shutdown"
#: Types of events that end the hang of a guest: it has started again, or has stopped.
ENDS_OF_HANG = frozenset(
    {"lifecycle.started", "lifecycle.resumed", "lifecycle.stopped", "lifecycle.crashed", "reboot"}
)


@dataclasses.dataclass(frozen=True, slots=True)
class ListingDone:
    """A listing has ended.

    :param listing: None if it failed.
    :param thread: the thread that listed, and is about to end.
    """

    listing: DomainListing | None
    thread: threading.Thread


class LibvirtSource(ReconnectingSource):
    """Observes every event of every domain, listings, and whether libvirt is reachable."""

    name = decode.LIBVIRT_SOURCE

    def __init__(self, conf: cfg.ConfigOpts, observe: sources.Observe):
        """Store the collaborators; start no thread."""
        super().__init__(conf, observe)
        self._listing_reason = "start"
        #: Monotonic times of the listings that are due.
        self._resync_at: list[float] = []
        self._listing_thread = threading.Thread()
        self._definitions = DefinitionReader(conf)
        #: UUIDs of the instances whose guest hangs, and was asked to shut down by its watchdog.
        self._shut_down_by_watchdog: set[str] = set()

    def find_fault(self, instance_uuid: str) -> str:
        """Return the watchdog's request that a hung guest has not followed; empty without one."""
        return IGNORED_BY_HUNG_GUEST if instance_uuid in self._shut_down_by_watchdog else ""

    def stop(self) -> None:
        """Observe the callbacks that are queued, and stop. Stopping twice has no effect."""
        super().stop()
        if self._listing_thread.is_alive():
            self._listing_thread.join(LISTING_STOP_TIMEOUT)
        self._definitions.close()

    def _open(self) -> Connection:
        options = self.conf.libvirt
        return DomainEvents(options, options.read_only, self._queue.put)

    def _listen(self, connection: Connection) -> None:
        self._drain_queue(0)
        self._resync_at = []
        self._schedule_resyncs()
        listing = list_domains(connection.libvirt, self._definitions)
        # libvirt may be about to deliver the events of what the listing shows, with a cause.
        self._drain_queue(EVENT_GRACE)
        self._observe_listing(listing)
        self._report_reachability(True)
        while not self._stopping.is_set():
            # A listing that is due waits for the end of the one in progress, which is queued.
            may_list = self._resync_at and not self._listing_thread.is_alive()
            if may_list and self._resync_at[0] <= time.monotonic():
                self._resync_at.pop(0)
                self._list_in_background(connection.libvirt)
                continue
            self._drain_queue(self._resync_at[0] - time.monotonic() if may_list else None)

    def _schedule_resyncs(self) -> None:
        # The earliest one stays, so that frequent reasons do not defer it indefinitely.
        due = [time.monotonic() + delay for delay in RESYNC_DELAYS]
        self._resync_at = sorted([*self._resync_at[:1], *due])

    def _list_in_background(self, connection: libvirt.virConnect) -> None:
        """List in a separate thread, so that events are not delayed.

        libvirt answers no listing while it kills a hung QEMU, which takes 10 s.
        """

        def run() -> None:
            listing = None
            # The loss of the connection is queued separately.
            with contextlib.suppress(libvirt.libvirtError):
                listing = list_domains(connection, self._definitions)
                self._stopping.wait(EVENT_GRACE)
            self._queue.put(ListingDone(listing, threading.current_thread()))

        self._listing_thread = threading.Thread(target=run, name="libvirt-listing", daemon=True)
        self._listing_thread.start()

    def _observe_listing(self, listing: DomainListing) -> None:
        self.observe(listing.snapshot(self._listing_reason))
        if listing.has_unmanaged:
            # No event reports that libvirt manages an instance again, or that its QEMU ended.
            self._resync_at = sorted([*self._resync_at, time.monotonic() + LOST_RESYNC_DELAY])
        self._listing_reason = "reconnect"

    def _handle(self, item: DomainCallback | ListingDone) -> bool:
        if isinstance(item, ListingDone):
            item.thread.join()
            if item.listing:
                self._observe_listing(item.listing)
            return True
        event = decode.decode_event(
            item.event_id, item.uuid, item.name, item.arguments, item.occurred_at
        )
        if event.type in EXAMINE_AFTER_TYPES or (event.type, event.detail) in EXAMINE_AFTER_CAUSES:
            event = self._add_domain_state(event)
        self._follow_watchdog(event)
        self.observe(event)
        if item.event_id != tables.CONTROL_ERROR_ID:
            return False
        self._schedule_resyncs()
        return True

    def _follow_watchdog(self, event: RawEvent) -> None:
        """Remember an order of the watchdog that has no effect while the guest hangs."""
        if f"{event.type}/{event.detail}" == IGNORED_BY_HUNG_GUEST:
            self._shut_down_by_watchdog.add(event.instance.uuid)
        elif event.type in ENDS_OF_HANG:
            self._shut_down_by_watchdog.discard(event.instance.uuid)

    def _add_domain_state(self, event: RawEvent) -> RawEvent:
        """Return the event with the current state of its domain, if the domain still exists."""
        if not self._connection or self._stopping.is_set():
            return event
        try:
            found = self._connection.libvirt.lookupByUUIDString(event.instance.uuid)
            seen = self._definitions.complete(domain.examine(found))
        except libvirt.libvirtError:
            return event
        return dataclasses.replace(event, instance=seen.instance, seen=seen)
