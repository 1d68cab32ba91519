# SPDX-License-Identifier: Apache-2.0
"""Count and log messages that are not authentic, without flooding the log."""

import collections
import threading
import time
from collections.abc import Callable

from oslo_log import log

LOG = log.getLogger(__name__)

#: Minimum interval of the log lines of one host, in seconds.
LOG_INTERVAL = 60.0
#: Maximum number of hosts that are logged separately. A sender can invent names.
MAX_LOGGED_HOSTS = 1000
#: Name of all further hosts.
OTHER_HOSTS = "(others)"


class RefusalLog:
    """Logs once per minute and host how many messages were not authentic.

    :ivar counts: host -> number of messages since the start.
    """

    def __init__(self, event: str, monotonic: Callable[[], float] = time.monotonic):
        """Create an empty log.

        :param event: begins each log line.
        """
        self.counts: collections.Counter[str] = collections.Counter()
        self._event = event
        self._monotonic = monotonic
        self._logged: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def add(self, host: str, reason: str) -> None:
        """Count a message, and log it unless the host was logged within the last minute.

        :param host: as the message names it; it may be false.
        """
        with self._lock:
            if host not in self.counts and len(self.counts) >= MAX_LOGGED_HOSTS:
                host = OTHER_HOSTS
            self.counts[host] += 1
            count, now = self.counts[host], self._monotonic()
            last, logged = self._logged.get(host, (now - LOG_INTERVAL, 0))
            if now - last < LOG_INTERVAL:
                return
            self._logged[host] = (now, count)
        # The name may be false, and contain any character.
        LOG.warning(
            "%s, host %r: %s (%d since the last line, %d in total)",
            self._event,
            host[:255],
            reason,
            count - logged,
            count,
        )
