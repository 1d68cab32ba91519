# SPDX-License-Identifier: Apache-2.0
"""A connection to libvirt with its events, and the event loop that brings them.

libvirt calls back on its own thread. What is called there copies values into a queue and
returns: no log, no call to libvirt.
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

#: Seconds for which stopping waits for the event thread, whose callbacks take microseconds.
JOIN_TIMEOUT = 2.0


class ConnectionLost(errors.Retriable):
    """The connection to libvirt broke"""


@dataclasses.dataclass(frozen=True, slots=True)
class DomainCallback:
    """What one callback brought, as it came.

    :param occurred_at: microseconds since the epoch.
    """

    event_id: int
    uuid: str
    name: str
    arguments: tuple[Any, ...]
    occurred_at: int


@dataclasses.dataclass(frozen=True, slots=True)
class LossNotice:
    """A connection broke."""

    connection: "Connection"
    reason: str


class EventLoop:
    """libvirt's event loop: one for the process, running while anybody needs it."""

    def __init__(self) -> None:
        """Start nothing."""
        self._lock = threading.Lock()
        self._users = 0
        self._timer = -1
        self._thread = threading.Thread()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Keep the loop running while the context lasts; enter it before a connection opens."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        """Run the loop for one more user."""
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            if self._timer < 0:
                libvirt.virEventRegisterDefaultImpl()
                # Errors are raised as well; libvirt need not also print them.
                libvirt.registerErrorHandler(lambda *_: None, None)
                self._timer = libvirt.virEventAddTimeout(-1, _rest, None)
            self._thread = threading.Thread(target=self._run, name="libvirt-events", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Have one user less; the last one's leaving ends the thread."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            libvirt.virEventUpdateTimeout(self._timer, 0)
            self._thread.join(JOIN_TIMEOUT)

    def _run(self) -> None:
        while self._users:
            try:
                libvirt.virEventRunDefaultImpl()
            except libvirt.libvirtError:
                LOG.exception("libvirt's event loop stumbled; it goes on")
                time.sleep(1)


def _rest(timer: int, _opaque: None) -> None:
    """Wake the loop once, then not again until it is asked for."""
    libvirt.virEventUpdateTimeout(timer, -1)


EVENT_LOOP = EventLoop()


@contextlib.contextmanager
def call_after(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Have ``call`` called on the event thread if the context lasts longer than ``seconds``."""

    def due(timer: int, _opaque: None) -> None:
        libvirt.virEventUpdateTimeout(timer, -1)
        call()

    timer = libvirt.virEventAddTimeout(int(seconds * 1000), due, None)
    try:
        yield
    finally:
        libvirt.virEventRemoveTimeout(timer)


def connect(options: cfg.ConfigOpts.GroupAttr, read_only: bool) -> libvirt.virConnect:
    """Open a bare connection that notices it when libvirtd hangs.

    The event loop must be running. Blocks for as long as libvirtd does not answer.

    :param options: the group ``[libvirt]``.
    :raises libvirt.libvirtError: libvirt cannot be reached.
    """
    bare = (libvirt.openReadOnly if read_only else libvirt.open)(options.uri)
    with ignore_unsupported():
        bare.setKeepAlive(options.keepalive_interval, options.keepalive_count)
    return bare


@contextlib.contextmanager
def ignore_unsupported() -> Iterator[None]:
    """Pass over what a driver (libvirt's test driver) does not have."""
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
        """Connect and ask for events; may block for as long as libvirtd does not answer.

        :param options: the group ``[libvirt]``.
        :param put: takes each arrival, and one Lost; called on the event thread.
        :raises libvirt.libvirtError: libvirt cannot be reached, or lacks what is asked for.
        :raises ConnectionLost: it was reached, and gone at once.
        """
        self._put = put
        self._callbacks: list[int] = []
        self.libvirt = connect(options, read_only)
        try:
            with ignore_unsupported():
                self.libvirt.registerCloseCallback(self._closed, None)
            self._ask()
            if not self.libvirt.isAlive():
                raise ConnectionLost()
        except (libvirt.libvirtError, ConnectionLost):
            self.close()
            raise

    def close(self) -> None:
        """Give everything back; nothing is put any more."""
        self._put = lambda _: None
        for callback in self._callbacks:
            with contextlib.suppress(libvirt.libvirtError):
                self._give_back(callback)
        with contextlib.suppress(libvirt.libvirtError):
            self.libvirt.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self.libvirt.close()

    @abc.abstractmethod
    def _ask(self) -> None:
        """Ask for events, and remember in ``_callbacks`` what was asked for."""

    @abc.abstractmethod
    def _give_back(self, callback: int) -> None:
        """Ask for one of them no longer."""

    def _closed(self, _conn: libvirt.virConnect, reason: int, _opaque: None) -> None:
        known = 0 <= reason < len(tables.CLOSE_REASON)
        self._put(LossNotice(self, tables.CLOSE_REASON[reason] if known else f"unknown-{reason}"))


class DomainEvents(Connection):
    """A connection that brings every event of every domain."""

    #: Event ids that were already said to be missing.
    _noted: set[int] = set()

    def _ask(self) -> None:
        for event_id in range(len(tables.CALLBACKS)):
            self._ask_for(event_id)

    def _ask_for(self, event_id: int) -> None:
        try:
            self._callbacks.append(
                self.libvirt.domainEventRegisterAny(None, event_id, self._arrived, event_id)
            )
        except libvirt.libvirtError:
            if event_id == tables.LIFECYCLE_ID:
                raise
            if event_id not in self._noted:
                self._noted.add(event_id)
                LOG.debug("This libvirt has no event %s", tables.CALLBACKS[event_id].name)

    def _give_back(self, callback: int) -> None:
        self.libvirt.domainEventDeregisterAny(callback)

    def _arrived(self, _conn: libvirt.virConnect, domain: libvirt.virDomain, *values: Any) -> None:
        *arguments, event_id = values
        now = time.time_ns() // 1000
        self._put(
            DomainCallback(event_id, domain.UUIDString(), domain.name(), tuple(arguments), now)
        )
