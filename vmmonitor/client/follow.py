# SPDX-License-Identifier: Apache-2.0
"""Follow the events in the order of storage, each exactly once.

The database numbers an event when it is inserted, but the event becomes visible when its
transaction commits. So an event with a lower number can become visible after one with a higher
number. For this reason each query starts before the events that were first seen less than SETTLED
seconds ago, and events that were yielded before are left out. Only an event whose transaction
takes longer to commit can be missed.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vmmonitor.client.http import Unreachable

#: Maximum time, in seconds, that a transaction may take to commit.
SETTLED = 10.0
#: Interval, in seconds, between queries.
_POLL_INTERVAL = 1.0
#: Minimum number of events in the first query.
FIRST_PAGE = 1000


def events(
    find: Callable[..., Iterator[dict]],
    params: Mapping[str, Any],
    tail: int,
    warn: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[dict]:
    """Yield events in the order of storage, without an end.

    :param find: ``http.Client.list``.
    :param params: filters, as in a query string.
    :param tail: number of stored events to yield first.
    :param warn: called once per outage of the API; the queries continue.
    :raises osc_lib.exceptions.CommandError: the first query fails, or the API rejects one.
    """
    newest = {**params, "sort": "stored:desc"}
    window = list(find("events", newest, max(tail, FIRST_PAGE)))[::-1]
    yield from window[len(window) - min(tail, len(window)) :]
    seen = {event["event_id"]: clock() for event in window}
    marker = window[0]["event_id"] if len(window) >= FIRST_PAGE else None
    reachable = True
    while True:
        sleep(_POLL_INTERVAL)
        try:
            window = list(find("events", {**params, "sort": "stored:asc", "marker": marker}))
            reachable = True
        except Unreachable as error:
            if reachable:
                warn(f"{error} Trying again.")
            reachable = False
            continue
        yield from (event for event in window if event["event_id"] not in seen)
        now = clock()
        seen = {event["event_id"]: seen.get(event["event_id"], now) for event in window}
        # The window is in storage order: the next query starts after the last settled event.
        for event_id in [event["event_id"] for event in window]:
            if now - seen[event_id] < SETTLED:
                break
            marker = event_id
            del seen[event_id]
