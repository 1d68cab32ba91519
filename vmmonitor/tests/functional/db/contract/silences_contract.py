# SPDX-License-Identifier: Apache-2.0
"""What every database must do with silences."""

import dataclasses
import threading
from typing import Any

from vmmonitor.db import incidents, silences
from vmmonitor.db.page import Page
from vmmonitor.model import errors
from vmmonitor.model.incident import HoldReason
from vmmonitor.model.silence import Silence
from vmmonitor.model.states import IncidentState
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND

HOUR = 3600 * SECOND
MOST = 100


class SilencesContract:
    def add(self: Any, **fields: Any) -> Silence:
        made = samples.silence(**fields)
        self.database.run(silences.insert, made, MOST)
        return made

    def active(self: Any, now: int) -> list[Silence]:
        with self.database.reader() as tx:
            return silences.active(tx, now)

    def listed(self: Any, *in_states: str, now: int = NOON, **asked: Any) -> list[Silence]:
        with self.database.reader() as tx:
            return silences.page(tx, Page(limit=9, **asked), in_states, now)

    def hold_until(self: Any, *which: Any) -> list[int]:
        with self.database.reader() as tx:
            return [incidents.get(tx, one.incident_id).hold_until for one in which]

    def test_a_silence_comes_back_as_it_was(self: Any) -> None:
        match = [
            {"host": {"in": ["a", "b"]}, "priority": 5},
            {"instance.name": {"=~": "\u2603.*"}},
        ]
        made = self.add(match=match, comment="\u2603 " * 500)
        with self.database.reader() as tx:
            self.assertEqual(made, silences.get(tx, made.silence_id))
            self.assertRaises(errors.NotFound, silences.get, tx, "nothing")

    def test_which_holds_when(self: Any) -> None:
        first = self.add(starts_at=NOON, ends_at=NOON + 2 * HOUR)
        later = self.add(starts_at=NOON + HOUR, ends_at=NOON + 3 * HOUR, author="bob")
        for hours, expected in (
            (-1, []),
            (0, [first]),
            (1, [later, first]),
            (2, [later]),
            (3, []),
        ):
            self.assertEqual(expected, self.active(NOON + hours * HOUR), hours)
        now = NOON + HOUR // 2
        self.assertEqual([first], self.listed("active", now=now))
        self.assertEqual([later], self.listed("pending", now=now))
        self.assertEqual([], self.listed("expired", now=now))
        self.assertEqual([later, first], self.listed("active", "pending", now=now))
        self.assertEqual([first], self.listed("expired", now=NOON + 2 * HOUR))
        self.assertEqual([later], self.listed(filters={"author": "bob"}))
        self.assertEqual([first, later], self.listed(sort=[("ends_at", "asc")]))
        self.assertEqual([first], self.listed(marker=later.silence_id))

    def test_ended_by_somebody(self: Any) -> None:
        made = self.add()
        ended = self.database.run(silences.expire, made.silence_id, NOON + 5, "bob")
        self.assertEqual(dataclasses.replace(made, expired_at=NOON + 5, expired_by="bob"), ended)
        self.assertEqual([], self.active(NOON + 6))
        self.assertEqual([ended], self.listed("expired"))
        with self.database.writer() as tx:
            self.assertFalse(silences.lock_active(tx, made.silence_id, NOON + 6))
        again = (made.silence_id, NOON + 9, "eve")
        self.assertRaises(errors.Conflict, self.database.run, silences.expire, *again)
        over = self.add(ends_at=NOON + 1)
        again = (over.silence_id, NOON + 9, "eve")
        self.assertRaises(errors.Conflict, self.database.run, silences.expire, *again)
        self.assertRaises(errors.NotFound, self.database.run, silences.expire, "x", NOON, "eve")

    def test_of_eight_who_end_it_one_does(self: Any) -> None:
        made = self.add()
        databases = [self.another() for _ in range(4)]

        def end(number: int) -> Silence:
            run = databases[number % 4].run
            return run(silences.expire, made.silence_id, NOON, f"engine-{number}")

        results = race(8, end)
        self.assertEqual(7, sum(isinstance(one, errors.Conflict) for one in results), results)
        (won,) = [one for one in results if isinstance(one, Silence)]
        self.assertEqual([won], self.listed("expired"))

    def test_its_end_has_what_is_silenced_looked_at(self: Any) -> None:
        made = self.add()
        silenced, maintained, held = (
            samples.incident(state=state, held_by=by, hold_until=NOON + HOUR)
            for state, by in (
                (IncidentState.SILENCED, HoldReason.SILENCE),
                (IncidentState.SILENCED, HoldReason.MAINTENANCE),
                (IncidentState.HELD, ""),
            )
        )
        self.database.run(incidents.insert, [silenced, maintained, held])
        self.database.run(silences.expire, made.silence_id, NOON + 7, "bob")
        expected = [NOON + 7, NOON + HOUR, NOON + HOUR]
        self.assertEqual(expected, self.hold_until(silenced, maintained, held))
        with self.database.reader() as tx:
            self.assertEqual(NOON + 7, incidents.due(tx, NOON + 7, 9)[0].hold_until)

    def test_who_ends_it_waits_for_whom_it_silences_just_now(self: Any) -> None:
        made = self.add()
        pending = samples.incident()
        self.database.run(incidents.insert, [pending])
        other = self.another()

        def take(number: int) -> None:
            if number:
                started.wait(30)
                other.run(silences.expire, made.silence_id, NOON + 7, "bob")
                return
            with self.database.writer() as tx:
                found = incidents.lock(tx, pending.incident_id)
                self.assertTrue(silences.lock_active(tx, made.silence_id, NOON))
                started.set()
                changes = {"held_by": HoldReason.SILENCE, "hold_until": NOON + HOUR}
                incidents.transition(tx, found, "silence", reason="muted", now=NOON, **changes)

        started = threading.Event()
        self.assertEqual([None, None], race(2, take))
        self.assertEqual([NOON + 7], self.hold_until(pending))

    def test_there_are_not_too_many(self: Any) -> None:
        for _ in range(3):
            self.add()
        self.add(ends_at=NOON)
        more = samples.silence(created_at=NOON)
        self.assertRaises(errors.Conflict, self.database.run, silences.insert, more, 3)
        self.database.run(silences.insert, more, 4)

    def test_what_is_long_over_is_purged(self: Any) -> None:
        old, new = self.add(ends_at=NOON + 1), self.add(ends_at=NOON + 3)
        self.assertEqual(0, self.database.run(silences.purge, NOON + 1, 9))
        self.assertEqual(1, self.database.run(silences.purge, NOON + 3, 9))
        self.assertEqual([new], self.listed())
        self.assertNotEqual(old, new)
