# SPDX-License-Identifier: Apache-2.0
"""How far a host's clock is from the engines', by what can be seen of it.

A sample is when a message came, by the engines' clock, less when it left, by the host's: the
offset of the host's clock plus the time that the message was on its way. The way only ever adds,
so the least of several samples is nearest to the truth, and one slow message changes nothing.
"""

import dataclasses

#: Microseconds in one second. Times are integers of microseconds since the epoch.
SECOND = 1_000_000

#: Reports whose least sample counts: about a minute at the usual interval.
SAMPLES = 6
#: Microseconds by which the measured offset may be another than the one in use. It is more than
#: the least way of six messages differs on a busy bus, and little enough to tell on which host
#: something happened first. Within it a time is left as it is, so that hosts whose clocks are
#: right keep their times, and those of the others do not jump about from batch to batch.
STEADY = 100_000
#: Microseconds that no message is on its way: the most that its sender can be told to wait.
LONGEST = 600_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HostClock:
    """What is known of one host's clock. All are microseconds; add them to a time of the host's.

    :param samples: of the newest reports, oldest first.
    :param offset: as it was measured last; negative if the host's clock is ahead.
    :param correction: what is added to the host's times. It follows the offset only when the two
        are more than STEADY apart: downwards at once, upwards, where it might be no more than a
        slow way, when a whole window of samples says so, or at once beyond any way's length.
    """

    samples: tuple[int, ...] = ()
    offset: int = 0
    correction: int = 0

    def after(self, sample: int) -> "HostClock":
        """Return what is known with one more sample, in microseconds."""
        put_back = bool(self.samples) and sample > self.offset + LONGEST
        samples = (sample,) if put_back else (*self.samples, sample)[-SAMPLES:]
        offset = min(samples)
        correction = at_arrival(self.correction, offset)
        if offset > correction + STEADY and (put_back or len(samples) == SAMPLES):
            correction = _needed(offset)
        return HostClock(samples=samples, offset=offset, correction=correction)


def at_arrival(correction: int, sample: int) -> int:
    """Return what is to be added to the times in a message, given its own sample.

    A host whose clock was set since its last report is noticed here, unless the clock was put
    back by so little that it may have been a slow way.

    :param correction: what is added to this host's times so far; microseconds, like ``sample``.
    """
    if correction - STEADY <= sample <= correction + LONGEST:
        return correction
    return _needed(sample)


def _needed(offset: int) -> int:
    return 0 if abs(offset) <= STEADY else offset


def told(offset: int) -> str:
    """Return an offset as a sentence for a person, beginning in the middle.

    :param offset: microseconds; negative if the host's clock is ahead.
    """
    side = "ahead of" if offset < 0 else "behind"
    return f"its clock is {abs(offset) / 1_000_000:,.1f} s {side} the engines'"
