# SPDX-License-Identifier: Apache-2.0
"""What the agents say of all instances, and which of them can be trusted now."""

import collections
import dataclasses
from collections.abc import Iterator

from vmmonitor.db import agents, events
from vmmonitor.db.session import Database
from vmmonitor.model.event import RUNNING_AGAIN
from vmmonitor.model.observed import InventoryTrust, ObservedInstance
from vmmonitor.model.states import AgentState

#: Events that say that an instance ended, whatever else they say.
ENDED = frozenset({"lifecycle.stopped", "lifecycle.crashed", "process.exited"})


class ObservedState:
    """The inventories of all hosts; those that did not change are not read again.

    :ivar trusted: the hosts whose inventories can be trusted now.
    :ivar unconfirmed: uuids of instances that are lost on a host that has events left to tell.
    """

    def __init__(self, database: Database):
        """Know nothing yet."""
        self.trusted: set[str] = set()
        self.unconfirmed: set[str] = set()
        self._database = database
        self._watches: dict[str, InventoryTrust] = {}
        #: host -> (digest, what is there)
        self._read: dict[str, tuple[str, list[ObservedInstance]]] = {}
        self._explained: set[tuple[str, str, int]] = set()

    def look(self, late_after: float) -> None:
        """Read what changed since the last look.

        :param late_after: ``[housekeeping] late_after``.
        :raises vmmonitor.model.errors.Retriable: the database is away.
        """
        now = self._database.now()
        with self._database.reader() as tx:
            self._watches = {watch.host: watch for watch in agents.inventory_trusts(tx)}
            for host in self._read.keys() - self._watches.keys():
                del self._read[host]
            for host, watch in self._watches.items():
                if self._read.get(host, ("", []))[0] != watch.digest:
                    self._read[host] = (watch.digest, agents.observed_instances(tx, host))
        self.trusted = {
            host for host, watch in self._watches.items() if _is_trusted(watch, now, late_after)
        }
        self._explain()

    def sights(self) -> dict[str, list[ObservedInstance]]:
        """Return every sight, trusted or not, by the instance's uuid."""
        by_uuid: dict[str, list[ObservedInstance]] = collections.defaultdict(list)
        for _, sights in self._read.values():
            for one in sights:
                by_uuid[one.seen.instance.uuid].append(one)
        return by_uuid

    def trusted_instances(self) -> list[ObservedInstance]:
        """Return the sights on trusted hosts; one is lost only where no event told why."""
        return [
            dataclasses.replace(one, lost_at=0) if _key(one) in self._explained else one
            for host in sorted(self.trusted)
            for one in self._read.get(host, ("", []))[1]
        ]

    def _explain(self) -> None:
        """Find out which of the instances that are lost have a stored event that told of it."""
        lost = {_key(one): one for one in self._lost()}
        self._explained &= lost.keys()
        if open_questions := lost.keys() - self._explained:
            with self._database.reader() as tx:
                for host, uuid, since in open_questions:
                    last = events.last_type(tx, uuid, host, ENDED | RUNNING_AGAIN)
                    if last in ENDED:
                        self._explained.add((host, uuid, since))
        self.unconfirmed = {
            uuid
            for host, uuid, since in open_questions - self._explained
            if not self._watches[host].settled
        }

    def _lost(self) -> Iterator[ObservedInstance]:
        for host in self.trusted:
            yield from (one for one in self._read[host][1] if one.lost_at)


def _key(sight: ObservedInstance) -> tuple[str, str, int]:
    return sight.host, sight.seen.instance.uuid, sight.lost_at


def _is_trusted(watch: InventoryTrust, now: int, late_after: float) -> bool:
    in_time = now - watch.seen_at <= late_after * watch.interval * 1_000_000
    return watch.state in (AgentState.UP, AgentState.BEHIND) and watch.current and in_time
