# SPDX-License-Identifier: Apache-2.0
"""What every database must do with agents and inventories."""

import dataclasses
from typing import Any

from vmmonitor.db import agents
from vmmonitor.db.session import Database
from vmmonitor.model import errors, states
from vmmonitor.model.agent import Agent
from vmmonitor.model.instance import Seen
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND


class AgentsContract:
    database: Database

    def test_the_newest_report_is_what_the_agent_is(self: Any) -> None:
        first = samples.report()
        self.assertEqual("", self.database.run(agents.report, first, NOON))
        self.assertEqual(Agent(report=first, state=states.UP, seen_at=NOON), self._get())
        second = dataclasses.replace(
            first, state=states.BLIND, reason="libvirt is away", interval=2.5, figures={}
        )
        self.database.run(agents.report, second, NOON + 1)
        self.assertEqual(Agent(report=second, state=states.BLIND, seen_at=NOON + 1), self._get())

    def test_the_same_report_twice(self: Any) -> None:
        for _ in range(2):
            self.database.run(agents.report, samples.report(), NOON)
        self.assertEqual(NOON, self._get().seen_at)

    def test_no_such_agent(self: Any) -> None:
        with self.database.reader() as tx, self.assertRaises(errors.NotFound):
            agents.get(tx, "nowhere")

    def test_who_is_silent_becomes_late_once(self: Any) -> None:
        for host, state in (("b", states.UP), ("a", states.BLIND), ("c", states.STOPPED)):
            self.database.run(agents.report, samples.report(host=host, state=state), NOON)
        self.database.run(agents.report, samples.report(host="slow", interval=60.5), NOON)
        after = NOON + 30 * SECOND
        self.assertEqual([], self.database.run(agents.mark_late, after, 3.0))
        self.assertEqual(["a", "b"], self.database.run(agents.mark_late, after + 1, 3.0))
        self.assertEqual([], self.database.run(agents.mark_late, after + 2, 3.0))
        late = self._get("a")
        self.assertEqual((states.LATE, states.BLIND), (late.state, late.report.state))
        self.assertEqual(states.STOPPED, self._get("c").state)
        self.database.run(agents.report, samples.report(host="a"), after)
        self.assertEqual(states.UP, self._get("a").state)

    def test_an_inventory_replaces_the_one_before(self: Any) -> None:
        self.database.run(agents.report, samples.report(), NOON)
        one = Seen(instance=samples.instance(name="a"), state="running", run_id=7)
        two = Seen(instance=samples.instance(name="b"), state="shutoff", persistent=False)
        elsewhere = Seen(instance=one.instance, state="shutoff")
        defined = dataclasses.replace(two, definition="<domain/>")
        self.database.run(agents.replace_inventory, "compute-1", "1", [defined, one], NOON)
        self.database.run(agents.replace_inventory, "compute-2", "2", [elsewhere], NOON)
        with self.database.reader() as tx:
            self.assertEqual([one, two], agents.inventory(tx, "compute-1"))
        self.assertEqual("1", self.database.run(agents.report, samples.report(), NOON))
        self.database.run(agents.replace_inventory, "compute-1", "3", [], NOON)
        with self.database.reader() as tx:
            self.assertEqual([], agents.inventory(tx, "compute-1"))
            self.assertEqual([elsewhere], agents.inventory(tx, "compute-2"))
        self.assertEqual("3", self.database.run(agents.report, samples.report(), NOON))

    def test_engines_that_store_one_inventory_wait_for_each_other(self: Any) -> None:
        self.database.run(agents.report, samples.report(), NOON)
        crowd = [Seen(instance=samples.instance(name=str(n)), state="running") for n in range(9)]
        databases = [self.another() for _ in range(4)]

        def replace(number: int) -> None:
            for _ in range(5):
                databases[number].run(agents.replace_inventory, "compute-1", "1", crowd, NOON)

        self.assertEqual([None] * 4, race(4, replace))
        with self.database.reader() as tx:
            self.assertEqual(crowd, agents.inventory(tx, "compute-1"))

    def _get(self: Any, host: str = "compute-1") -> Agent:
        with self.database.reader() as tx:
            return agents.get(tx, host)
