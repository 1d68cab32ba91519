# SPDX-License-Identifier: Apache-2.0
"""Many that fail at once, before the workers of one or more engines, on every database."""

import threading
from typing import Any

from vmmonitor.db import limits
from vmmonitor.engine.admission.restarts import RestartCheck
from vmmonitor.model.incident import Incident, Verdict, VerdictKind
from vmmonitor.model.recovery import Outcome, RecoveryRequest
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.engine.base import NOON, batch, delivery, policy, step

PER_HOST = 4
IN_ALL = 20
HOSTS = 10


class Crowd:
    """To be mixed into an EngineCase that has ``many``, the number of instances, and
    ``databases``, which returns one for each engine."""

    def test_many_at_once(self: Any) -> None:
        """All wait until there are turns; then never too many have one, the important first."""
        self.most = {"host": 0, "in all": 0}
        self.guard = threading.Lock()
        self.limit(max_recoveries_per_host=0, max_recoveries=IN_ALL)
        self.conf.set_override("poll_interval", 0.1, "recovery")
        self.policies = self.load(policy(steps=[step(wait_for="nothing")]))
        # Half of them equals, as where nobody says what is important.
        ranks = {samples.new_id(): max(0, number % 8 - 4) for number in range(self.many)}
        self.expectation.answer = lambda incident, _: Verdict(
            kind=VerdictKind.FAILED, reason="it failed", priority=ranks[incident.instance.uuid]
        )
        self.driver.answer = self.watch
        checks = [RestartCheck(self.conf)]
        engines = [self.recoveries(one, checks) for one in self.databases()]
        ingest = self.ingest(recovery_queue=engines[0])
        for start in range(0, self.many, 100):
            uuids = list(ranks)[start : start + 100]
            ingest.store(batch(*(self.failure(each) for each in enumerate(uuids))), 60)
        eventually(lambda: self.in_state("held") == self.many, timeout=300, what="all wait")
        self.assertEqual([], self.driver.requests)
        asked = len(self.expectation.asked)
        self.limit(max_recoveries_per_host=PER_HOST)
        eventually(
            lambda: self.in_state("unhandled") == self.many, timeout=300, what="all are done"
        )
        self.assertEqual(self.many, len(self.driver.requests))
        self.assertLessEqual(self.most["host"], PER_HOST)
        self.assertLessEqual(self.most["in all"], IN_ALL)
        # Each engine once for each, and now and then for one that has just been decided on.
        self.assertLess(asked, 1.5 * len(engines) * self.many)
        self.assertLess(len(self.expectation.asked) - asked, 1.2 * len(engines) * self.many)
        self.assert_order({one.incident_id: one for one in self.incidents()})

    def limit(self: Any, **options: int) -> None:
        for name, value in options.items():
            self.conf.set_override(name, value, "limits")

    def failure(self: Any, each: tuple[int, str]) -> Any:
        number, uuid = each
        return delivery(uuid=uuid, host=f"compute-{number % HOSTS}", occurred_at=NOON)

    def watch(self: Any, request: RecoveryRequest) -> Outcome:
        """Note how many are under way while one is."""
        with self.database.reader() as tx:
            under_way = limits.read_occupancy(tx).under_way
        with self.guard:
            self.most["host"] = max(self.most["host"], *under_way.values())
            self.most["in all"] = max(self.most["in all"], sum(under_way.values()))
        return Outcome(move="succeed", message="done")

    def assert_order(self: Any, by_id: dict[str, Incident]) -> None:
        """Of each host the k-th to be recovered was among the first that waited then: no more
        came before it than there are turns."""
        query = "SELECT incident_id FROM recoveries ORDER BY id"
        with self.database.reader() as tx:
            done = [by_id[one] for one in tx.exec_driver_sql(query).scalars()]
        for host in {one.host for one in done}:
            called = [one for one in done if one.host == host]
            line = sorted(called, key=lambda one: (-one.priority, one.opened_at, one.incident_id))
            for place, incident in enumerate(called):
                self.assertIn(incident, line[:PER_HOST], f"{host}: number {place}")
                line.remove(incident)

    def in_state(self: Any, state: str) -> int:
        counted = f"SELECT COUNT(*) FROM incidents WHERE state = '{state}'"
        with self.database.reader() as tx:
            return tx.exec_driver_sql(counted).scalar_one()
