# SPDX-License-Identifier: Apache-2.0
"""Makes the host that the expectation names the owner of an instance.

Only a host with an agent can be an owner. If the expectation has another name for a host than its
agent, the owner stays, and the verdict on a failure is ``unknown``.
"""

import contextlib
import uuid
from collections.abc import Mapping

from oslo_log import log

from vmmonitor.db import agents, owners
from vmmonitor.db.session import Database
from vmmonitor.engine.ingest.local_events import LocalEvents
from vmmonitor.engine.reconcile.desired import DesiredStates
from vmmonitor.model.clock import SECOND
from vmmonitor.model.desired import DesiredState, DesiredStatus
from vmmonitor.model.errors import Conflict
from vmmonitor.model.event import ENGINE_SOURCE, OWNER_CHANGED, RawEvent
from vmmonitor.model.ownership import Owner

LOG = log.getLogger(__name__)

#: Overlap of two rounds, in microseconds: an owner is visible only after its commit.
_OVERLAP = 60 * SECOND
#: Maximum number of instances of a host whose owners show the name of its agent.
_MAX_COMPARED = 100
#: Namespace of the ids of events. Must never change.
_NAMESPACE = uuid.UUID("2c1b7b7e-55a4-4a3b-9a8e-2a5d0f0d9c43")
#: During an operation the host may be the old or the new one.
_UNDECIDED = (DesiredStatus.BUSY, DesiredStatus.GONE)


class DesiredOwners:
    """Compares the desired hosts that changed, and the owners that changed, once per round."""

    def __init__(self, database: Database, local_events: LocalEvents):
        """Compare nothing yet.

        :param local_events: stores the events that change an owner.
        """
        self._database = database
        self._local_events = local_events
        self._since = 0

    def update(self, desired: DesiredStates) -> None:
        """Store the owners of instances without one, and change those that differ.

        :raises vmmonitor.model.errors.Retriable: the database is not available.
        """
        now = self._database.now()
        with self._database.reader() as tx:
            changed = owners.changed_since(tx, self._since - _OVERLAP) if self._since else {}
            wanted = _wanted(desired, desired.changed | changed.keys())
            hosts = agents.reporting_hosts(tx, {state.host for state in wanted.values()})
            wanted = {key: state for key, state in wanted.items() if state.host in hosts}
            known = owners.hosts_of(tx, wanted.keys())
        new = [
            Owner(instance_uuid=key, host=state.host, since=now)
            for key, state in wanted.items()
            if key not in known
        ]
        # A host that reported an instance meanwhile is compared in the next round.
        with contextlib.suppress(Conflict):
            self._database.run(owners.insert, new)
        for key, state in sorted(wanted.items()):
            if key in known and known[key] != state.host:
                self._change_owner(state, known[key], now)
        self._since = now
        self._compare_names(desired)

    def _compare_names(self, desired: DesiredStates) -> None:
        """Store the names of hosts that differ from those of their agents."""
        by_host = desired.by_host()
        names: dict[str, str] = {}
        with self._database.reader() as tx:
            unknown = by_host.keys() - agents.reporting_hosts(tx, by_host.keys())
            for name in sorted(unknown):
                found = owners.hosts_of(tx, by_host[name][:_MAX_COMPARED])
                names |= dict.fromkeys(found.values(), name)
            is_current = names == agents.expected_names(tx)
        if not is_current:
            self._database.run(agents.set_expected_names, names)

    def _change_owner(self, state: DesiredState, before: str, now: int) -> None:
        instance_uuid = state.instance.uuid
        LOG.info(
            "Instance %s belongs to host %s now, not to %s: the expectation names this host",
            instance_uuid,
            state.host,
            before,
        )
        name = f"{instance_uuid} {before} {state.host} {now}"
        event = RawEvent(
            source=ENGINE_SOURCE,
            type=OWNER_CHANGED,
            detail="",
            occurred_at=now,
            instance=state.instance,
            attributes={"owner_before": before, "reason": "the expectation names this host"},
            host=state.host,
            event_id=str(uuid.uuid5(_NAMESPACE, name)),
        )
        self._local_events.store_unfiltered([event])


def _wanted(desired: DesiredStates, keys: set[str]) -> Mapping[str, DesiredState]:
    """Return instance uuid -> desired state, of those with a certain host."""
    states = {key: desired.get(key) for key in keys}
    return {
        key: state
        for key, state in states.items()
        if state is not None and state.host and state.state not in _UNDECIDED
    }
