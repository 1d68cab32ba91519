# SPDX-License-Identifier: Apache-2.0
"""The rate of events that must be reached before a rule decides about them."""

import collections
import hashlib
from collections.abc import Sequence

from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import Event
from vmmonitor.rules import matchers

#: Events that differ in these fields are counted separately, unless the rule has others.
PER = ("instance.uuid",)
#: Maximum number of keys of one rule, and of times of all its keys together.
MAX_KEYS = 10_000
MAX_TIMES = 100_000
#: Maximum delay between events of several sources that arrive out of order, in seconds.
DISORDER = 1
#: Maximum length of a value that is stored unhashed.
MAX_VALUE = 64

Key = tuple[str | None, ...]


class Rate:
    """Counts events per key, with the times of at most the ``count`` newest events of each.

    The times are those of the events, whose clock may jump. A stored time that is later than the
    current event dates from before the clock was set back and is dropped.

    One thread counts. Other threads may call ``why_not`` concurrently.
    """

    __slots__ = ("_max_keys", "_readers", "_times", "count", "per", "seconds")

    def __init__(self, count: int, seconds: float, per: Sequence[str] = PER):
        """Create an empty counter.

        :param count: minimum number of events; at least 2.
        :param seconds: period of these events, in seconds.
        :param per: fields of the matcher language; events that differ in one of them are counted
            separately.
        """
        self.count = int(count)
        self.seconds = float(seconds)
        self.per = tuple(per)
        self._readers = [matchers.reader(field) for field in self.per]
        self._max_keys = max(1, min(MAX_KEYS, MAX_TIMES // self.count))
        # A tuple is replaced as a whole, so that another thread reads it before or after.
        self._times: collections.OrderedDict[Key, tuple[int, ...]] = collections.OrderedDict()

    def reached(self, event: Event) -> bool:
        """Count an event; return whether it is at least the ``count``-th one in the period."""
        key = self._key(event)
        times = self._times_with(key, event)
        self._times[key] = times
        self._times.move_to_end(key)
        if len(self._times) > self._max_keys:
            self._times.popitem(last=False)
        return len(times) >= self.count

    def why_not(self, event: Event) -> str:
        """Return the progress towards the rate with this event, or '' if it would be reached."""
        number = len(self._times_with(self._key(event), event))
        return "" if number >= self.count else f"{number} of {self}"

    def inherit(self, before: "Rate") -> None:
        """Take over the counts of another rate, if its parameters are the same."""
        if (before.count, before.seconds, before.per) == (self.count, self.seconds, self.per):
            self._times = before._times

    def forget(self) -> None:
        """Reset the counts."""
        self._times = collections.OrderedDict()

    def _times_with(self, key: Key, event: Event) -> tuple[int, ...]:
        """Return the times within the period, the event's own time last."""
        now = event.occurred_at
        oldest, latest = now - self.seconds * SECOND, now + DISORDER * SECOND
        kept = [time for time in self._times.get(key, ()) if oldest < time <= latest]
        return (*kept[1 - self.count :], now)

    def _key(self, event: Event) -> Key:
        return tuple(_shorten(matchers.text(read(event))) for read in self._readers)

    def __str__(self) -> str:
        """Return the rate as text."""
        return f"{self.count} within {self.seconds:g} s per {', '.join(self.per)}"


def _shorten(value: str | None) -> str | None:
    """Return a value, or the hash of a long value."""
    if value is None or len(value) <= MAX_VALUE:
        return value
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
