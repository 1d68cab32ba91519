# SPDX-License-Identifier: Apache-2.0
"""The observed state of all instances: the agents' inventories, and which of them are trusted."""

import collections
import dataclasses
from collections.abc import Iterator

from vmmonitor.db import agents, events, inventories
from vmmonitor.db.session import Database
from vmmonitor.model.clock import SECOND
from vmmonitor.model.event import END_EVENTS, RUNNING_AGAIN
from vmmonitor.model.observed import InventoryTrust, ObservedInstance
from vmmonitor.model.states import AgentState


class ObservedState:
    """Caches the inventories of all hosts; reads only those that changed.

    :ivar trusted_hosts: hosts whose inventories can be trusted now.
    :ivar unconfirmed: uuids of instances that are lost on a host whose agent has events left to
        send, which may report why.
    """

    def __init__(self, database: Database):
        """Create an empty state, which the first refresh fills."""
        self.trusted_hosts: set[str] = set()
        self.unconfirmed: set[str] = set()
        self._database = database
        self._trust: dict[str, InventoryTrust] = {}
        #: host -> (digest of the inventory, its instances)
        self._inventories: dict[str, tuple[str, list[ObservedInstance]]] = {}
        #: Lost instances with a stored event that reports their end.
        self._confirmed: set[tuple[str, str, int]] = set()

    def refresh(self, late_after: float) -> None:
        """Read the inventories that changed since the last refresh.

        :param late_after: ``[housekeeping] late_after``.
        :raises vmmonitor.model.errors.Retriable: the database is not available.
        """
        now = self._database.now()
        with self._database.reader() as tx:
            self._trust = {trust.host: trust for trust in agents.inventory_trusts(tx)}
            for host in self._inventories.keys() - self._trust.keys():
                del self._inventories[host]
            for host, trust in self._trust.items():
                if self._inventories.get(host, ("", []))[0] != trust.digest:
                    self._inventories[host] = (trust.digest, inventories.observed(tx, host))
        self.trusted_hosts = {
            host for host, trust in self._trust.items() if _is_trusted(trust, now, late_after)
        }
        self._confirm_lost_instances()

    def by_uuid(self) -> dict[str, list[ObservedInstance]]:
        """Return all observed instances, trusted or not, by their uuid."""
        by_uuid: dict[str, list[ObservedInstance]] = collections.defaultdict(list)
        for _, instances in self._inventories.values():
            for instance in instances:
                by_uuid[instance.seen.instance.uuid].append(instance)
        return by_uuid

    def trusted_instances(self) -> list[ObservedInstance]:
        """Return the instances on trusted hosts.

        An instance counts as lost only if no event reported its end.
        """
        return [
            dataclasses.replace(each, lost_at=0) if _key(each) in self._confirmed else each
            for host in sorted(self.trusted_hosts)
            for each in self._inventories.get(host, ("", []))[1]
        ]

    def _confirm_lost_instances(self) -> None:
        """Find the lost instances with a stored event that reports their end."""
        lost = {_key(each) for each in self._lost()}
        self._confirmed &= lost
        if candidates := lost - self._confirmed:
            with self._database.reader() as tx:
                for host, uuid, since in candidates:
                    last = events.newest_type(tx, uuid, host, END_EVENTS | RUNNING_AGAIN)
                    if last in END_EVENTS:
                        self._confirmed.add((host, uuid, since))
        self.unconfirmed = {
            uuid for host, uuid, _ in candidates - self._confirmed if not self._trust[host].settled
        }

    def _lost(self) -> Iterator[ObservedInstance]:
        for host in self.trusted_hosts:
            yield from (each for each in self._inventories[host][1] if each.lost_at)


def _key(observed: ObservedInstance) -> tuple[str, str, int]:
    return observed.host, observed.seen.instance.uuid, observed.lost_at


def _is_trusted(trust: InventoryTrust, now: int, late_after: float) -> bool:
    in_time = now - trust.seen_at <= late_after * trust.interval * SECOND
    return trust.state in (AgentState.UP, AgentState.BEHIND) and trust.current and in_time
