# SPDX-License-Identifier: Apache-2.0
"""Concurrency limits: how many recoveries run at the same time, per host and in total.

A recovery occupies a slot from the call of its driver until the instance runs or the attempt has
failed. Recoveries above a limit are queued by priority, then by the time of the failure. A further
attempt of an incident is queued like the first one; a recovery that is taken over keeps its slot.

Slots are counted in the database under a lock that all engines share. The engine that frees a slot
makes the first queued recovery due; the other queued incidents are not examined, so the length of
the queue does not increase the number of verdicts requested.
"""

import math
from collections.abc import Iterable, Mapping

from oslo_config import cfg

from vmmonitor.db import limits, locks
from vmmonitor.db.limits import QueuedIncident
from vmmonitor.db.session import Transaction
from vmmonitor.engine.admission.check import Denied
from vmmonitor.model.clock import SECOND
from vmmonitor.model.incident import HoldReason, Incident
from vmmonitor.model.states import IncidentTransition
from vmmonitor.rules.policies import WITHOUT_LIMIT, Policy

#: Name of the database lock that protects the counting and taking of slots.
SLOTS_LOCK = "recovery-slots"
#: Interval, in seconds, between examinations of a queued incident while no slot is free: its
#: instance may run again or be deleted.
EXAMINE_QUEUED_INTERVAL = 300.0


class RecoverySlots:
    """Denies recoveries above the concurrency limits, and selects the next ones from the queue."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Read the options at each check, as a reload may change them."""
        self._conf = conf
        self._was_full = False

    def check(
        self, tx: Transaction, incident: Incident, policy: Policy | None, now: int
    ) -> Denied | None:
        """Deny an incident without a slot; an admitted one takes its slot in this transaction."""
        per_host, total = self._limits()
        if policy is None or per_host == total == math.inf:
            return None
        reason = self._why_queued(tx, incident, per_host, total)
        if not reason:
            return None
        until = now + round(EXAMINE_QUEUED_INTERVAL * SECOND)
        return Denied(IncidentTransition.HOLD, HoldReason.CONCURRENCY, reason, until)

    def _why_queued(
        self, tx: Transaction, incident: Incident, per_host: float, total: float
    ) -> str:
        """Return why an incident stays in the queue; empty if it gets a slot, which no other
        engine can take until this transaction ends."""
        # While all slots are taken, deny without waiting for the lock.
        if self._was_full and (
            reason := why_full(limits.read_occupancy(tx).under_way, incident.host, per_host, total)
        ):
            return reason
        locks.lock(tx, [SLOTS_LOCK])
        seen = limits.read_occupancy(tx)
        reason = why_full(seen.under_way, incident.host, per_host, total)
        self._was_full = bool(reason)
        if reason or not seen.has_queue:
            return reason
        candidate = QueuedIncident(
            incident_id=incident.incident_id,
            host=incident.host,
            priority=incident.priority,
            since=incident.opened_at,
            until=0,
        )
        queue = [
            each
            for each in self._queue(tx, seen.under_way)
            if each.incident_id != candidate.incident_id
        ]
        if candidate in select_next([*queue, candidate], seen.under_way, per_host, total):
            return ""
        return "queued behind recoveries of higher priority or of earlier failures"

    def next(self, tx: Transaction, now: int) -> list[str]:
        """Return the ids of queued incidents that can have a slot and are not due yet."""
        seen = limits.read_occupancy(tx)
        if not seen.has_queue:
            return []
        selected = select_next(self._queue(tx, seen.under_way), seen.under_way, *self._limits())
        return [each.incident_id for each in selected if each.until > now]

    def _limits(self) -> tuple[float, float]:
        options = self._conf.limits
        per_host, total = options.max_recoveries_per_host, options.max_recoveries
        return (
            math.inf if per_host == WITHOUT_LIMIT else per_host,
            math.inf if total == WITHOUT_LIMIT else total,
        )

    def _queue(self, tx: Transaction, under_way: Mapping[str, int]) -> list[QueuedIncident]:
        """Return the part of the queue that could get a slot now."""
        per_host, total = self._limits()
        each = min(per_host, total - sum(under_way.values()))
        if each <= 0:
            return []
        full_hosts = [host for host, count in under_way.items() if count >= per_host]
        return limits.read_queue(tx, full_hosts, round(each) if each < math.inf else None)


def why_full(under_way: Mapping[str, int], host: str, per_host: float, total: float) -> str:
    """Return why a host has no free slot; empty if it has one.

    :param under_way: host -> number of its recoveries in progress.
    """
    if under_way.get(host, 0) >= per_host:
        return f"queued: the limit of {per_host:g} concurrent recoveries on host {host} is reached"
    if sum(under_way.values()) >= total:
        return f"queued: the limit of {total:g} concurrent recoveries is reached"
    return ""


def select_next(
    queue: Iterable[QueuedIncident], under_way: Mapping[str, int], per_host: float, total: float
) -> list[QueuedIncident]:
    """Return the queued incidents that can have a slot, in their order.

    A host at its limit does not delay the incidents of other hosts.

    :param under_way: host -> number of its recoveries in progress.
    """
    taken = dict(under_way)
    free = total - sum(taken.values())
    selected: list[QueuedIncident] = []
    for each in sorted(queue, key=lambda waiting: waiting.rank):
        if len(selected) >= free:
            break
        if taken.get(each.host, 0) < per_host:
            taken[each.host] = taken.get(each.host, 0) + 1
            selected.append(each)
    return selected
