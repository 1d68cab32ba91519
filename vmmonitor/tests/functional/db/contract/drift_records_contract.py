# SPDX-License-Identifier: Apache-2.0
"""What every database must do with mismatches."""

import dataclasses
from typing import Any

from vmmonitor.db import drift_records
from vmmonitor.db.session import Database
from vmmonitor.model import errors
from vmmonitor.model.drift import DriftRecord
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON


def noted(**fields: Any) -> DriftRecord:
    known = {
        "instance": samples.instance(),
        "host": "compute-1",
        "hosts": ("compute-1", "compute-2"),
        "key": "reconcile.missing - running compute-1",
        "first_seen_at": NOON,
        "last_seen_at": NOON,
    }
    return DriftRecord(**{**known, **fields})


class DriftRecordsContract:
    database: Database

    def test_what_is_remembered(self: Any) -> None:
        one, two = noted(), noted(hosts=("x",), reported_key="k", event_id="e")
        for each in (one, two):
            self.database.run(drift_records.insert, each)
        self.assertEqual([one, two], self._all())
        with self.database.reader() as tx:
            self.assertEqual(two, drift_records.get(tx, two.instance.uuid))
            self.assertIsNone(drift_records.get(tx, "nobody"))
        with self.assertRaises(errors.Conflict):
            self.database.run(drift_records.insert, one)

    def test_it_is_changed_and_forgotten_only_as_it_was_read(self: Any) -> None:
        one = noted()
        self.database.run(drift_records.insert, one)
        self.assertTrue(self.database.run(drift_records.change, one, last_seen_at=NOON + 1))
        self.assertTrue(
            self.database.run(drift_records.change, one, reported_key=one.key, event_id="e")
        )
        self.assertFalse(self.database.run(drift_records.change, one, key="other"))
        self.assertFalse(self.database.run(drift_records.delete, one))
        told = dataclasses.replace(one, reported_key=one.key, event_id="e")
        self.assertEqual([told], self._all())
        self.assertTrue(self.database.run(drift_records.delete, told))
        self.assertEqual([], self._all())

    def test_of_many_at_once_one_changes_it(self: Any) -> None:
        one = noted()
        self.database.run(drift_records.insert, one)
        databases = [self.another() for _ in range(4)]

        def tell(number: int) -> bool:
            return databases[number].run(drift_records.change, one, reported_key=str(number))

        self.assertEqual([False] * 3 + [True], sorted(race(4, tell)))

    def _all(self: Any) -> list[DriftRecord]:
        with self.database.reader() as tx:
            return drift_records.all(tx)
