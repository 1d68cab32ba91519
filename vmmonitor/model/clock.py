# SPDX-License-Identifier: Apache-2.0
"""Measure the offset between a host's clock and the engines' clock.

A sample is the arrival time of a message by the engines' clock minus its departure time by the
host's clock: the clock offset plus the transit time. Transit only adds, so the minimum of several
samples is the best estimate, and one slow message does not change it.
"""

import dataclasses

#: Microseconds in one second. Times are integers of microseconds since the epoch.
SECOND = 1_000_000

#: Number of samples whose minimum is the offset: about a minute at the default interval.
SAMPLES = 6
#: Tolerated difference between the measured offset and the correction in use, in microseconds. It
#: is greater than the variation of the minimum transit time on a busy bus, and small enough to
#: order events of different hosts. Within it times are not corrected, so that accurate clocks keep
#: their times, and corrections do not vary between batches.
STEADY = 100_000
#: Maximum transit time of a message, in microseconds: the maximum timeout of its sender.
MAX_TRANSIT = 600_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HostClock:
    """The measured clock of one host. Values are microseconds to add to the host's times.

    :param samples: the samples of the newest reports, oldest first.
    :param offset: the measured offset; negative if the host's clock is ahead.
    :param correction: the value that is added to the host's times. It follows the offset when they
        differ by more than STEADY: downwards immediately; upwards, which may be a slow message,
        after a full window of samples, or immediately if the difference exceeds MAX_TRANSIT.
    """

    samples: tuple[int, ...] = ()
    offset: int = 0
    correction: int = 0

    def after(self, sample: int) -> "HostClock":
        """Return the clock with one more sample, in microseconds."""
        stepped_back = bool(self.samples) and sample > self.offset + MAX_TRANSIT
        samples = (sample,) if stepped_back else (*self.samples, sample)[-SAMPLES:]
        offset = min(samples)
        correction = at_arrival(self.correction, offset)
        if offset > correction + STEADY and (stepped_back or len(samples) == SAMPLES):
            correction = _needed(offset)
        return HostClock(samples=samples, offset=offset, correction=correction)


def at_arrival(correction: int, sample: int) -> int:
    """Return the correction of the times in a message, given the sample of the message.

    A clock step since the last report is detected, unless the clock stepped back by so little that
    a slow message has the same effect.

    :param correction: the correction in use; microseconds, like ``sample``.
    """
    if correction - STEADY <= sample <= correction + MAX_TRANSIT:
        return correction
    return _needed(sample)


def _needed(offset: int) -> int:
    return 0 if abs(offset) <= STEADY else offset


def told(offset: int) -> str:
    """Return an offset as the second half of a sentence.

    :param offset: microseconds; negative if the host's clock is ahead.
    """
    side = "ahead of" if offset < 0 else "behind"
    return f"its clock is {abs(offset) / 1_000_000:,.1f} s {side} the engines'"
