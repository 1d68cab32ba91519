# SPDX-License-Identifier: Apache-2.0
"""Follows the events as they are stored, each exactly once.

The database numbers events when they are inserted, but they appear when their transaction
commits, so one with a lower number may appear after one with a higher number was read. What was
first seen less than SETTLED ago is therefore read again, and known events are left out. Only a
transaction that takes longer than that to commit could slip through.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vmmonitor.client.http import Unreachable

#: Seconds after which no event appears before one that was seen.
SETTLED = 10.0
#: Seconds between two looks.
PAUSE = 1.0
#: Newest events that are known from the first look on.
FIRST_LOOK = 1000


def events(
    find: Callable[..., Iterator[dict]],
    params: Mapping[str, Any],
    tail: int,
    warn: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[dict]:
    """Yield events in the order in which they were stored, for ever.

    :param find: ``http.Client.list``.
    :param params: filters, as in a query string.
    :param tail: how many of the stored events to begin with.
    :param warn: told once when the API stops to answer; it is then asked until it does.
    :raises osc_lib.exceptions.CommandError: the first look fails, or the API refuses.
    """
    newest = {**params, "sort": "stored:desc"}
    window = list(find("events", newest, max(tail, FIRST_LOOK)))[::-1]
    yield from window[len(window) - min(tail, len(window)) :]
    seen = {event["event_id"]: clock() for event in window}
    marker = window[0]["event_id"] if len(window) >= FIRST_LOOK else None
    reachable = True
    while True:
        sleep(PAUSE)
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
        # In storage order, so what comes after a settled one is all that need be read again.
        for event_id in [event["event_id"] for event in window]:
            if now - seen[event_id] < SETTLED:
                break
            marker = event_id
            del seen[event_id]
