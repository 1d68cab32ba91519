# SPDX-License-Identifier: Apache-2.0
"""Circuit breaker: detects that so many instances fail at once that recovery must pause."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from oslo_config import cfg

from vmmonitor.db import storms
from vmmonitor.db.session import Transaction
from vmmonitor.model.clock import SECOND
from vmmonitor.model.storage import MAX_CAUSE

HOST_SCOPE, AGGREGATE_SCOPE, CLOUD_SCOPE = "host", "aggregate", "cloud"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Census:
    """The instances and aggregates of all hosts, read at an interval.

    :param instances: host -> number of its instances, as its agent reported.
    :param aggregates: name of an aggregate -> its hosts.
    """

    instances: Mapping[str, int] = dataclasses.field(default_factory=dict)
    aggregates: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Hosts whose failures are counted together.

    :param kind: HOST, AGGREGATE or CLOUD.
    :param hosts: None for all hosts.
    """

    kind: str
    name: str
    hosts: Collection[str] | None

    @property
    def shared_cause(self) -> str:
        """The key of this scope's storm."""
        return (f"{self.kind}:{self.name}" if self.name else self.kind)[:MAX_CAUSE]

    def select(self, numbers: Mapping[str, int]) -> list[int]:
        """Return the numbers of the hosts in this scope."""
        return [
            count for host, count in numbers.items() if self.hosts is None or host in self.hosts
        ]

    def __str__(self) -> str:
        named = {HOST_SCOPE: f"host {self.name}", AGGREGATE_SCOPE: f"aggregate {self.name}"}
        return named.get(self.kind, "the cloud")


class CircuitBreaker:
    """Counts failures per scope and compares them with the limits of ``[storm]``."""

    def __init__(self, conf: cfg.ConfigOpts):
        """Start without a census: until the first one only absolute limits apply."""
        self._options = conf.storm
        #: Replaced as a whole, from any thread.
        self.census = Census()

    def scopes(self, host: str) -> Iterator[Scope]:
        """Yield the scopes that contain a host, the widest first."""
        yield Scope(kind=CLOUD_SCOPE, name="", hosts=None)
        for name, hosts in sorted(self.census.aggregates.items()):
            if host in hosts:
                yield Scope(kind=AGGREGATE_SCOPE, name=name, hosts=hosts)
        yield Scope(kind=HOST_SCOPE, name=host, hosts=(host,))

    def scope_of(self, shared_cause: str) -> Scope:
        """Return the scope of a storm."""
        kind, _, name = shared_cause.partition(":")
        hosts = {
            HOST_SCOPE: (name,),
            AGGREGATE_SCOPE: self.census.aggregates.get(name, ()),
            CLOUD_SCOPE: None,
        }
        return Scope(kind=kind, name=name, hosts=hosts[kind])

    def is_counted(self, scope: Scope) -> bool:
        """Return whether the census covers a scope. After a start it does not."""
        is_listed = scope.kind != AGGREGATE_SCOPE or scope.name in self.census.aggregates
        return is_listed and bool(self.census.instances)

    def limit(self, scope: Scope) -> int | None:
        """Return the number of failures above which a scope has a storm; None without a limit."""
        limit: int = self._options[f"{scope.kind}_limit"]
        percent: float = self._options[f"{scope.kind}_percent"]
        instances = sum(scope.select(self.census.instances))
        limits = [limit] if limit else []
        if percent and instances:
            limits.append(max(self._options.min_failures, int(instances * percent / 100)))
        return min(limits) if limits else None

    def count(self, tx: Transaction, since: int, now: int, besides: str = "") -> Mapping[str, int]:
        """Return the number of failures of each host; see ``db.storms.count_failures``."""
        shared = not self._options.storage_limit
        return storms.count_failures(tx, since, now, shared=shared, besides=besides)

    def find_exceeded(self, tx: Transaction, host: str, now: int) -> tuple[Scope, str] | None:
        """Return the widest scope of a host above its limit, and the reason as one sentence.

        Failures of a single host do not open a storm of a wider scope: at least half of the
        failures must be on other hosts.
        """
        numbers = self.count(tx, now - round(self._options.window * SECOND), now)
        for scope in self.scopes(host):
            counts, limit = scope.select(numbers), self.limit(scope)
            total = sum(counts)
            if limit is None or total <= limit:
                continue
            if scope.kind == HOST_SCOPE or max(counts) * 2 <= total:
                window = f"within {self._options.window:g} s"
                instances = sum(scope.select(self.census.instances))
                share = f" of {instances}" if instances else ""
                reason = f"{total}{share} instances of {scope} failed {window}"
                return scope, f"{reason}, more than {limit}"
        return None
