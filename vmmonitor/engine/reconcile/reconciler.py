# SPDX-License-Identifier: Apache-2.0
"""Finds failures that no event reported, by comparing the desired with the observed state.

    expectation.survey() --> desired state  --.
                                               >-- compare --> drift record --> event
    agents' inventories  --> observed state --'               (drift_tracking.py)

Each engine runs all of it.
"""

from collections.abc import Sequence

from oslo_config import cfg

from vmmonitor.db import drift_records, owners
from vmmonitor.db.session import Database
from vmmonitor.engine.ingest.local_events import LocalEvents
from vmmonitor.engine.reconcile import drift
from vmmonitor.engine.reconcile.desired import DesiredStates
from vmmonitor.engine.reconcile.desired_owners import DesiredOwners
from vmmonitor.engine.reconcile.drift_tracking import DriftTracker
from vmmonitor.engine.reconcile.observed import ObservedState
from vmmonitor.expectation import Expectation
from vmmonitor.model.drift import Drift
from vmmonitor.model.observed import ObservedInstance
from vmmonitor.periodic import PeriodicThread

#: Interval of reading ``[reconcile] interval`` again while it is 0 (off), in seconds.
OFF_INTERVAL = 5.0


class Reconciler:
    """Compares all instances at an interval, in a thread of its own."""

    def __init__(
        self,
        *,
        conf: cfg.ConfigOpts,
        database: Database,
        expectation: Expectation,
        local_events: LocalEvents,
    ):
        """Create a reconciler; ``start`` starts its thread.

        :param local_events: stores the events that report a drift.
        """
        self._conf = conf
        self._database = database
        self._observed = ObservedState(database)
        #: (instance uuid, host) of the claims that the owner contests.
        self._disputed: set[tuple[str, str]] = set()
        self._desired = DesiredStates(database, expectation)
        self._owners = DesiredOwners(database, local_events) if expectation.NAMES_HOST else None
        self._tracker = DriftTracker(conf, database, local_events)
        self._thread = PeriodicThread(
            "reconcile",
            self._reconcile_if_enabled,
            lambda: conf.reconcile.interval or OFF_INTERVAL,
            failure="Reconciliation failed",
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop after the instance in progress.

        :param timeout: maximum time to wait for that, in seconds.
        """
        self._thread.stop(timeout)

    def _reconcile_if_enabled(self) -> None:
        if self._conf.reconcile.interval:
            self.reconcile()

    def reconcile(self) -> None:
        """Compare every instance once, and report the drift that lasts longer than its hold.

        :raises vmmonitor.model.errors.Retriable: the database or the expectation is not available.
        """
        # Read the observed state first: the desired state is newer then, and contains an operation
        # on an instance at the latest when its effect can be observed.
        self._observed.refresh(self._conf.housekeeping.late_after)
        with self._database.reader() as tx:
            self._disputed = owners.contested_places(tx)
        self._desired.refresh(
            [
                one
                for one in self._observed.trusted_instances()
                if (one.seen.instance.uuid, one.host) not in self._disputed
            ]
        )
        if self._owners:
            self._owners.update(self._desired)
        observed = self._observed.by_uuid()
        self._desired.forget_deleted(observed)
        with self._database.reader() as tx:
            records = {record.instance.uuid: record for record in drift_records.all(tx)}
        on_several_hosts = {key for key, instances in observed.items() if len(instances) > 1}
        with self._database.reader() as tx:
            owner_hosts = owners.hosts_of(tx, on_several_hosts)
        now = self._database.now()
        for instance_uuid in self._desired.uuids() | records.keys() | on_several_hosts:
            if self._thread.stopping.is_set():
                return
            owner = owner_hosts.get(instance_uuid, "")
            result = self._compare(instance_uuid, observed.get(instance_uuid, ()), owner)
            record = records.get(instance_uuid)
            self._tracker.update(result, record, self._observed.trusted_hosts, now)

    def _compare(
        self, instance_uuid: str, observed: Sequence[ObservedInstance], owner: str
    ) -> Drift | str:
        if instance_uuid in self._observed.unconfirmed:
            return drift.UNKNOWN
        desired = self._desired.get(instance_uuid)
        trusted = self._observed.trusted_hosts
        found = drift.compare(desired, observed, trusted, owner)
        if isinstance(found, Drift) and found.type == drift.TWO_HOSTS:
            return found
        # A contested claim is not believed: it must not hide that the instance is missing.
        believed = [one for one in observed if (instance_uuid, one.host) not in self._disputed]
        return drift.compare(desired, believed, trusted, owner)
