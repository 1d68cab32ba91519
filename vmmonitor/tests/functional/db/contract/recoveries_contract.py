# SPDX-License-Identifier: Apache-2.0
"""What every database must do with recoveries."""

import dataclasses
from typing import Any

from vmmonitor.db import recoveries
from vmmonitor.db.session import Database
from vmmonitor.model import errors
from vmmonitor.model.errors import IllegalTransition
from vmmonitor.model.recovery import Recovery
from vmmonitor.model.states import RecoveryState
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND


class RecoveriesContract:
    database: Database

    def test_a_recovery_comes_back_as_it_was(self: Any) -> None:
        recovery = samples.recovery(message="x" * 100_000, called_at=NOON)
        self.database.run(recoveries.insert, recovery)
        self.assertEqual(recovery, self._get(recovery))
        with self.database.reader() as tx:
            self.assertEqual(recovery, recoveries.active_for(tx, recovery.incident_id))
            self.assertEqual([recovery], recoveries.of_incident(tx, recovery.incident_id))
            self.assertIsNone(recoveries.active_for(tx, samples.new_id()))
            with self.assertRaises(errors.NotFound):
                recoveries.get(tx, "nothing")

    def test_what_begins_in_the_future_begins_now(self: Any) -> None:
        begin = NOON + 3600 * SECOND
        later = {
            "created_at": begin,
            "not_before": begin + 2 * SECOND,
            "called_at": begin,
            "lease_until": begin + 30 * SECOND,
            "wait_until": begin + 60 * SECOND,
        }
        by_state = (
            (RecoveryState.REQUESTED, None),
            (RecoveryState.RUNNING, None),
            (RecoveryState.WAITING, begin + SECOND),
        )
        three = [
            samples.recovery(**later, state=state, look_at=look_at) for state, look_at in by_state
        ]
        past = samples.recovery(lease_until=begin, called_at=NOON, state=RecoveryState.RUNNING)
        for one in [*three, past]:
            self.database.run(recoveries.insert, one)
        self.assertEqual(3, self.database.run(recoveries.rebase_after_clock_step, NOON))
        self.assertEqual(0, self.database.run(recoveries.rebase_after_clock_step, NOON))
        requested, running, waiting = (self._get(one) for one in three)
        self.assertEqual((NOON, NOON + 2 * SECOND), (requested.created_at, requested.not_before))
        self.assertEqual((NOON, NOON + 30 * SECOND), (running.called_at, running.lease_until))
        self.assertEqual((NOON, NOON + 60 * SECOND), (waiting.called_at, waiting.wait_until))
        self.assertEqual(NOON + SECOND, waiting.look_at)
        self.assertEqual(past, self._get(past))

    def test_an_incident_has_one_active_recovery(self: Any) -> None:
        first = samples.recovery()
        second = samples.recovery(incident_id=first.incident_id, attempt=2, created_at=NOON + 1)
        self.database.run(recoveries.insert, first)
        with self.assertRaises(errors.Conflict):
            self.database.run(recoveries.insert, second)
        over = self.database.run(recoveries.transition, first, "cancel", now=NOON + 9)
        self.assertEqual((RecoveryState.CANCELLED, NOON + 9), (over.state, over.finished_at))
        self.database.run(recoveries.insert, second)
        with self.database.reader() as tx:
            self.assertEqual([over, second], recoveries.of_incident(tx, first.incident_id))

    def test_of_eight_threads_that_claim_it_one_does(self: Any) -> None:
        recovery = samples.recovery()
        self.database.run(recoveries.insert, recovery)

        def claim(number: int) -> Recovery:
            owner = f"engine-{number}"
            lease = {"lease_owner": owner, "lease_until": NOON + SECOND}
            return self.database.run(recoveries.transition, recovery, "claim", now=NOON, **lease)

        results = race(8, claim)
        won = [result for result in results if isinstance(result, Recovery)]
        lost = [result for result in results if isinstance(result, errors.Conflict)]
        self.assertEqual((1, 7), (len(won), len(lost)), results)
        self.assertEqual(won[0], self._get(recovery))

    def test_who_waits_has_no_lease_and_who_is_over_waits_for_nothing(self: Any) -> None:
        running = self._claimed("a")
        waiting = self.database.run(
            recoveries.transition,
            running,
            "wait",
            now=NOON,
            wait_until=NOON + 7,
            message="started",
        )
        expected = dataclasses.replace(
            running,
            state=RecoveryState.WAITING,
            lease_owner="",
            lease_until=0,
            wait_until=NOON + 7,
            message="started",
        )
        self.assertEqual(expected, waiting)
        over = self.database.run(recoveries.transition, waiting, "succeed", now=NOON + 3)
        self.assertEqual((RecoveryState.SUCCEEDED, 0, NOON + 3), _end(over))

    def test_a_recovery_that_was_taken_over_is_lost_to_its_old_owner(self: Any) -> None:
        old = self._claimed("a")
        lease = {"lease_owner": "b", "lease_until": NOON + 2 * SECOND, "token": 8}
        taken = self.database.run(recoveries.transition, old, "take_over", now=NOON, **lease)
        self.assertEqual((RecoveryState.RUNNING, "b"), (taken.state, taken.lease_owner))
        with self.assertRaises(errors.Conflict):
            self.database.run(recoveries.transition, old, "succeed", now=NOON)
        renewed = self.database.run(recoveries.renew_leases, "a", [_key(old)], NOON + 9 * SECOND)
        self.assertEqual(set(), renewed)
        self.assertEqual(taken, self._get(old))

    def test_a_renewed_lease_is_not_taken_over(self: Any) -> None:
        seen = self._claimed("a")
        keys = [_key(seen), (samples.new_id(), 9)]
        renewed = self.database.run(recoveries.renew_leases, "a", keys, NOON + 9 * SECOND)
        self.assertEqual({_key(seen)}, renewed)
        self.assertEqual(NOON + 9 * SECOND, self._get(seen).lease_until)
        lease = {"lease_owner": "b", "lease_until": NOON + 9 * SECOND}
        with self.assertRaises(errors.Conflict):
            self.database.run(recoveries.transition, seen, "take_over", now=NOON, **lease)

    def test_nothing_to_renew(self: Any) -> None:
        self.assertEqual(set(), self.database.run(recoveries.renew_leases, "a", [], NOON))

    def test_an_illegal_move_of_a_recovery_changes_nothing(self: Any) -> None:
        recovery = samples.recovery()
        self.database.run(recoveries.insert, recovery)
        with self.assertRaises(IllegalTransition):
            self.database.run(recoveries.transition, recovery, "succeed", now=NOON)
        self.assertEqual(recovery, self._get(recovery))

    def test_due_are_new_ones_orphans_and_those_that_waited_in_vain(self: Any) -> None:
        with self.database.reader() as tx:
            self.assertEqual(
                ([], None), (recoveries.due(tx, NOON, 9), recoveries.next_due(tx, NOON))
            )
        new = samples.recovery(not_before=NOON + 3)
        orphan = samples.recovery(
            state=RecoveryState.RUNNING, lease_owner="a", lease_until=NOON + 1
        )
        waited = samples.recovery(state=RecoveryState.WAITING, wait_until=NOON + 2)
        later = samples.recovery(not_before=NOON + 99)
        alive = samples.recovery(
            state=RecoveryState.RUNNING, lease_owner="b", lease_until=NOON + 99
        )
        over = samples.recovery(state=RecoveryState.SUCCEEDED)
        for recovery in (new, orphan, waited, later, alive, over):
            self.database.run(recoveries.insert, recovery)
        with self.database.reader() as tx:
            self.assertEqual([orphan, waited, new], recoveries.due(tx, NOON + 3, 10))
            self.assertEqual([orphan, waited], recoveries.due(tx, NOON + 3, 2))
            self.assertEqual([], recoveries.due(tx, NOON, 10))
            told = [recoveries.next_due(tx, NOON + late) for late in (0, 1, 2, 99)]
            self.assertEqual([NOON + 1, NOON + 2, NOON + 3, None], told)

    def _claimed(self: Any, owner: str) -> Recovery:
        recovery = samples.recovery()
        self.database.run(recoveries.insert, recovery)
        lease = {"lease_owner": owner, "lease_until": NOON + SECOND, "called_at": NOON, "token": 7}
        return self.database.run(recoveries.transition, recovery, "claim", now=NOON, **lease)

    def _get(self: Any, recovery: Recovery) -> Recovery:
        with self.database.reader() as tx:
            return recoveries.get(tx, recovery.recovery_id)


def _key(recovery: Recovery) -> tuple[str, int]:
    return recovery.recovery_id, recovery.token


def _end(recovery: Recovery) -> tuple[str, int, int | None]:
    return recovery.state, recovery.wait_until, recovery.finished_at
