# SPDX-License-Identifier: Apache-2.0
"""Sends the notifications in the outbox to the message bus (the transactional outbox pattern).

    a transaction that changes an incident or recovery
        --> rows in the outbox, in the same transaction (notification_writer.py)
        --> after the commit: thread "outbox-relay": claim -> send -> delete

A notification is sent exactly if its change was committed. Rows of an engine that stopped are sent
by another engine. An engine that dies between sending and deleting causes a second copy with the
same ``notification_id``. An outage of the broker does not delay recoveries.
"""

import time
import uuid
from collections.abc import Callable
from typing import Protocol

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import outbox
from vmmonitor.db.session import Database
from vmmonitor.engine.upkeep.notification_writer import NotificationWriter
from vmmonitor.model.clock import SECOND
from vmmonitor.model.errors import Retriable
from vmmonitor.model.notification import Notification
from vmmonitor.periodic import PeriodicThread
from vmmonitor.rpc import notifier

LOG = log.getLogger(__name__)

#: Maximum number of notifications that one engine claims at once.
BATCH = 200
#: Duration of a claim, in seconds; sending stops at half of it.
LEASE = 30.0
#: Interval of the search for rows that another engine left, in seconds.
INTERVAL = 5.0
#: Delay after a change that collects further changes, in seconds.
LINGER = 0.02
#: Initial and maximum delay after an error, in seconds.
BACKOFF = (0.5, 10.0)
#: Interval of the search for rows that exceed the limits, in seconds.
DROP_INTERVAL = 10.0
#: Maximum number of rows that one transaction drops.
DROP_CHUNK = 1000


class Sender(Protocol):
    """Sends notifications, as ``rpc.notifier.Notifier`` does."""

    def send(self, notification: Notification) -> None:
        """Send a notification, or raise Retriable."""


class OutboxRelay:
    """Sends notifications in a thread of its own, if ``[notifications] enabled`` is set.

    :ivar dropped: number of notifications that this engine has dropped since its start.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        new_sender: Callable[[cfg.ConfigOpts], Sender] = notifier.Notifier,
    ):
        """Create the relay; ``start`` creates the sender and starts the thread.

        :param new_sender: returns a sender, which connects at its first use.
        """
        self._conf = conf
        self._database = database
        self._new_sender = new_sender
        self.dropped = 0
        self._drop_at = 0.0
        self._is_failing = False
        self._pause = 0.0
        self._retry_at = 0.0
        self._backoff = 0.0
        self._thread = PeriodicThread("outbox-relay", self._relay, self._interval)
        self._writer = NotificationWriter(self._thread.wake)

    def start(self) -> None:
        """Start to write and send notifications.

        :raises vmmonitor.model.errors.VmmonitorError: the transport or a driver is not valid.
        """
        if self._conf.notifications.enabled:
            self._sender = self._new_sender(self._conf)
            self._database.outbox = self._writer
            self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop after the notification in progress; other engines send the rest.

        :param timeout: maximum time to wait for it, in seconds.
        """
        self._thread.stop(timeout)

    # -- the thread ----------------------------------------------------------------------------
    def _interval(self) -> float:
        remaining_backoff = self._retry_at - time.monotonic()
        return max(0.0, remaining_backoff) if self._backoff else self._pause

    def _relay(self) -> None:
        """Drop and send notifications once, unless the last error is too recent."""
        if self._backoff and time.monotonic() < self._retry_at:
            return
        if self._thread.stopping.wait(LINGER):
            return
        try:
            self.drop()
            self._pause = 0.0 if self.send() else INTERVAL
            self._backoff = 0.0
        except Retriable as error:
            self._log_outage(error)
            self._back_off(min(max(BACKOFF[0], 2 * self._backoff), BACKOFF[1]))
        except Exception:
            LOG.exception("Unexpected error while sending notifications; continuing")
            self._back_off(BACKOFF[1])

    def _back_off(self, delay: float) -> None:
        self._backoff = delay
        self._retry_at = time.monotonic() + delay

    def _log_outage(self, error: Retriable) -> None:
        """Log an outage of the broker or the database once."""
        level = log.DEBUG if self._is_failing else log.WARNING
        LOG.log(level, "Could not send notifications, retrying: %s", error)
        self._is_failing = True

    def send(self) -> bool:
        """Claim, send and delete notifications; return whether more may be waiting.

        :raises vmmonitor.model.errors.Retriable: the broker or the database is not available.
        """
        owner, until = str(uuid.uuid4()), time.monotonic() + LEASE / 2
        now, lease = self._database.now(), round(LEASE * SECOND)
        claimed = self._database.run(outbox.claim, owner, now, lease, BATCH)
        if not claimed:
            return False
        sent = 0
        try:
            for notification in claimed:
                if self._thread.stopping.is_set() or time.monotonic() > until:
                    break
                self._sender.send(notification)
                sent += 1
        finally:
            self._database.run(outbox.settle, owner, claimed, sent)
        if self._is_failing:
            self._is_failing = False
            LOG.info("Notifications are sent again")
        return sent < len(claimed) or len(claimed) == BATCH

    def drop(self) -> None:
        """Drop the notifications that are too old or too many, at most every DROP_INTERVAL.

        :raises vmmonitor.model.errors.Retriable: the database is not available.
        """
        if time.monotonic() < self._drop_at:
            return
        self._drop_at = time.monotonic() + DROP_INTERVAL
        options = self._conf.notifications
        before = self._database.now() - options.keep_seconds * SECOND
        total, dropped = 0, DROP_CHUNK
        while dropped == DROP_CHUNK and not self._thread.stopping.is_set():
            dropped = self._database.run(outbox.drop, before, options.keep, DROP_CHUNK)
            total += dropped
        if total:
            self.dropped += total
            LOG.warning(
                "Dropped %d notifications that were too old or too many; %d since engine start",
                total,
                self.dropped,
            )
