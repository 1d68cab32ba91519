# SPDX-License-Identifier: Apache-2.0
"""What several engines on one database must never do to a storm, on every database."""

import contextlib
import threading
from typing import Any

from vmmonitor.db import incidents, storms
from vmmonitor.engine.admission.storms import StormCheck
from vmmonitor.engine.incidents import storm_ending
from vmmonitor.engine.recovery.attempts import Attempts
from vmmonitor.engine.recovery.decisions import Decisions
from vmmonitor.model import states
from vmmonitor.model.errors import Conflict
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.engine.base import IT_FAILED, policy, step
from vmmonitor.tests.functional.engine.storms_base import DISK_ERROR, RBD


class StormRaces:
    """To be mixed into a StormCase that has ``another``, a second engine's database."""

    def engines(self: Any, number: int) -> list[Any]:
        return [self.database, *(self.another() for _ in range(number - 1))]

    def decide_on(self: Any, database: Any) -> int:
        """Decide on all that is due, as one engine; returns how many recoveries began."""
        attempts = Attempts(self.conf, self.policies, database.now)
        gate = StormCheck(self.conf, self.breaker)
        decisions = Decisions(self.conf, attempts, [gate], database.now)
        began = 0
        with database.reader() as tx:
            due = incidents.due(tx, database.now(), 1000)
        for one in due:
            # Another engine was faster: the next look takes it up again, if need be.
            with contextlib.suppress(Conflict):
                began += database.run(decisions.decide, one, IT_FAILED) is not None
        return began

    def end(self: Any, tx: Any, ident: str) -> None:
        storm = incidents.lock(tx, ident)
        if storm.state in states.OPEN_INCIDENT_STATES:
            storm_ending.end_storm(tx, storm, "jane says so", self.database.now())

    def left_behind(self: Any) -> list[Any]:
        """What is held by a storm that is over."""
        over = {one.incident_id for one in self.of_kind("storm") if one.state == "resolved"}
        now = self.database.now()
        held = self.of_kind("instance", state="held")
        return [one for one in held if one.part_of in over and one.hold_until > now]

    def test_one_storm_with_every_member(self: Any) -> None:
        self.fail(60, occurred_at=self.database.now())
        four = self.engines(4)
        began = 0
        for _ in range(3):
            words = race(4, lambda number: self.decide_on(four[number]))
            self.assertEqual([], [word for word in words if isinstance(word, Exception)])
            began += sum(words)
        self.assertEqual((0, 1), (began, len(self.of_kind("storm"))))
        self.assertEqual((60, 60), (self.storm().event_count, len(self.members())))

    def test_nobody_is_left_behind_when_storms_end(self: Any) -> None:
        four = self.engines(4)
        over = threading.Event()

        def end_all() -> None:
            while not over.is_set():
                for ident in self.open_ones():
                    four[3].run(self.end, ident)

        def work(number: int) -> Any:
            if number == 3:
                return end_all()
            if number == 2:
                for _ in range(8):
                    self.fail(12, occurred_at=self.database.now())
                over.set()
                return None
            while not over.is_set():
                self.decide_on(four[number])
            return None

        words = race(4, work)
        self.assertEqual([None] * 4, words)
        self.assertEqual([], self.left_behind())
        for ident in self.open_ones():
            self.database.run(self.end, ident)
        self.assertEqual([], self.left_behind())
        self.decide_on(self.database)
        self.decide_on(self.database)
        self.assertEqual([], self.of_kind("instance", state="pending"))

    def test_who_is_examined_while_it_ends_is_not_left_behind(self: Any) -> None:
        two = self.engines(2)
        for _ in range(15):
            self.fail(12, occurred_at=self.database.now())
            self.decide_on(self.database)
            storm = self.storm()
            self.database.run(self.make_due, storm.incident_id)

            def work(number: int, ident: str = storm.incident_id) -> None:
                if number:
                    two[1].run(self.end, ident)
                else:
                    self.decide_on(two[0])

            self.assertEqual([None, None], race(2, work))
            self.assertEqual([], self.left_behind())

    def make_due(self: Any, tx: Any, ident: str) -> None:
        for one in self.members():
            incidents.reschedule(tx, one, self.database.now(), one.reason, self.database.now())

    def test_four_engines_end_it_once(self: Any) -> None:
        self.conf.set_override("cooldown", 1, "storm")
        self.fail(20, occurred_at=self.database.now())
        self.decide_on(self.database)
        watches = [self.engine(database)[1] for database in self.engines(4)]
        self.wait_until_calm()
        self.assertEqual([None] * 4, race(4, lambda number: watches[number].evaluate_storms()))
        (storm,) = self.of_kind("storm")
        self.assertEqual("resolved", storm.state)
        for one in self.members(storm):
            told = [text for text in self.steps(one) if "is over" in text]
            self.assertEqual(1, len(told), told)

    def test_one_is_tried(self: Any) -> None:
        self.policies = self.load(policy(steps=[step(attempts=-1)]))
        at = self.database.now()
        self.fail(20, cause=DISK_ERROR, attributes=RBD, occurred_at=at)
        self.decide_on(self.database)
        four = self.engines(4)
        watches = [self.engine(database)[1] for database in four]
        race(4, lambda number: watches[number].evaluate_storms())
        self.database.run(self.make_due, self.storm().incident_id)
        began = race(4, lambda number: self.decide_on(four[number]))
        self.assertEqual(1, sum(began), began)
        with self.database.reader() as tx:
            self.assertEqual(20, storms.count_members(tx, self.storm().incident_id))
