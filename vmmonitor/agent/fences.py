# SPDX-License-Identifier: Apache-2.0
"""The highest fence token of each instance that this host has accepted; survives restarts."""

import threading

from oslo_log import log

from vmmonitor.agent.signals import AgentClock
from vmmonitor.agent.spool import Spool, SpoolUnavailable

LOG = log.getLogger(__name__)


class Fences:
    """Remembers the highest token of each instance, in memory and beside the spool. Thread-safe.

    While the disk cannot be written, tokens are kept in memory only: the engines confirm each
    order as well, so that a full disk does not prevent recoveries.
    """

    def __init__(self, spool: Spool, now: AgentClock):
        """Read the tokens that an earlier run has stored."""
        self._spool = spool
        self._now = now
        self._lock = threading.Lock()
        self._highest = spool.fences()
        self._stored = dict(self._highest)

    def prohibit(self, instance_uuid: str, token: int) -> bool:
        """Refuse all orders with this token or a lower one from now on, also after a restart.

        :returns: False if a higher token was accepted before, or if the disk cannot be written.
        """
        is_accepted = self.is_newest(instance_uuid, token + 1)
        self.raise_to(instance_uuid, token + 1)
        with self._lock:
            return is_accepted and self._stored.get(instance_uuid, 0) > token

    def is_newest(self, instance_uuid: str, token: int) -> bool:
        """Return whether no higher token was accepted."""
        with self._lock:
            return token >= self._highest.get(instance_uuid, 0)

    def raise_to(self, instance_uuid: str, token: int) -> None:
        """Accept the token of an order, in memory and on the disk."""
        with self._lock:
            token = max(token, self._highest.get(instance_uuid, 0))
            self._highest[instance_uuid] = token
            if self._stored.get(instance_uuid, 0) >= token:
                return
        try:
            self._spool.store_fence(instance_uuid, token, self._now())
        except SpoolUnavailable as error:
            LOG.warning("Fence token of instance %s is not stored: %s", instance_uuid, error)
            return
        with self._lock:
            self._stored[instance_uuid] = max(token, self._stored.get(instance_uuid, 0))
