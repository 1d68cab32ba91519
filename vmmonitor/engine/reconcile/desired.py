# SPDX-License-Identifier: Apache-2.0
"""The desired state of all instances, as the expectation reports it."""

from collections.abc import Collection, Sequence

from vmmonitor.db.session import Database
from vmmonitor.expectation import Expectation
from vmmonitor.model.clock import SECOND
from vmmonitor.model.desired import DesiredState, DesiredStatus
from vmmonitor.model.observed import ObservedInstance

#: Interval of requests for a full snapshot instead of the changes, in microseconds.
RESYNC_INTERVAL = 3600 * SECOND


class DesiredStates:
    """Keeps the desired state up to date with the changes since the last refresh.

    :ivar changed: uuids of the instances whose state the last refresh contained.
    """

    def __init__(self, database: Database, expectation: Expectation):
        """Create an empty state, which the first refresh fills."""
        self.changed: set[str] = set()
        self._database = database
        self._expectation = expectation
        self._states: dict[str, DesiredState] = {}
        self._since: int | None = None
        self._full_at = 0

    def refresh(self, trusted: Sequence[ObservedInstance]) -> None:
        """Request the changes since the last refresh, or a full snapshot.

        :param trusted: instances that the agents report, where that can be trusted.
        :raises vmmonitor.model.errors.Retriable: the expectation is not available; the next
            refresh requests a full snapshot.
        """
        now = self._database.now()
        if now - self._full_at > RESYNC_INTERVAL:
            self._since = None
        since, self._since = self._since, None
        snapshot = self._expectation.survey(since, trusted)
        if since is None:
            self._full_at = now
        if snapshot.whole:
            self._states = {}
        newest = {state.instance.uuid: state for state in snapshot.states}
        self.changed = set(newest)
        self._states |= newest
        self._since = snapshot.until

    def forget_deleted(self, observed: Collection[str]) -> None:
        """Forget the deleted instances that are on no host.

        :param observed: uuids of the instances that are on a host.
        """
        for instance_uuid, desired in list(self._states.items()):
            if desired.state == DesiredStatus.GONE and instance_uuid not in observed:
                del self._states[instance_uuid]

    def uuids(self) -> set[str]:
        """Return the uuids of the instances that have a desired state."""
        return set(self._states)

    def by_host(self) -> dict[str, list[str]]:
        """Return desired host -> uuids of the instances that should be there."""
        found: dict[str, list[str]] = {}
        for instance_uuid, state in self._states.items():
            if state.host and state.state != DesiredStatus.GONE:
                found.setdefault(state.host, []).append(instance_uuid)
        return found

    def get(self, instance_uuid: str) -> DesiredState | None:
        """Return the desired state of an instance, or None."""
        return self._states.get(instance_uuid)
