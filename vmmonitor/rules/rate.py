# SPDX-License-Identifier: Apache-2.0
"""How often something must happen before a rule means it."""

import collections
import hashlib
from collections.abc import Sequence

from vmmonitor.model.event import Event
from vmmonitor.rules import matchers

SECOND = 1_000_000
#: What is counted apart where a rule does not say it.
PER = ("instance.uuid",)
#: Keys that one rule remembers at most, and moments in all of them together.
MAX_KEYS = 10_000
MAX_MOMENTS = 100_000
#: Seconds by which the events of several sources may come out of their order.
DISORDER = 1
#: Characters of a value that is remembered as it is.
MAX_VALUE = 64

Key = tuple[str | None, ...]


class Rate:
    """Remembers, for each key, the moments of the newest events; at most ``count`` of them.

    Goes by the events' own clock, which may jump: a moment that is later than the event that is
    looked at was read from a clock that was put back since, and is forgotten.

    One thread counts; any other may look at the same time.
    """

    __slots__ = ("_moments", "_most", "_readers", "count", "per", "seconds")

    def __init__(self, count: int, seconds: float, per: Sequence[str] = PER):
        """Start with nothing counted.

        :param count: from this many events on it is reached; at least 2.
        :param seconds: in which they happen.
        :param per: fields of the matcher language; events that differ in one are counted apart.
        """
        self.count = int(count)
        self.seconds = float(seconds)
        self.per = tuple(per)
        self._readers = [matchers.reader(field) for field in self.per]
        self._most = max(1, min(MAX_KEYS, MAX_MOMENTS // self.count))
        # Moments are replaced as a whole, so that who looks sees them before or after.
        self._moments: collections.OrderedDict[Key, tuple[int, ...]] = collections.OrderedDict()

    def reached(self, event: Event) -> bool:
        """Count an event; return whether it is the ``count``-th one in time, or a later one."""
        key = self._key(event)
        moments = self._with(key, event)
        self._moments[key] = moments
        self._moments.move_to_end(key)
        if len(self._moments) > self._most:
            self._moments.popitem(last=False)
        return len(moments) >= self.count

    def why_not(self, event: Event) -> str:
        """Return, for a person, how far it would be with this event; empty if it were reached."""
        number = len(self._with(self._key(event), event))
        return "" if number >= self.count else f"{number} of {self}"

    def inherit(self, before: "Rate") -> None:
        """Go on with what another one counted, if it counted the same."""
        if (before.count, before.seconds, before.per) == (self.count, self.seconds, self.per):
            self._moments = before._moments

    def forget(self) -> None:
        """Start with nothing counted."""
        self._moments = collections.OrderedDict()

    def _with(self, key: Key, event: Event) -> tuple[int, ...]:
        """Return the moments that count, with the event's own as the last."""
        now = event.occurred_at
        oldest, latest = now - self.seconds * SECOND, now + DISORDER * SECOND
        kept = [one for one in self._moments.get(key, ()) if oldest < one <= latest]
        return (*kept[1 - self.count :], now)

    def _key(self, event: Event) -> Key:
        return tuple(_short(matchers.text(read(event))) for read in self._readers)

    def __str__(self) -> str:
        """Return it as an operator would say it."""
        return f"{self.count} within {self.seconds:g} s per {', '.join(self.per)}"


def _short(value: str | None) -> str | None:
    """Return what stands for a value, which may be as long as its owner likes."""
    if value is None or len(value) <= MAX_VALUE:
        return value
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
