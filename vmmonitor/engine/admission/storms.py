# SPDX-License-Identifier: Apache-2.0
"""The storm fuse: when so much fails at once that it has one cause, what fails is held, as one
incident of the kind STORM, until that is over.

Two things make a storm: failures beyond what a host, an aggregate or the cloud may have within a
window, whatever they are; and a few disk errors of one storage. A gate (``Storms.gate``) puts the
incidents in, one by one, as they come to be recovered. ``engine.storm_watch`` ends a storm.
"""

import dataclasses
import uuid
from collections.abc import Collection, Iterator, Mapping

from oslo_config import cfg
from oslo_log import log

from vmmonitor.db import incidents, storms, timeline_entries
from vmmonitor.db.session import Transaction
from vmmonitor.engine.admission.check import Refusal
from vmmonitor.engine.incidents.transitions import move, note
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import CRITICAL
from vmmonitor.model.incident import HoldReason, Incident, IncidentKind
from vmmonitor.model.instance import Instance
from vmmonitor.model.states import IncidentState
from vmmonitor.model.storage import MAX_CAUSE
from vmmonitor.model.timeline import TimelineEntry, TimelineKind
from vmmonitor.rules.policies import Policy

LOG = log.getLogger(__name__)

HOST, AGGREGATE, CLOUD = "host", "aggregate", "cloud"
#: Cause of a storm whose members share a storage; ``storm.host`` and so on of the others.
STORAGE = "storm.storage"
#: Seconds after which a member is examined again though its storm goes on: what was planned or
#: is gone since is let go of, and none can be forgotten.
EXAMINE = 600.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Census:
    """What is known of the hosts; read now and then.

    :param instances: host -> number of its instances, as the agents told.
    :param aggregates: name of an aggregate -> its hosts.
    """

    instances: Mapping[str, int] = dataclasses.field(default_factory=dict)
    aggregates: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """In which failures are counted together.

    :param kind: HOST, AGGREGATE or CLOUD.
    :param hosts: its hosts; None: all.
    """

    kind: str
    name: str
    hosts: Collection[str] | None

    @property
    def shared_cause(self) -> str:
        """What tells this scope's storm from all others."""
        return (f"{self.kind}:{self.name}" if self.name else self.kind)[:MAX_CAUSE]

    def of(self, numbers: Mapping[str, int]) -> list[int]:
        """Return the numbers of its hosts."""
        return [
            count for host, count in numbers.items() if self.hosts is None or host in self.hosts
        ]

    def __str__(self) -> str:
        return {HOST: f"host {self.name}", AGGREGATE: f"aggregate {self.name}"}.get(
            self.kind, "the cloud"
        )


class Fuse:
    """Counts failures, and knows how many are too many."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Know nothing of hosts yet: only the limits count that are no percentage."""
        self._options = conf.storm
        #: Replaced as a whole, from any thread.
        self.census = Census()

    def scopes(self, host: str) -> Iterator[Scope]:
        """Yield the scopes that a host belongs to, the widest first."""
        yield Scope(kind=CLOUD, name="", hosts=None)
        for name, hosts in sorted(self.census.aggregates.items()):
            if host in hosts:
                yield Scope(kind=AGGREGATE, name=name, hosts=hosts)
        yield Scope(kind=HOST, name=host, hosts=(host,))

    def scope(self, shared_cause: str) -> Scope:
        """Return the scope of a storm."""
        kind, _, name = shared_cause.partition(":")
        hosts = {HOST: (name,), AGGREGATE: self.census.aggregates.get(name, ()), CLOUD: None}
        return Scope(kind=kind, name=name, hosts=hosts[kind])

    def knows(self, scope: Scope) -> bool:
        """Tell whether enough is known of a scope's hosts to count in it; not so at the start."""
        known = scope.kind != AGGREGATE or scope.name in self.census.aggregates
        return known and bool(self.census.instances)

    def most(self, scope: Scope) -> int | None:
        """Return how many failures are no storm yet; None: any number."""
        limit: int = self._options[f"{scope.kind}_limit"]
        percent: float = self._options[f"{scope.kind}_percent"]
        instances = sum(scope.of(self.census.instances))
        limits = [limit] if limit else []
        if percent and instances:
            limits.append(max(self._options.min_failures, int(instances * percent / 100)))
        return min(limits) if limits else None

    def count(self, tx: Transaction, since: int, now: int, besides: str = "") -> Mapping[str, int]:
        """Return the failures of each host; see ``db.storms.failures``."""
        shared = not self._options.storage_limit
        return storms.failures(tx, since, now, shared=shared, besides=besides)

    def blown(self, tx: Transaction, host: str, now: int) -> tuple[Scope, str] | None:
        """Return the widest scope of a host that has too many failures, and how many, in words.

        What is one host's trouble is no wider scope's: half of the failures must be of others.
        """
        numbers = self.count(tx, now - round(self._options.window * SECOND), now)
        for scope in self.scopes(host):
            counts, most = scope.of(numbers), self.most(scope)
            total = sum(counts)
            if most is None or total <= most:
                continue
            if scope.kind == HOST or max(counts) * 2 <= total:
                window = f"within {self._options.window:g} s"
                instances = sum(scope.of(self.census.instances))
                of = f" of {instances}" if instances else ""
                return scope, f"{total}{of} instances of {scope} failed {window}, more than {most}"
        return None


class Storms:
    """Holds what is part of a storm."""

    def __init__(self, conf: cfg.ConfigOpts, fuse: Fuse):
        """Keep the parts.

        :param fuse: what it knows of hosts is brought up to date by others.
        """
        self._options = conf.storm
        self._fuse = fuse

    def gate(
        self, tx: Transaction, incident: Incident, policy: Policy | None, now: int
    ) -> Refusal | None:
        """Hold an incident that is part of a storm, or with which one begins; see ``gates``."""
        if policy is None:
            return None
        known = storms.find(tx, incident.part_of) if incident.part_of else None
        if known:
            return None if self._may_probe(tx, incident, known, now) else _refusal(known, now)
        storm = self._of_storage(tx, incident, now) or self._of_scope(tx, incident, now)
        if storm is None:
            return None
        storms.join(tx, storm, now)
        return _refusal(storm, now)

    def _of_storage(self, tx: Transaction, incident: Incident, now: int) -> Incident | None:
        """Return the storm of the storage that fails under this instance; None if there is none,
        and it fails under few others."""
        cause, least = incident.shared_cause, self._options.storage_limit
        if not cause or not least:
            return None
        if (storm := storms.open_among(tx, [cause])) or incident.part_of:
            return storm
        since = now - round(self._options.storage_window * SECOND)
        number = storms.sharing(tx, cause, since)
        if number < least:
            return None
        why = f"{number} instances have disk errors of {cause.partition(':')[2]}"
        # Those that failed before it was a storm try it already.
        wait = self._options.probe_interval if storms.is_tried(tx, cause) else 0.0
        return _begin(tx, STORAGE, cause, "", why, now, wait)

    def _of_scope(self, tx: Transaction, incident: Incident, now: int) -> Incident | None:
        """Return the storm in which this failure is; None if there is none, and it is not one
        too many. What was held by a storm before is not counted any more."""
        causes = [scope.shared_cause for scope in self._fuse.scopes(incident.host)]
        if (storm := storms.open_among(tx, causes)) or incident.part_of:
            return storm
        blown = self._fuse.blown(tx, incident.host, now)
        if blown is None:
            return None
        scope, why = blown
        host = incident.host if scope.kind == HOST else ""
        return _begin(tx, f"storm.{scope.kind}", scope.shared_cause, host, why, now)

    def _may_probe(self, tx: Transaction, incident: Incident, storm: Incident, now: int) -> bool:
        """Tell whether it is the one that is to try whether its storage works again."""
        if storm.cause != STORAGE or now < storm.hold_until:
            return False
        first = storms.foremost(tx, storm.incident_id)
        if first and first.incident_id != incident.incident_id:
            return False
        if not storms.take_probe(tx, storm, self._next_probe(storm, now)):
            return False
        who = incident.instance.name or incident.instance.uuid
        note(
            *(tx, storm, now, "decision", f"instance {who} is tried: does its storage work?"),
            tried=incident.incident_id,
        )
        return True

    def _next_probe(self, storm: Incident, now: int) -> int:
        least = self._options.probe_interval * SECOND
        most = self._options.probe_interval_max * SECOND
        return now + round(min(most, max(least, (now - storm.opened_at) / 2)))


def _begin(
    tx: Transaction,
    cause: str,
    shared_cause: str,
    host: str,
    why: str,
    now: int,
    wait: float = 0.0,
) -> Incident:
    """Open a storm.

    :param why: one sentence for a person, and the reason of the storm from then on.
    :param wait: seconds before a member may be tried, of a storage's storm.
    :raises vmmonitor.model.errors.Conflict: another engine did, at the same time.
    """
    storm = Incident(
        incident_id=str(uuid.uuid4()),
        kind=IncidentKind.STORM,
        instance=Instance(uuid=""),
        host=host,
        cause=cause,
        severity=CRITICAL,
        state=IncidentState.PENDING,
        reason=why,
        policy="",
        opened_at=now,
        hold_until=now + round(wait * SECOND),
        updated_at=now,
        event_count=0,
        shared_cause=shared_cause,
    )
    incidents.insert(tx, [storm])
    note(tx, storm, now, "decision", why, shared_cause=shared_cause)
    storm = move(tx, storm, "leave", why, now)
    LOG.warning("Storm %s, what fails is held: %s", storm.incident_id, why)
    return storm


def _refusal(storm: Incident, now: int) -> Refusal:
    return Refusal(
        move="hold",
        held_by=HoldReason.STORM,
        reason=f"storm {storm.incident_id}: {storm.reason}",
        until=now + round(EXAMINE * SECOND),
        part_of=storm.incident_id,
    )


def release(tx: Transaction, storm: Incident, reason: str, now: int) -> int:
    """End a storm and make its members due, at once.

    Those that were tried in vain meanwhile are tried again, if it was one of a storage.

    :param storm: locked by this transaction (``incidents.lock``) and open.
    :param reason: why; one sentence for a person.
    :param now: microseconds since the epoch, engines' clock.
    :return: how many incidents go on.
    :raises vmmonitor.model.errors.IllegalTransition: it is over.
    """
    move(tx, storm, "run", reason, now)
    message = f"storm {storm.incident_id} is over: {reason}"
    held = storms.release(tx, storm.incident_id, now)
    timeline_entries.insert(tx, [_told(ident, message, now) for ident in held])
    failed = storms.given_up(tx, storm.incident_id) if storm.cause == STORAGE else []
    for ident in failed:
        incident = incidents.lock(tx, ident)
        move(tx, incident, "retry", message, now, hold_until=now)
    LOG.warning("Storm %s is over, %d go on: %s", storm.incident_id, len(held), reason)
    return len(held) + len(failed)


def _told(incident_id: str, message: str, now: int) -> TimelineEntry:
    return TimelineEntry(incident_id=incident_id, at=now, kind=TimelineKind.HOLD, message=message)
