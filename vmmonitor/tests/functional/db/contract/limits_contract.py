# SPDX-License-Identifier: Apache-2.0
"""What every database must do with locks that engines share, and with what limits count."""

import dataclasses
from typing import Any

from vmmonitor.db import incidents, limits, locks, recoveries
from vmmonitor.db.session import Database
from vmmonitor.model.incident import HoldReason
from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND

LATER = NOON + 300 * SECOND


class LimitsContract:
    database: Database

    # -- locks ---------------------------------------------------------------------------------
    def test_who_counts_under_a_lock_and_adds_does_not_pass_the_limit(self: Any) -> None:
        databases = [self.database, self.another()]

        def take_a_turn(number: int) -> bool:
            def once(tx):
                locks.lock(tx, ["turns", "a host"])
                if sum(limits.read_occupancy(tx).under_way.values()) >= 3:
                    return False
                recoveries.insert(tx, samples.recovery(state=RecoveryState.RUNNING))
                return True

            return databases[number % 2].run(once)

        self.assertEqual([False] * 5 + [True] * 3, sorted(race(8, take_a_turn)))
        self.assertEqual([False] * 8, race(8, take_a_turn))

    def test_locks_in_whatever_order_they_are_named(self: Any) -> None:
        names = [f"gate {number}" for number in range(6)]
        databases = [self.database, self.another()]

        def lock(number: int) -> int:
            for turn in range(10):
                wanted = names[::-1] if (number + turn) % 2 else names
                databases[number % 2].run(locks.lock, wanted)
            return number

        self.assertEqual([0, 1, 2, 3], race(4, lock))

    # -- what was done -------------------------------------------------------------------------
    def test_what_was_done_about_an_instance(self: Any) -> None:
        uuid = samples.new_id()
        acted = [
            self._called("a", uuid, NOON + 1, finished_at=NOON + 5),
            self._called("a", uuid, NOON + 7, finished_at=NOON + 9),
            self._called("b", uuid, NOON + 3, state=RecoveryState.RUNNING),
        ]
        self._called("skipped", uuid, NOON + 4, state=RecoveryState.SKIPPED)
        self._called("too long ago", uuid, NOON - 1)
        self._called("its own", uuid, NOON + 4)
        self._called("of another", samples.new_id(), NOON + 4)
        self._called("never called", uuid, None, state=RecoveryState.CANCELLED)
        with self.database.reader() as tx:
            found = limits.list_earlier_recoveries(tx, uuid, "its own", NOON)
        self.assertEqual(
            [
                limits.EarlierRecovery(incident_id="b", called_at=NOON + 3, ended_at=NOON + 3),
                limits.EarlierRecovery(incident_id="a", called_at=NOON + 7, ended_at=NOON + 9),
            ],
            found,
        )
        self.assertEqual(3, len(acted))

    def test_what_is_under_way(self: Any) -> None:
        for host, state in (
            ("a", RecoveryState.RUNNING),
            ("a", RecoveryState.WAITING),
            ("b", RecoveryState.WAITING),
            ("a", RecoveryState.REQUESTED),
            ("c", RecoveryState.SUCCEEDED),
        ):
            self.database.run(recoveries.insert, samples.recovery(host=host, state=state))
        with self.database.reader() as tx:
            self.assertEqual(limits.Occupancy({"a": 2, "b": 1}, False), limits.read_occupancy(tx))

    # -- the line ------------------------------------------------------------------------------
    def test_who_comes_first(self: Any) -> None:
        self.assertFalse(self._anybody())
        late = self._waits("late", opened_at=NOON + 1)
        early = self._waits("early")
        self._waits("low", priority=-1)
        high = self._waits("high", priority=3, opened_at=NOON + 9, state=IncidentState.RECOVERING)
        other = self._waits("other", host="b")
        self._waits("no more", state=IncidentState.RESOLVED)
        self._waits("too often", held_by=HoldReason.BUDGET)
        self.assertTrue(self._anybody())
        self.assertEqual([high, early, other, late, "low"], self._line(None))
        self.assertEqual([high, early, other], self._line(2))
        self.assertEqual([other], self._line(2, "a"))
        self.assertEqual([], self._line(2, "a", "b"))

    def test_called_up_it_is_due(self: Any) -> None:
        name = self._waits("a")
        self.assertTrue(self.database.run(limits.make_due, name, NOON + 1))
        self.assertFalse(self.database.run(limits.make_due, name, NOON + 2))
        with self.database.reader() as tx:
            (due,) = incidents.due(tx, NOON + 1, 9)
        self.assertEqual((name, NOON + 1), (due.incident_id, due.hold_until))

    def test_called_up_before_those_that_are_due_since_it_opened(self: Any) -> None:
        first = self._waits("first", opened_at=NOON - 9)
        self.database.run(incidents.insert, [samples.incident(incident_id="second")])
        self.database.run(limits.make_due, first, NOON + 5)
        with self.database.reader() as tx:
            found = [one.incident_id for one in incidents.due(tx, NOON + 9, 9)]
        self.assertEqual(["first", "second"], found)

    def test_a_further_attempt_waits_in_line_too(self: Any) -> None:
        incident = samples.incident(state=IncidentState.RECOVERING, incident_id="a", host="a")
        recovery = samples.recovery(incident_id="a", attempt=2)
        self.database.run(incidents.insert, [incident])
        self.database.run(recoveries.insert, recovery)
        self.database.run(
            limits.hold_attempt,
            incident,
            recovery,
            LATER,
            "it waits",
            NOON,
            held_by=HoldReason.CONCURRENCY,
        )
        self.assertEqual(["a"], self._line(9))
        self.assertEqual((LATER, []), self._attempt(recovery, NOON + 1))
        self.assertTrue(self.database.run(limits.make_due, "a", NOON + 1))
        self.assertEqual((NOON + 1, [recovery.recovery_id]), self._attempt(recovery, NOON + 1))
        self.database.run(limits.release_attempt, incident, "its turn", NOON + 2)
        self.assertEqual([], self._line(9))
        with self.database.reader() as tx:
            found = incidents.get(tx, "a")
        self.assertEqual(
            ("", "its turn", NOON + 2), (found.held_by, found.reason, found.updated_at)
        )

    def test_whose_line_has_gone_on_is_not_called_up(self: Any) -> None:
        for changes in ({"state": IncidentState.RESOLVED}, {"held_by": HoldReason.BUDGET}):
            name = self._waits(samples.new_id(), **changes)
            self.assertFalse(self.database.run(limits.make_due, name, NOON))

    def test_priorities(self: Any) -> None:
        self._waits("a", priority=4)
        self._waits("b")
        with self.database.reader() as tx:
            self.assertEqual({"a": 4, "b": 0}, limits.priorities(tx, ["a", "b", "c"]))
            self.assertEqual({}, limits.priorities(tx, []))

    # -- parts ---------------------------------------------------------------------------------
    def _called(self: Any, incident_id: str, uuid: str, called_at: int | None, **fields: Any):
        known = {"state": RecoveryState.FAILED, "called_at": called_at, **fields}
        recovery = samples.recovery(incident_id=incident_id, instance_uuid=uuid, **known)
        self.database.run(recoveries.insert, recovery)
        return recovery

    def _waits(self: Any, name: str, **fields: Any) -> str:
        known = {
            "state": IncidentState.HELD,
            "held_by": HoldReason.CONCURRENCY,
            "host": "a",
            "hold_until": LATER,
        }
        incident = samples.incident(**{**known, "incident_id": name, **fields})
        self.database.run(incidents.insert, [incident])
        return name

    def _anybody(self: Any) -> bool:
        with self.database.reader() as tx:
            return limits.read_occupancy(tx).has_queue

    def _line(self: Any, each: int | None, *full: str) -> list[str]:
        with self.database.reader() as tx:
            found = limits.read_queue(tx, full, each)
        for one in found:
            self.assertEqual(one, dataclasses.replace(one, until=LATER))
        return [one.incident_id for one in found]

    def _attempt(self: Any, recovery: Any, now: int) -> tuple[int, list[str]]:
        """(not_before, ids of what is due) of the one recovery."""
        with self.database.reader() as tx:
            due = [one.recovery_id for one in recoveries.due(tx, now, 9)]
            return recoveries.get(tx, recovery.recovery_id).not_before, due
