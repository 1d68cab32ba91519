# SPDX-License-Identifier: Apache-2.0
"""Earlier recoveries of one instance, for the tests of the limits on them."""

from vmmonitor.db.limits import EarlierRecovery
from vmmonitor.model.clock import SECOND

MINUTE = 60 * SECOND
NOW = 1_700_000_000 * SECOND
#: Seconds.
HOUR = 3600.0


def recovered(*minutes_ago: float) -> list[EarlierRecovery]:
    """Return incidents whose driver was called that long ago, and which ended 10 s later."""
    called = [NOW - round(minutes * MINUTE) for minutes in sorted(minutes_ago, reverse=True)]
    return [
        EarlierRecovery(incident_id=str(number), called_at=at, ended_at=at + 10 * SECOND)
        for number, at in enumerate(called)
    ]
