# SPDX-License-Identifier: Apache-2.0
"""Flapping: an instance that fails repeatedly is recovered after an increasing delay."""

from collections.abc import Sequence

from vmmonitor.db.limits import EarlierRecovery
from vmmonitor.engine.admission.check import Denied
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import HoldReason
from vmmonitor.model.states import IncidentTransition
from vmmonitor.text import format_duration

#: Failures within the flap window that are recovered without a delay.
WITHOUT_DELAY = 2
#: Maximum exponent of the backoff, so that the product stays a finite number.
MAX_DOUBLINGS = 64


def check_flapping(
    earlier: Sequence[EarlierRecovery],
    failed_at: int,
    window: float,
    backoff: float,
    backoff_max: float,
    now: int,
) -> Denied | None:
    """Deny the third and each further recovery within the window until the backoff is over.

    The backoff doubles with each failure.

    :param earlier: earlier incidents of the instance that were recovered, oldest call first.
    :param failed_at: time of the failure; microseconds since the epoch, like ``now``.
    :param window: period before ``now`` whose failures count, in seconds.
    :param backoff: delay of the third recovery after the end of the previous one, in seconds.
    :param backoff_max: maximum delay, in seconds.
    """
    within = [each for each in earlier if each.called_at > now - round(window * SECOND)]
    if len(within) < WITHOUT_DELAY:
        return None
    doublings = min(len(within) - WITHOUT_DELAY, MAX_DOUBLINGS)
    delay = min(backoff * 2.0**doublings, backoff_max)
    until = max(each.ended_at for each in within) + round(delay * SECOND)
    if until <= now:
        return None
    passed = format_duration((failed_at - within[0].called_at) / SECOND)
    reason = f"it failed {len(within) + 1} times in {passed}: waits {format_duration(delay)}"
    return Denied(IncidentTransition.HOLD, HoldReason.FLAPPING, reason, until)
