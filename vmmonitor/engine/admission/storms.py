# SPDX-License-Identifier: Apache-2.0
"""Storms: many failures with one cause are held together, as one incident of kind ``storm``.

A storm opens when the failures of a host, an aggregate or the cloud exceed their limit within a
window (``CircuitBreaker``), or when several instances report disk errors of one storage.
``StormCheck`` adds incidents to it one by one, when they are about to be recovered;
``StormMonitor`` ends it.
"""

import uuid

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import incidents, storms
from vmmonitor.db.session import Transaction
from vmmonitor.engine.admission.check import Denied
from vmmonitor.engine.admission.circuit_breaker import HOST_SCOPE, CircuitBreaker
from vmmonitor.engine.incidents.storm_ending import STORAGE
from vmmonitor.engine.incidents.transitions import move, note
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import CRITICAL
from vmmonitor.model.incident import HoldReason, Incident, IncidentKind
from vmmonitor.model.instance import Instance
from vmmonitor.model.states import IncidentState, IncidentTransition
from vmmonitor.model.timeline import TimelineKind
from vmmonitor.rules.policies import Policy

LOG = log.getLogger(__name__)

#: Interval, in seconds, between examinations of a member while its storm continues: a member that
#: was planned or deleted in the meantime leaves the storm.
EXAMINE_MEMBER_INTERVAL = 600.0


class StormCheck:
    """Denies incidents that belong to a storm, and opens storms."""

    def __init__(self, conf: cfg.ConfigOpts, breaker: CircuitBreaker):
        """Use a circuit breaker whose census another thread keeps current."""
        self._options = conf.storm
        self._breaker = breaker

    def check(
        self, tx: Transaction, incident: Incident, policy: Policy | None, now: int
    ) -> Denied | None:
        """Deny an incident that belongs to a storm, or that starts one."""
        if policy is None:
            return None
        known = storms.find(tx, incident.part_of) if incident.part_of else None
        if known:
            return None if self._is_probe(tx, incident, known, now) else _denied(known, now)
        storm = self._storage_storm(tx, incident, now) or self._scope_storm(tx, incident, now)
        if storm is None:
            return None
        storms.join(tx, storm, now)
        return _denied(storm, now)

    def _storage_storm(self, tx: Transaction, incident: Incident, now: int) -> Incident | None:
        """Return the storm of the storage of this instance; open it if enough instances fail."""
        cause, limit = incident.shared_cause, self._options.storage_limit
        if not cause or not limit:
            return None
        if (storm := storms.find_open(tx, [cause])) or incident.part_of:
            return storm
        since = now - round(self._options.storage_window * SECOND)
        number = storms.count_sharing(tx, cause, since)
        if number < limit:
            return None
        reason = f"{number} instances have disk errors of {cause.partition(':')[2]}"
        # Recoveries that began before the storm are its first probes.
        delay = self._options.probe_interval if storms.has_recovery_in_progress(tx, cause) else 0.0
        return _open_storm(
            tx, cause=STORAGE, shared_cause=cause, host="", reason=reason, now=now, delay=delay
        )

    def _scope_storm(self, tx: Transaction, incident: Incident, now: int) -> Incident | None:
        """Return the storm of the host, an aggregate or the cloud; open it if a limit is exceeded.

        An incident that an earlier storm held is not counted again.
        """
        causes = [scope.shared_cause for scope in self._breaker.scopes(incident.host)]
        if (storm := storms.find_open(tx, causes)) or incident.part_of:
            return storm
        exceeded = self._breaker.find_exceeded(tx, incident.host, now)
        if exceeded is None:
            return None
        scope, reason = exceeded
        return _open_storm(
            tx,
            cause=f"storm.{scope.kind}",
            shared_cause=scope.shared_cause,
            host=incident.host if scope.kind == HOST_SCOPE else "",
            reason=reason,
            now=now,
        )

    def _is_probe(self, tx: Transaction, incident: Incident, storm: Incident, now: int) -> bool:
        """Return whether this member is recovered now, as a probe of its storage."""
        if storm.cause != STORAGE:
            return False
        if incident.state == IncidentState.RECOVERING and storms.was_called_since(
            tx, incident.incident_id, storm.opened_at
        ):
            return True  # A further attempt of the probe.
        if now < storm.hold_until:
            return False
        first = storms.find_first_member(tx, storm.incident_id)
        if first and first.incident_id != incident.incident_id:
            return False
        if not storms.take_probe(tx, storm, self._next_probe(storm, now)):
            return False
        name = incident.instance.name or incident.instance.uuid
        message = f"instance {name} is recovered as a probe of its storage"
        note(tx, storm, now, TimelineKind.DECISION, message, probe=incident.incident_id)
        return True

    def _next_probe(self, storm: Incident, now: int) -> int:
        shortest = self._options.probe_interval * SECOND
        longest = self._options.probe_interval_max * SECOND
        return now + round(min(longest, max(shortest, (now - storm.opened_at) / 2)))


def _open_storm(
    tx: Transaction,
    *,
    cause: str,
    shared_cause: str,
    host: str,
    reason: str,
    now: int,
    delay: float = 0.0,
) -> Incident:
    """Open a storm.

    :param reason: one sentence for the operator; it remains the reason of the storm.
    :param delay: time before the first probe of a storage, in seconds.
    :raises vmmonitor.model.errors.Conflict: another engine opened it at the same time.
    """
    storm = Incident(
        incident_id=str(uuid.uuid4()),
        kind=IncidentKind.STORM,
        instance=Instance(uuid=""),
        host=host,
        cause=cause,
        severity=CRITICAL,
        state=IncidentState.PENDING,
        reason=reason,
        policy="",
        opened_at=now,
        hold_until=now + round(delay * SECOND),
        updated_at=now,
        event_count=0,
        shared_cause=shared_cause,
    )
    incidents.insert(tx, [storm])
    note(tx, storm, now, TimelineKind.DECISION, reason, shared_cause=shared_cause)
    storm = move(tx, storm, IncidentTransition.LEAVE, reason, now)
    LOG.warning("Storm %s opened, recoveries are held: %s", storm.incident_id, reason)
    return storm


def _denied(storm: Incident, now: int) -> Denied:
    return Denied(
        transition=IncidentTransition.HOLD,
        held_by=HoldReason.STORM,
        reason=f"storm {storm.incident_id}: {storm.reason}",
        until=now + round(EXAMINE_MEMBER_INTERVAL * SECOND),
        part_of=storm.incident_id,
    )
