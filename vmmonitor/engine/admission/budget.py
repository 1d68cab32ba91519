# SPDX-License-Identifier: Apache-2.0
"""Restart budget: the maximum number of recoveries of one instance within a window."""

from collections.abc import Sequence

from vmmonitor.db.limits import EarlierRecovery
from vmmonitor.engine.admission.check import Denied
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import HoldReason
from vmmonitor.model.states import IncidentTransition
from vmmonitor.rules.policies import WITHOUT_LIMIT
from vmmonitor.text import format_duration


def check_budget(
    earlier: Sequence[EarlierRecovery], max_restarts: int, window: float, now: int
) -> Denied | None:
    """Deny a recovery that exceeds the budget, until the oldest one leaves the window.

    :param earlier: earlier incidents of the instance that were recovered, oldest call first.
    :param max_restarts: maximum number of recoveries within the window, or WITHOUT_LIMIT.
    :param window: seconds.
    :param now: microseconds since the epoch.
    """
    length = round(window * SECOND)
    within = [each for each in earlier if each.called_at > now - length]
    if max_restarts == WITHOUT_LIMIT or len(within) < max_restarts:
        return None
    if not max_restarts:
        reason = "its limits allow no recovery"
        return Denied(IncidentTransition.HOLD, HoldReason.BUDGET, reason, now + length)
    until = within[len(within) - max_restarts].called_at + length
    times = "once" if max_restarts == 1 else f"{max_restarts} times"
    reason = f"recovered {times} within {format_duration(window)}, the maximum of its budget"
    return Denied(IncidentTransition.HOLD, HoldReason.BUDGET, reason, until)
