# SPDX-License-Identifier: Apache-2.0
"""Tells other services what becomes of incidents and recoveries, by notifications.

    a transaction that changes one --write()--> outbox (the same transaction)
                                   --written()--> thread "notify": claim -> send -> delete

Nothing that is told is undone, and nothing that is done stays untold, whoever dies: what was
written waits for any engine. One that dies between sending and deleting has it sent twice, with
the same ``notification_id``. A broker that is away costs the rest of the engine nothing.
"""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import incidents, outbox
from vmmonitor.db.session import Database, Transaction
from vmmonitor.model.errors import Retriable
from vmmonitor.model.incident import Incident
from vmmonitor.model.instance import Instance
from vmmonitor.model.notification import Change, Notification
from vmmonitor.rpc import notifier, payloads

LOG = log.getLogger(__name__)

SECOND = 1_000_000
#: Notifications that one engine claims at once.
BATCH = 200
#: Seconds for which they are its own; it stops sending when half of them have passed.
LEASE = 30.0
#: Seconds after which to look for what an engine that is gone has left.
INTERVAL = 5.0
#: Seconds to wait after a change for those that follow it at once.
LINGER = 0.02
#: Seconds to wait for a broker that is away: at first, and at most.
BACKOFF = (0.5, 10.0)
#: Seconds between two looks for what has waited for too long, and rows that one of them drops.
DROP_INTERVAL = 10.0
DROP_CHUNK = 1000


class Sender(Protocol):
    """What ``rpc.notifier.Notifier`` is here."""

    def send(self, notification: Notification) -> None:
        """Send it, or raise Retriable."""


class OutboxRelay:
    """Writes notifications where they wait, and sends them; does neither if they are off."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        new_sender: Callable[[cfg.ConfigOpts], Sender] = notifier.Notifier,
    ):
        """Keep the parts; start nothing.

        :param new_sender: connects to nothing yet.
        """
        self._conf = conf
        self._database = database
        self._new_sender = new_sender
        #: How many were dropped by this engine since it started.
        self.dropped = 0
        self._drop_at = 0.0
        self._is_away = False
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)

    def start(self) -> None:
        """Begin, if notifications are on: before anything changes incidents.

        :raises vmmonitor.model.errors.VmmonitorError: the broker's address or a driver is none.
        """
        if self._conf.notifications.enabled:
            self._sender = self._new_sender(self._conf)
            self._database.outbox = self
            self._thread.start()

    def stop(self, timeout: float) -> None:
        """End after the message that is under way; the rest waits for whoever comes next.

        :param timeout: seconds.
        """
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    # -- any thread ----------------------------------------------------------------------------
    def write(self, tx: Transaction, changes: Sequence[Change]) -> None:
        """Write down what is to be told of a transaction's changes, as a part of it."""
        told: list[Notification] = []
        instances = _instances(tx, changes)
        for change in changes:
            try:
                told += filter(None, [_notification(change, instances)])
            except Exception:
                # A mistake here must not keep anything from being recovered.
                LOG.exception("A notification on %s is left out", change.after.incident_id)
        outbox.insert(tx, told)

    def written(self) -> None:
        """Have it sent soon."""
        self._wake.set()

    # -- the thread ----------------------------------------------------------------------------
    def _run(self) -> None:
        pause, backoff = 0.0, 0.0
        while not self._stopping.wait(LINGER):
            self._wake.clear()
            try:
                self.drop()
                pause = 0.0 if self.send() else INTERVAL
                backoff = 0.0
            except Retriable as error:
                self._tell("Notifications wait: %s", error)
                backoff = min(max(BACKOFF[0], 2 * backoff), BACKOFF[1])
            except Exception:
                LOG.exception("Sending notifications failed")
                backoff = BACKOFF[1]
            if backoff:
                self._stopping.wait(backoff)
            else:
                self._wake.wait(pause)

    def send(self) -> bool:
        """Claim, send, delete; returns whether there may be more to send.

        :raises vmmonitor.model.errors.Retriable: the broker or the database is away.
        """
        owner, until = str(uuid.uuid4()), time.monotonic() + LEASE / 2
        now, lease = self._database.now(), round(LEASE * SECOND)
        claimed = self._database.run(outbox.claim, owner, now, lease, BATCH)
        if not claimed:
            return False
        sent = 0
        try:
            for notification in claimed:
                if self._stopping.is_set() or time.monotonic() > until:
                    break
                self._sender.send(notification)
                sent += 1
        finally:
            self._database.run(outbox.settle, owner, claimed, sent)
        if self._is_away:
            self._is_away = False
            LOG.info("Notifications are sent again")
        return sent < len(claimed) or len(claimed) == BATCH

    def drop(self) -> None:
        """Give up, now and then, what has waited for too long or is too much.

        :raises vmmonitor.model.errors.Retriable: the database is away.
        """
        if time.monotonic() < self._drop_at:
            return
        self._drop_at = time.monotonic() + DROP_INTERVAL
        options = self._conf.notifications
        before = self._database.now() - options.keep_seconds * SECOND
        total, dropped = 0, DROP_CHUNK
        while dropped == DROP_CHUNK and not self._stopping.is_set():
            dropped = self._database.run(outbox.drop, before, options.keep, DROP_CHUNK)
            total += dropped
        if total:
            self.dropped += total
            LOG.warning(
                "%d notifications waited for too long, or were too many, and are dropped; "
                "%d since the start of this engine",
                *(total, self.dropped),
            )

    def _tell(self, message: str, error: Exception) -> None:
        """Say once that the broker, or the database, is away."""
        LOG.log(log.DEBUG if self._is_away else log.WARNING, message, error)
        self._is_away = True


def _notification(change: Change, instances: dict[str, Instance]) -> Notification | None:
    after = change.after
    if isinstance(after, Incident):
        return payloads.notification(change, after.instance)
    instance = instances.get(after.incident_id, Instance(uuid=after.instance_uuid))
    return payloads.notification(change, instance)


def _instances(tx: Transaction, changes: Sequence[Change]) -> dict[str, Instance]:
    """Return the instances of the incidents that changed, or whose recoveries did."""
    found = {
        change.after.incident_id: change.after.instance
        for change in changes
        if isinstance(change.after, Incident)
    }
    others = {change.after.incident_id for change in changes} - set(found)
    return found | incidents.instances(tx, others)
