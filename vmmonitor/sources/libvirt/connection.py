# SPDX-License-Identifier: Apache-2.0
"""Connections to libvirt, their events, and libvirt's event loop.

libvirt calls back on the thread of its event loop. A callback must not block it: it copies values
into a queue and returns, without logging and without a call into libvirt.
"""

import abc
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import libvirt
from oslo_config import cfg
from oslo_log import log

from vmmonitor.model import errors
from vmmonitor.sources.libvirt import tables

LOG = log.getLogger(__name__)

#: Maximum duration, in seconds, of the stop of the event thread; a callback takes microseconds.
EVENT_LOOP_STOP_TIMEOUT = 2.0


class ConnectionLost(errors.Retriable):
    """The connection to libvirt is lost"""


@dataclasses.dataclass(frozen=True, slots=True)
class DomainCallback:
    """The values of one callback.

    :param occurred_at: microseconds since the epoch.
    """

    event_id: int
    uuid: str
    name: str
    arguments: tuple[Any, ...]
    occurred_at: int


@dataclasses.dataclass(frozen=True, slots=True)
class LossNotice:
    """Reports that a connection is lost."""

    connection: "Connection"
    reason: str


class EventLoop:
    """libvirt's event loop: one for the process, running while it has users."""

    def __init__(self) -> None:
        """Start nothing."""
        self._lock = threading.Lock()
        self._users = 0
        self._timer = -1
        self._thread = threading.Thread()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Keep the loop running during the context; enter it before opening a connection."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        """Add a user; the first one starts the thread."""
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            if self._timer < 0:
                libvirt.virEventRegisterDefaultImpl()
                # Errors are raised; libvirt must not print them as well.
                libvirt.registerErrorHandler(lambda *_: None, None)
                self._timer = libvirt.virEventAddTimeout(-1, _disable_timer, None)
            self._thread = threading.Thread(target=self._run, name="libvirt-events", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Remove a user; the last one ends the thread."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            libvirt.virEventUpdateTimeout(self._timer, 0)
            self._thread.join(EVENT_LOOP_STOP_TIMEOUT)

    def _run(self) -> None:
        while self._users:
            try:
                libvirt.virEventRunDefaultImpl()
            except libvirt.libvirtError:
                LOG.exception("libvirt event loop raised; continuing")
                time.sleep(1)


def _disable_timer(timer: int, _opaque: None) -> None:
    """Let the timer that woke the loop not fire again."""
    libvirt.virEventUpdateTimeout(timer, -1)


EVENT_LOOP = EventLoop()


@contextlib.contextmanager
def call_after(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Call a function on the event thread if the context lasts longer than ``seconds``."""

    def expire(timer: int, _opaque: None) -> None:
        libvirt.virEventUpdateTimeout(timer, -1)
        call()

    timer = libvirt.virEventAddTimeout(int(seconds * 1000), expire, None)
    try:
        yield
    finally:
        libvirt.virEventRemoveTimeout(timer)


def connect(options: cfg.ConfigOpts.GroupAttr, read_only: bool) -> libvirt.virConnect:
    """Open a connection that detects a hung libvirtd.

    The event loop must be running. Blocks while libvirtd does not answer.

    :param options: the group ``[libvirt]``.
    :raises libvirt.libvirtError: libvirt is not reachable.
    """
    opened = (libvirt.openReadOnly if read_only else libvirt.open)(options.uri)
    with ignore_unsupported():
        opened.setKeepAlive(options.keepalive_interval, options.keepalive_count)
    return opened


@contextlib.contextmanager
def ignore_unsupported() -> Iterator[None]:
    """Ignore that a driver (libvirt's test driver) does not support a call."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise


class Connection(abc.ABC):
    """One connection to libvirt with its events, from its opening to its loss."""

    def __init__(
        self, options: cfg.ConfigOpts.GroupAttr, read_only: bool, put: Callable[[Any], None]
    ):
        """Connect and subscribe to events; may block while libvirtd does not answer.

        :param options: the group ``[libvirt]``.
        :param put: takes the callbacks, and one LossNotice; called on the event thread, so that it
            must not block.
        :raises libvirt.libvirtError: libvirt is not reachable, or lacks a required event.
        :raises ConnectionLost: the connection was lost at once.
        """
        self._put = put
        self._is_open = True
        self._subscriptions: list[int] = []
        self.libvirt = connect(options, read_only)
        try:
            with ignore_unsupported():
                self.libvirt.registerCloseCallback(self._closed, None)
            self._subscribe()
            if not self.libvirt.isAlive():
                raise ConnectionLost()
        except (libvirt.libvirtError, ConnectionLost):
            self.close()
            raise

    def close(self) -> None:
        """Unsubscribe and disconnect; later callbacks are ignored."""
        self._is_open = False
        for subscription in self._subscriptions:
            with contextlib.suppress(libvirt.libvirtError):
                self._unsubscribe(subscription)
        with contextlib.suppress(libvirt.libvirtError):
            self.libvirt.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self.libvirt.close()

    @abc.abstractmethod
    def _subscribe(self) -> None:
        """Subscribe to events and add each subscription to ``_subscriptions``."""

    @abc.abstractmethod
    def _unsubscribe(self, subscription: int) -> None:
        """Cancel a subscription."""

    def _deliver(self, item: Any) -> None:
        if self._is_open:
            self._put(item)

    def _closed(self, _conn: libvirt.virConnect, reason: int, _opaque: None) -> None:
        known = 0 <= reason < len(tables.CLOSE_REASON)
        text = tables.CLOSE_REASON[reason] if known else f"unknown-{reason}"
        self._deliver(LossNotice(self, text))


class DomainEvents(Connection):
    """A connection that delivers every event of every domain."""

    #: Ids of missing events that have been logged.
    _logged_missing: set[int] = set()

    def _subscribe(self) -> None:
        for event_id in range(len(tables.CALLBACKS)):
            self._subscribe_to(event_id)

    def _subscribe_to(self, event_id: int) -> None:
        try:
            self._subscriptions.append(
                self.libvirt.domainEventRegisterAny(None, event_id, self._receive, event_id)
            )
        except libvirt.libvirtError:
            if event_id == tables.LIFECYCLE_ID:
                raise
            if event_id not in self._logged_missing:
                self._logged_missing.add(event_id)
                LOG.debug("This libvirt has no event %s", tables.CALLBACKS[event_id].name)

    def _unsubscribe(self, subscription: int) -> None:
        self.libvirt.domainEventDeregisterAny(subscription)

    def _receive(self, _conn: libvirt.virConnect, domain: libvirt.virDomain, *values: Any) -> None:
        *arguments, event_id = values
        now = time.time_ns() // 1000
        self._deliver(
            DomainCallback(event_id, domain.UUIDString(), domain.name(), tuple(arguments), now)
        )
