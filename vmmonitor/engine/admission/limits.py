# SPDX-License-Identifier: Apache-2.0
"""How often one instance is recovered, and how many are at once: the budget, the patience with
what flaps, and the line in which everybody waits for a turn.

A turn is had by who is being recovered: from the call of the driver until the instance runs, or
the attempt has failed. Who has none yet waits in one line, the most important first, then who is
down longest; a further attempt of an incident takes its place there like a first one, and one
that is taken over keeps its turn. Turns are counted in the database under a lock that all engines
share. The engine in which a turn becomes free calls up who is first in line; nobody else is
looked at, so that however many wait, the expectation is asked about those whose turn has come.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from oslo_config import cfg

from vmmonitor.db import limits, locks
from vmmonitor.db.limits import Acted, Waiting
from vmmonitor.db.session import Transaction
from vmmonitor.engine.admission.check import Refusal
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.rules.policies import WITHOUT_LIMIT, Policy

#: The lock under which turns are counted and taken.
TURNS = "turns"
#: Failures within the flap window that are recovered at once.
AT_ONCE = 2
#: Seconds after which who waits for a turn is looked at all the same: its instance may be gone.
LOOK_AGAIN = 300.0


class Restarts:
    """The gate that counts what was done about one instance: budget, then flapping."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Keep the configuration, which may change."""
        self._conf = conf

    def gate(
        self, tx: Transaction, incident: Incident, policy: Policy | None, now: int
    ) -> Refusal | None:
        """Refuse an instance that has failed too often of late."""
        if policy is None:
            return None
        limit = self._conf.limits
        restarts = limit.max_restarts if policy.max_restarts is None else policy.max_restarts
        window = limit.restart_window if policy.restart_window is None else policy.restart_window
        if restarts == WITHOUT_LIMIT and not limit.flap_window:
            return None
        since = now - round(max(window, limit.flap_window) * SECOND)
        acted = limits.acted(tx, incident.instance.uuid, incident.incident_id, since)
        return over_budget(acted, restarts, window, now) or flapping(
            *(acted, incident.opened_at, limit.flap_window),
            *(limit.flap_backoff, limit.flap_backoff_max, now),
        )


def over_budget(acted: Sequence[Acted], restarts: int, window: float, now: int) -> Refusal | None:
    """Refuse what would be one more than the budget allows, until the oldest is long enough ago.

    :param acted: earlier incidents of the instance, in the order of their calls.
    :param restarts: greatest number within the window; WITHOUT_LIMIT.
    :param window: seconds.
    :param now: microseconds since the epoch.
    """
    length = round(window * SECOND)
    within = [one for one in acted if one.called_at > now - length]
    if restarts == WITHOUT_LIMIT or len(within) < restarts:
        return None
    if not restarts:
        reason = "its limits allow no recovery at all"
        return Refusal("hold", HoldReason.BUDGET, reason, now + length)
    until = within[len(within) - restarts].called_at + length
    often = "once" if restarts == 1 else f"{restarts} times"
    reason = f"recovered {often} within {spell(window)}, which is as often as its limits allow"
    return Refusal("hold", HoldReason.BUDGET, reason, until)


def flapping(
    acted: Sequence[Acted],
    failed_at: int,
    window: float,
    backoff: float,
    most: float,
    now: int,
) -> Refusal | None:
    """Refuse for a while what has come back and failed again more than once: for the backoff
    after the third failure, and twice as long after each further one.

    :param acted: earlier incidents of the instance, in the order of their calls.
    :param failed_at: when it failed now; microseconds since the epoch, like ``now``.
    :param window: seconds in which failures count.
    :param backoff: seconds from the end of the last recovery.
    :param most: seconds that the backoff never exceeds.
    """
    within = [one for one in acted if one.called_at > now - round(window * SECOND)]
    if len(within) < AT_ONCE:
        return None
    wait = min(backoff * 2.0 ** min(len(within) - AT_ONCE, 64), most)
    until = max(one.ended_at for one in within) + round(wait * SECOND)
    if until <= now:
        return None
    passed = spell((failed_at - within[0].called_at) / SECOND)
    reason = f"it failed {len(within) + 1} times in {passed}: waits {spell(wait)}"
    return Refusal("hold", HoldReason.FLAPPING, reason, until)


def spell(seconds: float) -> str:
    """Return a time in words: seconds below two minutes, else minutes, from two hours on hours."""
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"


# -- turns -------------------------------------------------------------------------------------
class Turns:
    """The gate at which everybody waits for a turn, and who is called up next."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Keep the configuration, which may change."""
        self._conf = conf
        self._was_full = False

    def gate(
        self, tx: Transaction, incident: Incident, policy: Policy | None, now: int
    ) -> Refusal | None:
        """Refuse whose turn has not come; who passes takes it in the same transaction."""
        per_host, in_all = self._limits()
        if policy is None or per_host == in_all == math.inf:
            return None
        until = now + round(LOOK_AGAIN * SECOND)
        if reason := self._why_not(tx, incident, per_host, in_all):
            return Refusal("hold", HoldReason.CONCURRENCY, reason, until)
        return None

    def _why_not(self, tx: Transaction, incident: Incident, per_host: float, in_all: float) -> str:
        """Return why it is not its turn; empty: it is, and nobody else can take it meanwhile."""
        # Where all turns were taken a moment ago nobody need wait for others to find that out.
        if self._was_full and (
            reason := full(limits.picture(tx).under_way, incident.host, per_host, in_all)
        ):
            return reason
        locks.lock(tx, [TURNS])
        seen = limits.picture(tx)
        reason = full(seen.under_way, incident.host, per_host, in_all)
        self._was_full = bool(reason)
        if reason or not seen.anybody_waits:
            return reason
        ours = Waiting(
            incident_id=incident.incident_id,
            host=incident.host,
            priority=incident.priority,
            since=incident.opened_at,
            until=0,
        )
        line = self._line(tx, seen.under_way)
        others = [one for one in line if one.incident_id != ours.incident_id]
        if ours in called_up([*others, ours], seen.under_way, per_host, in_all):
            return ""
        return "waits for its turn: what is more important, or down for longer, comes first"

    def next(self, tx: Transaction, now: int) -> list[str]:
        """Return the ids of the incidents whose turn has come and that do not know yet."""
        seen = limits.picture(tx)
        if not seen.anybody_waits:
            return []
        turns = called_up(self._line(tx, seen.under_way), seen.under_way, *self._limits())
        return [one.incident_id for one in turns if one.until > now]

    def _limits(self) -> tuple[float, float]:
        per_host = self._conf.limits.max_recoveries_per_host
        in_all = self._conf.limits.max_recoveries
        return (
            math.inf if per_host == WITHOUT_LIMIT else per_host,
            math.inf if in_all == WITHOUT_LIMIT else in_all,
        )

    def _line(self, tx: Transaction, under_way: Mapping[str, int]) -> list[Waiting]:
        """Return as much of the line as could be called up now."""
        per_host, in_all = self._limits()
        each = min(per_host, in_all - sum(under_way.values()))
        if each <= 0:
            return []
        taken = [host for host, count in under_way.items() if count >= per_host]
        return limits.line(tx, taken, round(each) if each < math.inf else None)


def full(under_way: Mapping[str, int], host: str, per_host: float, in_all: float) -> str:
    """Return why nobody's turn can come on a host, whoever waits; empty if it can.

    :param under_way: host -> recoveries under way.
    """
    if under_way.get(host, 0) >= per_host:
        return f"waits for its turn: at most {per_host:g} recoveries at once on host {host}"
    if sum(under_way.values()) >= in_all:
        return f"waits for its turn: at most {in_all:g} recoveries at once in all"
    return ""


def called_up(
    line: Iterable[Waiting], under_way: Mapping[str, int], per_host: float, in_all: float
) -> list[Waiting]:
    """Return those of a line whose turn has come, in their order.

    Whose host is full does not keep those behind from theirs.

    :param under_way: host -> recoveries under way.
    """
    taken = dict(under_way)
    left = in_all - sum(taken.values())
    called: list[Waiting] = []
    for one in sorted(line, key=lambda each: each.rank):
        if len(called) >= left:
            break
        if taken.get(one.host, 0) < per_host:
            taken[one.host] = taken.get(one.host, 0) + 1
            called.append(one)
    return called
