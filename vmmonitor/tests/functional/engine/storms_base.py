# SPDX-License-Identifier: Apache-2.0
"""What the tests of storms share: failures that come to be decided on, and the watch."""

from collections.abc import Mapping, Sequence
from typing import Any

from vmmonitor.db import incidents, storms, timeline_entries
from vmmonitor.db.page import Page
from vmmonitor.engine.admission.circuit_breaker import Census, CircuitBreaker
from vmmonitor.engine.admission.storm_monitor import StormMonitor
from vmmonitor.engine.admission.storms import StormCheck
from vmmonitor.engine.recovery.decisions import Decisions
from vmmonitor.expectation import Expectation
from vmmonitor.model import states
from vmmonitor.model.incident import Incident, Verdict
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import IT_FAILED, RUNS, delivery

RBD = {"path": "vms/disk-1", "device": "virtio-disk1", "storage": "rbd:vms@mon-1"}
DISK_ERROR = "io_error/pause"


class Aggregates(Expectation):
    """Knows the aggregates that it is told."""

    def __init__(self, conf: Any):
        super().__init__(conf)
        self.known: Mapping[str, Sequence[str]] | Exception = {}

    def judge(self, incident: Incident, events: Any) -> Verdict:
        raise NotImplementedError

    def aggregates(self) -> Mapping[str, Sequence[str]]:
        if isinstance(self.known, Exception):
            raise self.known
        return self.known


class StormCase(base.EngineCase):
    """Twenty instances on each of ten hosts."""

    def setUp(self) -> None:
        super().setUp()
        self.breaker, self.watch = self.engine()
        self.know({f"node-{number}": 20 for number in range(10)})

    def engine(self, database: Any = None) -> tuple[CircuitBreaker, StormMonitor]:
        breaker = CircuitBreaker(self.conf)
        expectation = Aggregates(self.conf)
        return breaker, StormMonitor(self.conf, database or self.database, breaker, expectation)

    def know(self, instances: Mapping[str, int], **aggregates: Sequence[str]) -> None:
        self.breaker.census = Census(instances=instances, aggregates=aggregates)

    def gated(self) -> Decisions:
        return self.decisions([StormCheck(self.conf, self.breaker)])

    # -- what happens --------------------------------------------------------------------------
    def fail(self, number: int, host: str = "node-0", **fields: Any) -> list[str]:
        """Let so many instances of a host fail; returns their uuids."""
        uuids = [samples.new_id() for _ in range(number)]
        self.fail_again(uuids, host, **fields)
        return uuids

    def fail_again(self, uuids: Sequence[str], host: str = "node-0", **fields: Any) -> None:
        fields = {"occurred_at": self.clock, **fields}
        self.store(*(delivery(uuid=uuid, host=host, **fields) for uuid in uuids))

    def run_again(self, uuids: Sequence[str], host: str = "node-0") -> None:
        at = self.clock
        self.store(*(delivery(RUNS, uuid=uuid, host=host, occurred_at=at) for uuid in uuids))

    def decide_due(self, verdict: Verdict = IT_FAILED) -> int:
        """Decide on what is due, as the workers do; returns how many recoveries began."""
        with self.database.reader() as tx:
            due = incidents.due(tx, self.clock, 10000)
        decisions = self.gated()
        claims = [self.database.run(decisions.decide, one, verdict) for one in due]
        for claim in filter(None, claims):
            self.finish(claim)
        return len(claims) - claims.count(None)

    def pass_time(self, seconds: float) -> None:
        """Let time pass; the watch looks at the end of it."""
        self.later(seconds)
        self.watch.evaluate_storms()

    # -- what is there -------------------------------------------------------------------------
    def of_kind(self, kind: str, **filters: str) -> list[Incident]:
        wanted = {"kind": kind, **filters}
        with self.database.reader() as tx:
            page = Page(limit=10000, filters=wanted, sort=[("opened_at", "asc")])
            return incidents.page(tx, page)

    def storm(self) -> Incident:
        """The one storm that is open."""
        (one,) = [
            each for each in self.of_kind("storm") if each.state in states.OPEN_INCIDENT_STATES
        ]
        return one

    def storms(self) -> list[tuple[str, str, str]]:
        return [(one.shared_cause, one.cause, one.state) for one in self.of_kind("storm")]

    def count(self, state: str) -> int:
        return len(self.of_kind("instance", state=state))

    def members(self, storm: Incident | None = None) -> list[Incident]:
        return self.of_kind("instance", part_of=(storm or self.storm()).incident_id)

    def steps(self, incident: Incident) -> list[str]:
        with self.database.reader() as tx:
            return [
                step.message for step in timeline_entries.of_incident(tx, incident.incident_id)
            ]

    def lock(self, tx: Any, incident: Incident) -> Incident:
        return incidents.lock(tx, incident.incident_id)

    def open_ones(self) -> list[str]:
        with self.database.reader() as tx:
            return storms.list_open_ids(tx)
