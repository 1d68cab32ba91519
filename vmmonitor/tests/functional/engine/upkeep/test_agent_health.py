# SPDX-License-Identifier: Apache-2.0
"""Hosts that are not monitored, also with wrong clocks."""

import dataclasses
from typing import Any
from unittest import mock

from vmmonitor.db import agents, events, session, timeline_entries
from vmmonitor.engine.upkeep.agent_health import BREAK, AgentHealth
from vmmonitor.model.errors import Retriable
from vmmonitor.model.incident import IncidentKind
from vmmonitor.model.instance import Instance
from vmmonitor.model.states import AgentState, IncidentState
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import delivery

HOUR = 3600


class HealthCase(base.EngineCase):
    """Agents report every 10 s: late after 30 s, and 60 s unwatched are an incident."""

    def setUp(self) -> None:
        super().setUp()
        self.ticks = 0
        self.engines = [self.engine()]

    def engine(self, database: Any = None) -> AgentHealth:
        return AgentHealth(self.conf, database or self.database, lambda: self.ticks)

    def report(self, host: str = "a", **fields: Any) -> None:
        said = samples.report(host=host, **{"sent_at": self.clock, **fields})
        self.database.run(agents.store_report, said, self.clock)

    def state(self, host: str = "a") -> str:
        with self.database.reader() as tx:
            return agents.get(tx, host).state

    def pass_time(self, seconds: float, *hosts: str, **report: Any) -> None:
        """Let time pass while engines work, and the agents of these hosts report every 5 s."""
        for second in range(round(seconds)):
            self.later(1)
            self.ticks += SECOND
            if second % 5 == 0:
                for host in hosts:
                    self.report(host, **report)
            for engine in self.engines:
                engine.check()

    def leap(self, seconds: float) -> None:
        """Set the engines' clock."""
        self.later(seconds)

    def told(self) -> list[tuple[str, str, str]]:
        """(host, cause, state) of all incidents, oldest first."""
        return [(one.host, one.cause, one.state) for one in self.incidents()]


class LateAgentTest(HealthCase):
    def test_silent_agent_is_late_until_next_report(self):
        self.pass_time(100, "a")
        self.pass_time(25)
        self.assertEqual(AgentState.UP, self.state())
        self.pass_time(10)
        self.assertEqual(AgentState.LATE, self.state())
        self.pass_time(1, "a")
        self.assertEqual(AgentState.UP, self.state())
        self.assertEqual([], self.incidents())

    def test_blind_and_behind_agents_become_late_and_stopped_do_not(self):
        for state in ("blind", "behind", "stopped"):
            self.report(state, state=state)
        self.pass_time(40)
        found = [self.state(host) for host in ("blind", "behind", "stopped")]
        self.assertEqual(["late", "late", "stopped"], found)

    def test_late_after_option_sets_delay(self):
        self.conf.set_override("late_after", 10.0, "housekeeping")
        self.report()
        self.pass_time(99)
        self.assertEqual(AgentState.UP, self.state())
        self.pass_time(3)
        self.assertEqual(AgentState.LATE, self.state())

    def test_new_engine_waits_before_agent_is_late(self):
        self.report()
        self.later(HOUR)
        self.pass_time(30)
        self.assertEqual(AgentState.UP, self.state())
        self.pass_time(2)
        self.assertEqual(AgentState.LATE, self.state())


class IncidentTest(HealthCase):
    def test_silent_host_has_incident_until_agent_reports(self):
        self.pass_time(100, "a", "b")
        last = self.clock - 4 * SECOND
        self.pass_time(55, "b")
        self.assertEqual([], self.told())
        self.pass_time(30, "b")
        incident = self.incident()
        expected = samples.incident(
            incident_id=incident.incident_id,
            kind=IncidentKind.HOST,
            instance=Instance(uuid=""),
            host="a",
            cause="agent.late",
            state=IncidentState.UNHANDLED,
            reason="the agent is late: does not report any longer; was up",
            policy="",
            opened_at=last,
            hold_until=incident.hold_until,
            updated_at=incident.updated_at,
            event_count=0,
        )
        self.assertEqual(expected, incident)
        self.assertEqual("critical", incident.severity)
        self.pass_time(20, "a", "b")
        self.assertEqual([("a", "agent.late", IncidentState.RESOLVED)], self.told())
        decision, opened, closed = self.line()
        self.assertRegex(
            decision[1], "^not monitored for 6[0-9] s: the agent is late: does not rep"
        )
        self.assertEqual(("state", f"pending -> unhandled: {expected.reason}"), opened)
        self.assertRegex(
            closed[1],
            r"^unhandled -> resolved: the host is monitored again, after \d\d s: its agent is up$",
        )

    def test_blind_host_has_incident_with_entry_for_each_reason(self):
        blind = {"state": AgentState.BLIND, "reason": "source libvirt: refused"}
        self.pass_time(100, "a")
        self.pass_time(63, "a", **blind)
        self.assertEqual([("a", "agent.blind", IncidentState.UNHANDLED)], self.told())
        self.pass_time(30, "a", **blind)
        self.pass_time(60)
        self.pass_time(10, "a", **blind)
        self.assertEqual([("a", "agent.blind", IncidentState.UNHANDLED)], self.told())
        self.assertEqual(
            [
                "the agent is blind: source libvirt: refused",
                "the agent is late: does not report any longer; "
                "was blind: source libvirt: refused",
                "the agent is blind: source libvirt: refused",
            ],
            [
                text.partition(" s: ")[2] or text
                for kind, text in self.line()
                if kind == "decision"
            ],
        )
        self.pass_time(1, "a", state=AgentState.BEHIND)
        self.assertEqual([("a", "agent.blind", IncidentState.RESOLVED)], self.told())
        self.assertRegex(self.incident().reason, "its agent is behind$")

    def test_stopped_agent_has_no_incident(self):
        self.report("a", state=AgentState.STOPPED)
        self.report("b")
        self.pass_time(200)
        self.assertEqual([("b", "agent.late", IncidentState.UNHANDLED)], self.told())
        self.report("b", state=AgentState.STOPPED)
        self.pass_time(2)
        self.assertEqual([("b", "agent.late", IncidentState.RESOLVED)], self.told())
        self.assertRegex(self.incident().reason, "^the agent was stopped on purpose, after")

    def test_agent_that_is_behind_has_no_incident(self):
        self.pass_time(200, "a", state=AgentState.BEHIND, reason="much")
        self.assertEqual([], self.told())

    def test_second_outage_opens_another_incident(self):
        for _ in range(2):
            self.pass_time(100)
            self.pass_time(5, "a")
        self.pass_time(100)
        self.assertEqual(
            [
                ("a", "agent.late", IncidentState.RESOLVED),
                ("a", "agent.late", IncidentState.UNHANDLED),
            ],
            self.told(),
        )

    def test_several_engines_open_and_close_one_incident(self):
        self.engines += [self.engine(self.another()) for _ in range(2)]
        self.pass_time(10, "a", "b")
        self.pass_time(50)
        for seconds, report in ((60, ()), (10, ("a", "b"))):
            for _ in range(seconds):
                self.later(1)
                self.ticks += SECOND
                for host in report:
                    self.report(host)
                race(3, lambda number: self.engines[number].check())
        self.assertCountEqual(
            [
                ("a", "agent.late", IncidentState.RESOLVED),
                ("b", "agent.late", IncidentState.RESOLVED),
            ],
            self.told(),
        )
        with self.database.reader() as tx:
            lines = [timeline_entries.of_incident(tx, one.incident_id) for one in self.incidents()]
        self.assertEqual([3, 3], [len(line) for line in lines])

    def another(self) -> session.Database:
        made = session.Database(self.conf)
        made.now = self.database.now
        self.addCleanup(made.dispose)
        return made

    def test_host_incident_is_not_recovered(self):
        self.conf.set_override("poll_interval", 0.05, "recovery")
        self.recoveries()
        self.report("a")
        self.pass_time(100)
        self.store(delivery())
        eventually(lambda: self.expectation.asked)
        self.assertNotIn(IncidentKind.HOST, [one.kind for one in self.expectation.asked])
        (opened,) = [one for one in self.incidents() if one.kind == IncidentKind.HOST]
        self.assertEqual(IncidentState.UNHANDLED, opened.state)

    def test_event_with_key_of_host_incident_does_not_change_it(self):
        self.report("a")
        self.pass_time(100)
        (opened,) = self.incidents()
        self.assertEqual(["stored"], self.store(delivery(uuid="host:a")))
        self.assertEqual(
            opened, next(one for one in self.incidents() if one.kind == IncidentKind.HOST)
        )


class EngineOutageTest(HealthCase):
    def test_outage_of_all_engines_makes_no_agent_late(self):
        self.pass_time(100, "a", "b")
        self.report("b", state=AgentState.BLIND, reason="x")
        self.later(HOUR)
        self.engines = [self.engine()]
        self.pass_time(20)
        self.pass_time(200, "a", "b")
        self.assertEqual([], self.told())

    def test_silent_agent_after_outage_of_engines_is_late(self):
        self.pass_time(100, "a")
        self.later(HOUR)
        self.engines = [self.engine()]
        self.pass_time(60)
        self.assertEqual([], self.told())
        self.pass_time(3)
        self.assertEqual([("a", "agent.late", IncidentState.UNHANDLED)], self.told())
        self.assertAlmostEqual(HOUR, (self.clock - self.incident().opened_at) / SECOND, delta=99)

    def test_suspended_engine_restarts_its_time(self):
        self.report("a", state=AgentState.BLIND, reason="x")
        self.pass_time(50)
        self.later(BREAK + 1)
        self.ticks += round((BREAK + 1) * SECOND)
        self.pass_time(58)
        self.assertEqual([], self.told())

    def test_database_outage_restarts_time_of_engine(self):
        self.report("a", state=AgentState.BLIND, reason="x")
        self.pass_time(50)
        with mock.patch.object(self.database, "run", side_effect=Retriable("away")):
            for _ in range(30):
                self.assertRaises(Retriable, self.pass_time, 1)
        self.pass_time(58)
        self.assertEqual([], self.told())
        self.pass_time(5)
        self.assertEqual([("a", "agent.late", IncidentState.UNHANDLED)], self.told())

    def test_check_after_failed_check_completes_its_work(self):
        self.policies = self.load(base.policy(hold=15))
        self.pass_time(3)
        self.store(delivery())
        self.leap(-HOUR)
        with mock.patch.object(self.database, "run", side_effect=Retriable("away")):
            self.assertRaises(Retriable, self.pass_time, 1)
        self.pass_time(1)
        self.assertLessEqual(self.incident().hold_until - self.clock, 15 * SECOND)


class ClockStepTest(HealthCase):
    def test_clock_step_makes_no_agent_late(self):
        self.pass_time(100, "a")
        for seconds in (HOUR, -HOUR, -HOUR, HOUR):
            self.leap(seconds)
            self.pass_time(4)
            self.assertEqual(AgentState.UP, self.state(), seconds)
            self.pass_time(100, "a")
            self.assertEqual(AgentState.UP, self.state(), seconds)
        self.assertEqual([], self.told())

    def test_agent_silent_since_clock_step_is_late(self):
        self.pass_time(100, "a")
        self.leap(-HOUR)
        self.pass_time(33)
        self.assertEqual(AgentState.LATE, self.state())
        self.pass_time(40)
        self.assertEqual([("a", "agent.late", IncidentState.UNHANDLED)], self.told())

    def test_clock_step_neither_opens_nor_closes_incident(self):
        self.pass_time(10, "a")
        self.pass_time(80)
        for seconds in (-HOUR, HOUR):
            self.leap(seconds)
            self.pass_time(10)
            self.assertEqual([("a", "agent.late", IncidentState.UNHANDLED)], self.told())

    def test_clock_step_back_does_not_extend_hold(self):
        self.policies = self.load(base.policy(hold=15))
        self.pass_time(3)
        self.store(delivery())
        self.leap(-HOUR)
        self.pass_time(1)
        hold = self.incident().hold_until - self.clock
        self.assertTrue(0 < hold <= 15 * SECOND, hold)

    def test_clock_step_back_does_not_extend_lease(self):
        self.pass_time(3)
        self.store(delivery())
        claim = self.decide()
        self.leap(-HOUR)
        self.pass_time(1)
        lease = self.last_attempt().lease_until - self.clock
        self.assertEqual(claim.recovery.lease_owner, self.last_attempt().lease_owner)
        self.assertTrue(0 < lease <= self.conf.recovery.lease * SECOND, lease)


class HostClockTest(HealthCase):
    def test_clock_offset_beyond_limit_is_logged_once(self):
        with self.assertLogs("vmmonitor.engine.upkeep.agent_health", "WARNING") as logged:
            self.pass_time(30, "a", sent_at=self.clock + HOUR * SECOND)
            self.pass_time(30, "b")
            for _ in range(20):
                self.pass_time(1)
                self.report("a", sent_at=self.clock + HOUR * SECOND)
        (line,) = [one for one in logged.output if "clock" in one]
        self.assertRegex(
            line, r"Clock offset of host a exceeds .*: its clock is 3,\d+\.\d s ahead of"
        )
        self.assertEqual(AgentState.UP, self.state())


class ClockOffsetTest(base.EngineCase):
    """The agent's clock leaps an hour forth and back between batches."""

    def test_events_with_changing_clock_offset_keep_their_order(self):
        ingest = self.ingest()
        offset, sequence, sent = 0, 0, []
        for leap in (0, HOUR, 0, -HOUR, -2 * HOUR, 0):
            offset = leap * SECOND
            for _ in range(3):
                self.later(1)
                sequence += 1
                there = self.clock + offset
                one = delivery("io_error/pause", sequence=sequence, occurred_at=there)
                sent.append(one.event.event_id)
                batch = dataclasses.replace(base.batch(one), sent_at=there + 100)
                (receipt,) = ingest.store(batch, 10)
                self.assertEqual("stored", receipt.status)
                with self.database.reader() as tx:
                    stored = events.get(tx, one.event.event_id)
                self.assertEqual(there, stored.event.occurred_at)
                self.assertAlmostEqual(self.clock, stored.corrected_at, delta=200)
        self.assertEqual(NOON + SECOND, self.incident().opened_at)
        with self.database.reader() as tx:
            told = events.of_incident(tx, self.incident().incident_id)
        self.assertEqual(sent, [one.event.event_id for one in told])

    def test_events_of_two_hosts_are_compared_by_engine_clock(self):
        """The new host's clock is an hour behind; there the instance runs after its failure."""
        self.clock = NOON + 2 * HOUR * SECOND
        self.store_of("compute-1", delivery(occurred_at=self.clock), self.clock)
        left = delivery("lifecycle.stopped/migrated", "record", occurred_at=self.clock)
        self.store_of("compute-1", left, self.clock)
        self.later(5)
        now_there = self.clock - HOUR * SECOND
        runs = delivery(base.RUNS, host="compute-2", occurred_at=now_there)
        self.store_of("compute-2", runs, now_there)
        self.assertEqual(IncidentState.RESOLVED, self.incident().state)
        self.assertEqual(self.clock, self.incident().running_at)

    def store_of(self, host: str, one: Any, sent_at: int) -> None:
        batch = dataclasses.replace(base.batch(one), host=host, sent_at=sent_at)
        self.ingest().store(batch, 10)

    def test_offset_of_report_corrects_batches(self):
        said = samples.report(host="compute-1", sent_at=self.clock + 5 * SECOND)
        self.database.run(agents.store_report, said, self.clock)
        self.later(2)
        there = self.clock + 5 * SECOND
        late = dataclasses.replace(base.batch(delivery(occurred_at=there)), sent_at=there)
        self.later(0.5)
        self.ingest().store(late, 10)
        (stored,) = self.events()
        self.assertEqual(self.clock - SECOND // 2, stored.corrected_at)
