# SPDX-License-Identifier: Apache-2.0
"""Test fence tokens, and the locks of names, on every database."""

from typing import Any

import sqlalchemy as sa

from vmmonitor.db import fences, locks
from vmmonitor.db.session import Database
from vmmonitor.db.tables import FENCES, LOCKS
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON


class FencesContract:
    database: Database

    def advance(self: Any, uuid: str, now: int) -> int:
        return self.database.run(fences.advance, uuid, now)

    def test_token_rises_although_the_clock_steps_back(self: Any) -> None:
        uuid = samples.new_id()
        moments = (NOON, NOON, NOON - 9, NOON + 7, NOON)
        tokens = [self.advance(uuid, now) for now in moments]
        self.assertEqual([NOON, NOON + 1, NOON + 2, NOON + 7, NOON + 8], tokens)
        self.assertEqual(NOON, self.advance(samples.new_id(), NOON), "each instance has its own")

    def test_tokens_of_eight_threads_differ(self: Any) -> None:
        uuid = samples.new_id()
        tokens = race(8, lambda _: self.advance(uuid, NOON))
        self.assertEqual(list(range(NOON, NOON + 8)), sorted(tokens))

    def test_token_after_a_purge_is_higher(self: Any) -> None:
        old, new = samples.new_id(), samples.new_id()
        self.advance(old, NOON)
        self.advance(new, NOON + 9)
        self.assertEqual(1, self.database.run(fences.purge, NOON + 9, 100))
        with self.database.reader() as tx:
            left = tx.execute(sa.select(FENCES.c.instance_uuid)).scalars().all()
        self.assertEqual([new], [uuid for uuid in left if uuid in (old, new)])
        self.assertEqual(NOON + 10, self.advance(old, NOON + 10))

    def test_lock_of_a_name_changes_its_row(self: Any) -> None:
        if self.database.engine.dialect.name == "sqlite":
            self.database.run(locks.lock, ["a"])
            self.assertEqual([], self.taken(), "SQLite has one writer at a time")
            return
        for expected in (1, 2, 3):
            self.database.run(locks.lock, ["b", "a"])
            self.assertEqual([("a", expected), ("b", expected)], self.taken())

    def taken(self: Any) -> list[tuple[str, int]]:
        query = sa.select(LOCKS.c.name, LOCKS.c.taken).where(LOCKS.c.name.in_(("a", "b")))
        with self.database.reader() as tx:
            return [tuple(row) for row in tx.execute(query.order_by(LOCKS.c.name))]
