# SPDX-License-Identifier: Apache-2.0
"""What every database must do with agents and inventories."""

import dataclasses
import functools
from typing import Any

from vmmonitor.db import agents, inventories
from vmmonitor.db.session import Database
from vmmonitor.engine.upkeep.reporting_hosts import ReportingHosts
from vmmonitor.model import errors
from vmmonitor.model.agent import Agent
from vmmonitor.model.clock import HostClock
from vmmonitor.model.instance import PAUSED, RUNNING, Seen
from vmmonitor.model.states import AgentState
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND


class AgentsContract:
    database: Database

    def test_the_newest_report_is_what_the_agent_is(self: Any) -> None:
        first = samples.report()
        self.assertEqual("", self.database.run(agents.store_report, first, NOON))
        clock = HostClock(samples=(0,))
        expected = Agent(report=first, state=AgentState.UP, seen_at=NOON, clock=clock)
        self.assertEqual(expected, self._get())
        second = dataclasses.replace(
            first, state=AgentState.BLIND, reason="libvirt is away", interval=2.5, figures={}
        )
        self.database.run(agents.store_report, second, NOON + 1)
        expected = Agent(
            report=second,
            state=AgentState.BLIND,
            seen_at=NOON + 1,
            clock=HostClock(samples=(0, 1)),
            unwatched_since=NOON + 1,
        )
        self.assertEqual(expected, self._get())

    def test_the_same_report_twice(self: Any) -> None:
        for _ in range(2):
            self.database.run(agents.store_report, samples.report(), NOON)
        self.assertEqual(NOON, self._get().seen_at)

    def test_no_such_agent(self: Any) -> None:
        with self.database.reader() as tx, self.assertRaises(errors.NotFound):
            agents.get(tx, "nowhere")

    def test_who_is_silent_becomes_late_once(self: Any) -> None:
        for host, state in (
            ("b", AgentState.UP),
            ("a", AgentState.BLIND),
            ("c", AgentState.STOPPED),
        ):
            self.database.run(agents.store_report, samples.report(host=host, state=state), NOON)
        self.database.run(agents.store_report, samples.report(host="slow", interval=60.5), NOON)
        after = NOON + 30 * SECOND
        self.assertEqual([], self.database.run(agents.mark_late, after, 3.0))
        self.assertEqual(["a", "b"], self.database.run(agents.mark_late, after + 1, 3.0))
        self.assertEqual([], self.database.run(agents.mark_late, after + 2, 3.0))
        late = self._get("a")
        self.assertEqual((AgentState.LATE, AgentState.BLIND), (late.state, late.report.state))
        self.assertEqual(AgentState.STOPPED, self._get("c").state)
        self.database.run(agents.store_report, samples.report(host="a"), after)
        self.assertEqual(AgentState.UP, self._get("a").state)

    def test_hosts_with_an_agent_in_time_are_reporting(self: Any) -> None:
        hosts = ReportingHosts(self.database)
        for state in AgentState:
            report = samples.report(host=state, state=state)
            self.database.run(agents.store_report, report, NOON)
        reporting = {state for state in AgentState if hosts.is_reporting(state)}
        self.assertEqual({AgentState.UP, AgentState.BLIND, AgentState.BEHIND}, reporting)
        self.assertFalse(hosts.is_reporting("up.example.org"))

    def test_running_instance_is_reported_by_an_agent_that_reaches_libvirt(self: Any) -> None:
        hosts = ReportingHosts(self.database)
        seen = Seen(instance=samples.instance(), state=RUNNING)
        self.database.run(inventories.replace, "a", "digest", [seen], NOON)
        for state in AgentState:
            report = samples.report(host="a", state=state)
            self.database.run(agents.store_report, report, NOON)
            expected = state in (AgentState.UP, AgentState.BEHIND)
            self.assertEqual(expected, hosts.is_running("a", seen.instance.uuid), state)
        self.database.run(agents.store_report, samples.report(host="a"), NOON)
        self.assertFalse(hosts.is_running("b", seen.instance.uuid))
        paused = dataclasses.replace(seen, state=PAUSED)
        self.database.run(inventories.replace, "a", "other", [paused], NOON)
        self.assertFalse(hosts.is_running("a", seen.instance.uuid))

    def test_nobody_is_late_who_had_no_chance_to_report(self: Any) -> None:
        self.database.run(agents.store_report, samples.report(interval=10.0), NOON)
        began = NOON + 3600 * SECOND
        grace = 30 * SECOND
        late = functools.partial(self.database.run, agents.mark_late)
        self.assertEqual([], late(began, 3.0, began))
        self.assertEqual([], late(began + grace, 3.0, began))
        self.assertEqual(["compute-1"], late(began + grace + 1, 3.0, began))
        self.assertEqual(NOON, self._get().unwatched_since)

    def test_since_when_a_host_is_unwatched(self: Any) -> None:
        for after, state, expected in (
            (0, AgentState.UP, None),
            (1, AgentState.BLIND, 1),
            (2, AgentState.BLIND, 1),
            (3, AgentState.BEHIND, None),
            (4, AgentState.BLIND, 4),
        ):
            self.database.run(agents.store_report, samples.report(state=state), NOON + after)
            since = self._get().unwatched_since
            self.assertEqual(expected, since and since - NOON, (after, state))
        self.database.run(agents.mark_late, NOON + 60 * SECOND, 3.0)
        self.assertEqual(
            (AgentState.LATE, NOON + 4), (self._get().state, self._get().unwatched_since)
        )
        with self.database.reader() as tx:
            self.assertEqual([], agents.unwatched_hosts(tx, NOON + 4))
            self.assertEqual(["compute-1"], agents.unwatched_hosts(tx, NOON + 5))
        self.database.run(agents.store_report, samples.report(state=AgentState.STOPPED), NOON)
        self.assertIsNone(self._get().unwatched_since)

    def test_a_clock_that_is_wrong(self: Any) -> None:
        hour = 3600 * SECOND
        for host, ahead in (("ahead", hour), ("right", -1000), ("behind", -hour)):
            said = samples.report(host=host, sent_at=NOON + ahead)
            self.database.run(agents.store_report, said, NOON)
        self.assertEqual(HostClock(samples=(1000,), offset=1000), self._get("right").clock)
        with self.database.reader() as tx:
            self.assertEqual({"ahead": -hour, "behind": hour}, agents.clock_corrections(tx))
            self.assertEqual(
                {"ahead": -hour, "behind": hour}, agents.clock_offsets_beyond(tx, 1000)
            )
            self.assertEqual(3, len(agents.clock_offsets_beyond(tx, 999)))

    def test_what_was_seen_in_the_future_was_seen_now(self: Any) -> None:
        later = NOON + 9 * SECOND
        self.database.run(agents.store_report, samples.report(), later)
        self.database.run(
            agents.store_report, samples.report(host="b", state=AgentState.BLIND), later
        )
        self.database.run(agents.store_report, samples.report(host="old"), NOON - SECOND)
        self.database.run(agents.store_report, samples.report(host="same"), NOON + SECOND)
        self.assertEqual(2, self.database.run(agents.rebase_after_clock_step, NOON))
        self.assertEqual(0, self.database.run(agents.rebase_after_clock_step, NOON))
        self.assertEqual((NOON, None), (self._get().seen_at, self._get().unwatched_since))
        self.assertEqual((NOON, NOON), (self._get("b").seen_at, self._get("b").unwatched_since))
        self.assertEqual(NOON - SECOND, self._get("old").seen_at)

    def test_a_row_that_is_locked_is_as_it_is(self: Any) -> None:
        self.database.run(agents.store_report, samples.report(), NOON)
        with self.database.writer() as tx:
            self.assertEqual(self._get(), agents.find_locked(tx, "compute-1"))
            self.assertIsNone(agents.find_locked(tx, "nowhere"))

    def test_an_inventory_replaces_the_one_before(self: Any) -> None:
        self.database.run(agents.store_report, samples.report(), NOON)
        one = Seen(instance=samples.instance(name="a"), state="running", run_id=7)
        two = Seen(instance=samples.instance(name="b"), state="shutoff", persistent=False)
        elsewhere = Seen(instance=one.instance, state="shutoff")
        defined = dataclasses.replace(two, definition="<domain/>")
        self.database.run(inventories.replace, "compute-1", "1", [defined, one], NOON)
        self.database.run(inventories.replace, "compute-2", "2", [elsewhere], NOON)
        with self.database.reader() as tx:
            self.assertEqual([one, two], inventories.present(tx, "compute-1"))
        self.assertEqual("1", self.database.run(agents.store_report, samples.report(), NOON))
        self.database.run(inventories.replace, "compute-1", "3", [], NOON)
        with self.database.reader() as tx:
            self.assertEqual([], inventories.present(tx, "compute-1"))
            self.assertEqual([elsewhere], inventories.present(tx, "compute-2"))
        self.assertEqual("3", self.database.run(agents.store_report, samples.report(), NOON))

    def test_engines_that_store_one_inventory_wait_for_each_other(self: Any) -> None:
        self.database.run(agents.store_report, samples.report(), NOON)
        crowd = [Seen(instance=samples.instance(name=str(n)), state="running") for n in range(9)]
        databases = [self.another() for _ in range(4)]

        def replace(number: int) -> None:
            for _ in range(5):
                databases[number].run(inventories.replace, "compute-1", "1", crowd, NOON)

        self.assertEqual([None] * 4, race(4, replace))
        with self.database.reader() as tx:
            self.assertEqual(crowd, inventories.present(tx, "compute-1"))

    def test_changes_are_made_to_the_inventory_that_they_are_about_only(self: Any) -> None:
        self.assertEqual("", self._change("1", "2"), "no agent of this host ever reported")
        self.database.run(agents.store_report, samples.report(), NOON)
        one = Seen(instance=samples.instance(name="a"), state="running", autostart=True)
        two = Seen(instance=samples.instance(name="b"), state="running")
        self.database.run(inventories.replace, "compute-1", "1", [one, two], NOON)
        stopped = dataclasses.replace(one, state="shutoff", reason="destroyed")
        three = Seen(instance=samples.instance(name="c"), state="running")
        self.assertEqual("1", self._change("0", "2", [stopped]))
        self.assertEqual([one, two], self._inventory())
        gone = [two.instance.uuid, samples.new_id()]
        self.assertEqual("2", self._change("1", "2", [stopped, three], gone))
        self.assertEqual([stopped, three], self._inventory())
        self.assertEqual("2", self._change("1", "3"))
        self.assertEqual("2", self.database.run(agents.store_report, samples.report(), NOON))

    def test_of_many_at_once_one_changes_an_inventory(self: Any) -> None:
        self.database.run(agents.store_report, samples.report(), NOON)
        self.database.run(inventories.replace, "compute-1", "0", [], NOON)
        databases = [self.another() for _ in range(4)]
        one = Seen(instance=samples.instance(), state="running")

        def change(number: int) -> Any:
            return databases[number].run(
                inventories.change, "compute-1", "0", str(number + 1), [one], [], NOON
            )

        answers = race(4, change)
        self.assertEqual(1, len(set(answers)), answers)
        self.assertEqual([one], self._inventory())

    def test_what_ran_and_is_gone_from_the_whole_is_lost(self: Any) -> None:
        self.database.run(agents.store_report, samples.report(), NOON)
        ran, stopped, left, failed = (
            Seen(instance=samples.instance(name=name), state=state)
            for name, state in zip(
                "abcd", ["running", "shutoff", "running", "running"], strict=True
            )
        )
        everything = [ran, stopped, left, failed]
        self.database.run(inventories.replace, "compute-1", "1", everything, NOON)
        self.assertEqual("2", self._change("1", "2", [], [left.instance.uuid]))
        dead = dataclasses.replace(failed, state="shutoff", reason="failed")
        self.database.run(inventories.replace, "compute-1", "3", [dead], NOON + 5)
        self.assertEqual([dead], self._inventory())
        self.assertEqual([("a", False, NOON + 5), ("d", True, NOON + 5)], self._sights())
        self.database.run(inventories.replace, "compute-1", "4", [dead], NOON + 9)
        self.assertEqual([("a", False, NOON + 5), ("d", True, NOON + 5)], self._sights())
        again = [dataclasses.replace(failed, reason="booted")]
        self.assertEqual("5", self._change("4", "5", again))
        self.assertEqual([("a", False, NOON + 5), ("d", True, 0)], self._sights())
        self.assertEqual(0, self.database.run(inventories.purge_lost, NOON + 5, 10))
        self.assertEqual(1, self.database.run(inventories.purge_lost, NOON + 6, 10))
        self.assertEqual([("d", True, 0)], self._sights())

    def test_a_watch_tells_whether_an_inventory_is_that_of_its_agent(self: Any) -> None:
        report = samples.report(inventory_digest="1", spool_depth=0)
        self.database.run(agents.store_report, report, NOON)
        self.assertEqual((False, True), self._watch())
        self.database.run(inventories.replace, "compute-1", "1", [], NOON)
        self.assertEqual((True, True), self._watch())
        self.assertEqual("2", self._change("1", "2"))
        self.assertEqual((True, True), self._watch())
        behind = dataclasses.replace(report, inventory_digest="3", spool_depth=1)
        self.database.run(agents.store_report, behind, NOON)
        self.assertEqual((False, False), self._watch())
        self.database.run(
            agents.store_report, dataclasses.replace(report, inventory_digest=""), NOON
        )
        self.assertEqual((False, True), self._watch())

    def _change(self: Any, base: str, digest: str, changed: Any = (), gone: Any = ()) -> str:
        return self.database.run(
            inventories.change, "compute-1", base, digest, changed, gone, NOON
        )

    def _inventory(self: Any) -> list[Seen]:
        with self.database.reader() as tx:
            return inventories.present(tx, "compute-1")

    def _sights(self: Any) -> list[tuple[str, bool, int]]:
        with self.database.reader() as tx:
            found = inventories.observed(tx, "compute-1")
        return sorted((one.seen.instance.name, one.present, one.lost_at) for one in found)

    def _watch(self: Any) -> tuple[bool, bool]:
        with self.database.reader() as tx:
            (watch,) = agents.inventory_trusts(tx)
        return watch.current, watch.settled

    def _get(self: Any, host: str = "compute-1") -> Agent:
        with self.database.reader() as tx:
            return agents.get(tx, host)
