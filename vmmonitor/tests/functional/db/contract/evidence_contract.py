# SPDX-License-Identifier: Apache-2.0
"""What every database must do with evidence."""

import contextlib
import os
from typing import Any

from vmmonitor.db import events, evidence, incidents
from vmmonitor.model import errors
from vmmonitor.model.evidence import KINDS, Item
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND

#: Every byte that there is, and more than 64 KiB of them.
PICTURE = bytes(range(256)) * 1024


def item(kind: str = "screenshot", content: bytes = PICTURE, **facts: Any) -> Item:
    return Item(kind=kind, captured_at=NOON, content=content, **facts)


class EvidenceContract:
    def event(self: Any, at: int = NOON, incident_id: str | None = None) -> str:
        stored = samples.stored(at, incident_id)
        self.database.run(events.insert, [stored])
        return stored.event.event_id

    def add(self: Any, event_id: str, *items: Item, host: str = "compute-1") -> None:
        for one in items:
            self.database.run(evidence.insert, host, event_id, one)

    def kinds(self: Any, event_id: str) -> list[str]:
        with self.database.reader() as tx:
            return [one.kind for one in evidence.of_event(tx, event_id)]

    def content(self: Any, event_id: str, kind: str) -> Item:
        with self.database.reader() as tx:
            return evidence.content(tx, event_id, kind)

    def test_bytes_come_back_as_they_were(self: Any) -> None:
        event_id = self.event()
        missing = item("console", b"", message="no console, \u2603\x00")
        self.add(event_id, item(), missing)
        self.assertEqual(item(), self.content(event_id, "screenshot"))
        with self.database.reader() as tx:
            first, second = evidence.of_event(tx, event_id)
        self.assertEqual(("screenshot", "image/png"), (first.kind, first.content_type))
        self.assertEqual((len(PICTURE), item().sha256), (first.size, first.sha256))
        self.assertEqual(
            (0, "", "no console, \u2603\ufffd"), (second.size, second.sha256, second.message)
        )
        self.assertRaises(errors.NotFound, self.content, event_id, "console")
        self.assertRaises(errors.NotFound, self.content, event_id, "stats")

    def test_an_item_of_several_mebibytes(self: Any) -> None:
        event_id = self.event()
        large = item(content=os.urandom(4 * 1024 * 1024))
        self.add(event_id, large)
        self.assertEqual(large, self.content(event_id, "screenshot"))

    def test_each_kind_is_stored_once(self: Any) -> None:
        event_id = self.event()
        self.add(event_id, item())
        self.assertRaises(errors.Conflict, self.add, event_id, item(content=b"later"))
        self.assertEqual(PICTURE, self.content(event_id, "screenshot").content)

    def test_several_engines_at_once_store_it_once(self: Any) -> None:
        event_id = self.event()
        databases = [self.another() for _ in range(4)]

        def store(number: int) -> bool:
            try:
                databases[number].run(evidence.insert, "compute-1", event_id, item())
            except errors.Conflict:
                return False
            return True

        self.assertEqual([False, False, False, True], sorted(race(4, store)))
        self.assertEqual(["screenshot"], self.kinds(event_id))

    def test_there_is_none_without_its_event_nor_of_another_host(self: Any) -> None:
        event_id = self.event()
        self.assertRaises(errors.NotFound, self.add, samples.new_id(), item())
        self.assertRaises(errors.NotFound, self.add, event_id, item(), host="compute-2")
        self.assertEqual([], self.kinds(event_id))

    def test_it_is_purged_with_its_event_and_no_other(self: Any) -> None:
        open_one = samples.incident()
        self.database.run(incidents.insert, [open_one])
        old, new = self.event(NOON - SECOND), self.event(NOON)
        needed = self.event(NOON - SECOND, open_one.incident_id)
        for event_id in (old, new, needed):
            self.add(event_id, *(item(kind, b"x") for kind in KINDS))
        self.assertEqual(1, self.database.run(events.purge, NOON, 0, 100))
        self.assertEqual([], self.kinds(old))
        self.assertEqual([list(KINDS)] * 2, [self.kinds(new), self.kinds(needed)])

    def test_evidence_that_comes_while_its_event_is_purged_is_not_left_over(self: Any) -> None:
        databases = [self.another() for _ in range(2)]
        for _ in range(10):
            event_id = self.event(NOON - SECOND)

            def act(number: int, event_id: str = event_id) -> None:
                if number:
                    databases[1].run(events.purge, NOON, 0, 100)
                    return
                with contextlib.suppress(errors.NotFound):
                    databases[0].run(evidence.insert, "compute-1", event_id, item())

            race(2, act)
            self.database.run(events.purge, NOON, 0, 100)
            self.assertEqual([], self.kinds(event_id))
