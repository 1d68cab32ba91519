# SPDX-License-Identifier: Apache-2.0
"""Writes notifications to the outbox, in the transaction that changes an incident or recovery."""

from collections.abc import Callable, Mapping, Sequence

from oslo_log import log

from vmmonitor.db import incidents, outbox
from vmmonitor.db.session import Transaction
from vmmonitor.model.incident import Incident
from vmmonitor.model.instance import Instance
from vmmonitor.model.notification import Change, Notification
from vmmonitor.rpc import payloads

LOG = log.getLogger(__name__)


class NotificationWriter:
    """Receives the changes of each transaction; see ``db.session.ChangeSink``."""

    def __init__(self, wake: Callable[[], None]):
        """Create a writer.

        :param wake: starts to send the notifications of a transaction after its commit.
        """
        self._wake = wake

    def write(self, tx: Transaction, changes: Sequence[Change]) -> None:
        """Store the notifications of a transaction's changes, as a part of the transaction."""
        notifications: list[Notification] = []
        instances = _instances(tx, changes)
        for change in changes:
            try:
                if notification := _notification(change, instances):
                    notifications.append(notification)
            except Exception:
                # An error here must not prevent the recovery.
                LOG.exception("Notification of incident %s is missing", change.after.incident_id)
        outbox.insert(tx, notifications)

    def written(self) -> None:
        """Start to send the notifications: the transaction is committed."""
        self._wake()


def _notification(change: Change, instances: Mapping[str, Instance]) -> Notification | None:
    after = change.after
    if isinstance(after, Incident):
        return payloads.notification(change, after.instance)
    instance = instances.get(after.incident_id, Instance(uuid=after.instance_uuid))
    return payloads.notification(change, instance)


def _instances(tx: Transaction, changes: Sequence[Change]) -> dict[str, Instance]:
    """Return the instances of the incidents that changed, or whose recoveries did, by incident."""
    found = {
        change.after.incident_id: change.after.instance
        for change in changes
        if isinstance(change.after, Incident)
    }
    others = {change.after.incident_id for change in changes} - set(found)
    return found | incidents.instances(tx, others)
