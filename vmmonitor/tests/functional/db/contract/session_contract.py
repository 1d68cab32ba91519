# SPDX-License-Identifier: Apache-2.0
"""What every database must do with transactions and time."""

import time
from typing import Any

import sqlalchemy as sa
from oslo_db import exception

from vmmonitor.db import events
from vmmonitor.db.page import Page
from vmmonitor.db.session import Database
from vmmonitor.db.tables import EVENTS
from vmmonitor.model import errors
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import SECOND


class SessionContract:
    database: Database

    def test_what_raised_is_rolled_back(self: Any) -> None:
        event = samples.stored()
        with self.assertRaises(ZeroDivisionError), self.database.writer() as tx:
            events.insert(tx, [event])
            raise ZeroDivisionError
        self.assertEqual(0, self._count())

    def test_run_repeats_what_had_a_bad_moment(self: Any) -> None:
        calls: list[int] = []

        def unlucky(tx: Any, event: Any) -> str:
            events.insert(tx, [event])
            calls.append(1)
            if len(calls) < 3:
                raise exception.DBDeadlock(RuntimeError("deadlock"))
            return "done"

        self.assertEqual("done", self.database.run(unlucky, samples.stored()))
        self.assertEqual((3, 1), (len(calls), self._count()))

    def test_run_gives_up_and_says_why(self: Any) -> None:
        calls: list[int] = []

        def hopeless(tx: Any) -> None:
            calls.append(1)
            raise exception.DBConnectionError(RuntimeError("no route to host"))

        with self.assertRaisesRegex(errors.Retriable, "no route to host"):
            self.database.run(hopeless)
        self.assertTrue(2 <= len(calls) <= 10, calls)

    def test_run_does_not_repeat_a_conflict(self: Any) -> None:
        calls: list[int] = []

        def conflict(tx: Any) -> None:
            calls.append(1)
            raise errors.Conflict

        with self.assertRaises(errors.Conflict):
            self.database.run(conflict)
        self.assertEqual([1], calls)

    def test_a_reader_waits_for_no_writer(self: Any) -> None:
        self.database.run(events.insert, [samples.stored()])
        with self.database.writer() as tx:
            tx.execute(sa.update(EVENTS).values(rule="changed"))
            started = time.monotonic()
            with self.another().reader() as other:
                self.assertEqual("crashed", other.execute(sa.select(EVENTS.c.rule)).scalar())
            self.assertLess(time.monotonic() - started, 2)

    def test_a_transaction_for_each_of_many_threads(self: Any) -> None:
        def store(number: int) -> None:
            for _ in range(10):
                self.database.run(events.insert, [samples.stored()])
                with self.database.reader() as tx:
                    events.page(tx, Page(limit=5))

        self.assertEqual([None] * 12, race(12, store))
        self.assertEqual(120, self._count())

    def test_its_clock_is_utc_whatever_the_time_zone(self: Any) -> None:
        for zone in ("+11:00", "-03:00"):
            with self.database.reader() as tx:
                if tx.dialect.name == "mysql":
                    tx.execute(sa.text("SET time_zone = :zone"), {"zone": zone})
                if tx.dialect.name == "postgresql":
                    tx.execute(sa.text(f"SET LOCAL TIME ZONE INTERVAL '{zone}' HOUR TO MINUTE"))
            told = self.database.now()
            self.assertLess(abs(told - time.time_ns() // 1000), SECOND)

    def test_its_clock_goes_on_between_two_questions(self: Any) -> None:
        first = self.database.now()
        time.sleep(0.02)
        self.assertTrue(20_000 <= self.database.now() - first < SECOND)

    def _count(self: Any) -> int:
        with self.database.reader() as tx:
            count: int = tx.execute(sa.select(sa.func.count()).select_from(EVENTS)).scalar_one()
        return count
