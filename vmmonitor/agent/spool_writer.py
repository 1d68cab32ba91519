# SPDX-License-Identifier: Apache-2.0
"""Writes to the spool and waits out its outages: a full disk, a locked or broken file."""

import threading
from collections.abc import Mapping, Sequence, Sized
from typing import Any

from oslo_log import log

from vmmonitor.agent.signals import StatusChanges, Wakeable
from vmmonitor.agent.spool import Spool, SpoolUnavailable

LOG = log.getLogger(__name__)

#: Delay, in seconds, before a failed write is repeated.
_RETRY_INTERVAL = 0.5


class SpoolWriter:
    """Appends deliveries to the spool until it succeeds. For the pipeline thread."""

    def __init__(
        self, *, spool: Spool, forwarder: Wakeable, changes: StatusChanges, backlog: Sized
    ):
        """Store the collaborators.

        :param forwarder: is woken when the spool has new events.
        :param changes: receives an announcement of each change of ``trouble`` or of the inventory.
        :param backlog: the observations that wait during an outage.
        """
        #: Why the spool cannot be written; empty if it can.
        self.trouble = ""
        self._spool = spool
        self._forwarder = forwarder
        self._changes = changes
        self._backlog = backlog
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the wait for an unusable spool after one more try. Callable from any thread."""
        self._stopping.set()

    def write(
        self,
        deliveries: Sequence[dict[str, Any]],
        known: Mapping[str, Mapping[str, Any] | None],
    ) -> bool:
        """Write deliveries and changes of the inventory in one transaction.

        Blocks while the spool is unusable.

        :param known: as in ``Spool.append``.
        :returns: False if the agent was stopped first; the lost events are logged.
        """
        if not deliveries and not known:
            return True
        while not self._append(deliveries, known):
            if self._stopping.is_set():
                _log_lost(deliveries)
                return False
            self._stopping.wait(_RETRY_INTERVAL)
        if deliveries:
            self._forwarder.wake()
        self._changes.announce()
        return True

    def _append(
        self,
        deliveries: Sequence[dict[str, Any]],
        known: Mapping[str, Mapping[str, Any] | None],
    ) -> bool:
        try:
            self._spool.append(deliveries, known)
        except Exception as error:
            expected = isinstance(error, SpoolUnavailable)
            self._set_trouble(str(error) if expected else f"{type(error).__name__}: {error}")
            return False
        self._set_trouble("")
        return True

    def _set_trouble(self, trouble: str) -> None:
        if trouble == self.trouble:
            return
        if trouble:
            LOG.error("%s; %d observations are waiting", trouble, len(self._backlog) + 1)
        else:
            LOG.info("The spool is writable again")
        self.trouble = trouble
        self._changes.announce()


def _log_lost(deliveries: Sequence[dict[str, Any]]) -> None:
    for delivery in deliveries:
        LOG.error(
            "Lost event %s (%s/%s) of instance %s: the agent was stopped while the spool could not"
            " be written",
            delivery["event_id"],
            delivery["type"],
            delivery["detail"],
            delivery["instance"]["uuid"],
        )
