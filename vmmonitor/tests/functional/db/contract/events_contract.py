# SPDX-License-Identifier: Apache-2.0
"""What every database must do with events."""

import dataclasses
from typing import Any

from vmmonitor.db import events, incidents
from vmmonitor.db.page import Page
from vmmonitor.db.session import Database
from vmmonitor.model import errors
from vmmonitor.model.event import INFO, RECORD, Decision
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND


class EventsContract:
    database: Database

    def test_an_event_comes_back_as_it_was(self: Any) -> None:
        event = samples.stored(
            incident_id=samples.new_id(),
            attributes={"path": "/dev/vdä", "deep": [1, 2.5, None, {"x": True}], "emoji": "🐧"},
            sequence=2**62,
        )
        self.database.run(events.insert, [event])
        with self.database.reader() as tx:
            self.assertEqual(event, events.get(tx, event.event.event_id))

    def test_no_such_event(self: Any) -> None:
        with self.database.reader() as tx, self.assertRaises(errors.NotFound):
            events.get(tx, "nothing")

    def test_an_empty_batch_is_nothing(self: Any) -> None:
        self.database.run(events.insert, [])
        with self.database.reader() as tx:
            self.assertEqual(set(), events.stored_ids(tx, []))

    def test_one_duplicate_refuses_the_batch(self: Any) -> None:
        first, second = samples.stored(), samples.stored()
        self.database.run(events.insert, [first])
        with self.assertRaises(errors.Conflict):
            self.database.run(events.insert, [second, first])
        ids = [first.event.event_id, second.event.event_id]
        with self.database.reader() as tx:
            self.assertEqual({ids[0]}, events.stored_ids(tx, ids))

    def test_ids_differ_by_case(self: Any) -> None:
        self.database.run(
            events.insert, [samples.stored(event_id="a"), samples.stored(event_id="A")]
        )
        with self.database.reader() as tx:
            self.assertEqual({"a", "A"}, events.stored_ids(tx, ["a", "A", "á"]))

    def test_known_takes_more_ids_than_a_statement(self: Any) -> None:
        batch = [samples.stored(sequence=number) for number in range(2500)]
        ids = {event.event.event_id for event in batch}
        self.database.run(events.insert, batch)
        with self.database.reader() as tx:
            self.assertEqual(ids, events.stored_ids(tx, [*ids, "nothing"]))

    def test_a_megabyte_fits(self: Any) -> None:
        event = samples.stored(attributes={"screen": "ä" * 2**20})
        self.database.run(events.insert, [event])
        with self.database.reader() as tx:
            self.assertEqual(event, events.get(tx, event.event.event_id))

    def test_what_cannot_be_stored_is_replaced(self: Any) -> None:
        event = samples.stored(
            event_id="hostile",
            detail="a\x00b",
            instance=samples.instance(name="half \ud83d"),
            attributes={"a\x00": "\x00\ud800", "b": "\\u0000"},
        )
        self.database.run(events.insert, [event])
        with self.database.reader() as tx:
            found = events.get(tx, "hostile").event
        self.assertEqual("a\ufffdb", found.detail)
        self.assertEqual("half \ufffd", found.instance.name)
        self.assertEqual({"a\ufffd": "\ufffd\ufffd", "b": "\\u0000"}, found.attributes)

    def test_the_newest_of_an_incident_oldest_first(self: Any) -> None:
        incident_id = samples.new_id()
        batch = [samples.stored(NOON, incident_id, sequence=number) for number in range(5)]
        batch.append(samples.stored(NOON - SECOND, incident_id, sequence=9, host="compute-2"))
        # The host's clock was put back.
        batch.append(samples.stored(NOON - 9 * SECOND, incident_id, sequence=5))
        self.database.run(events.insert, [*batch, samples.stored()])
        with self.database.reader() as tx:
            found = events.of_incident(tx, incident_id, limit=3)
            everything = events.of_incident(tx, incident_id)
        self.assertEqual([2, 3, 4], [event.event.sequence for event in found])
        self.assertEqual([9, 0, 1, 2, 3, 4, 5], [event.event.sequence for event in everything])

    def test_what_an_incident_tells_of(self: Any) -> None:
        incident_id = samples.new_id()
        record = Decision(action=RECORD, severity=INFO, rule="record")
        report = samples.stored(incident_id=incident_id, type="io_error")
        self.database.run(
            events.insert,
            [
                samples.stored(incident_id=incident_id, type="liveness.hung"),
                dataclasses.replace(report, decision=record),
                samples.stored(incident_id=samples.new_id()),
            ],
        )

        def tells(types: list[str], besides: list[str]) -> bool:
            with self.database.reader() as tx:
                return events.has_event_of(tx, incident_id, types, besides)

        self.assertFalse(tells(["lifecycle.stopped"], ["liveness.hung"]))
        self.assertTrue(tells(["lifecycle.stopped"], []))
        self.assertTrue(tells(["io_error"], ["liveness.hung"]))

    def test_one_batch_delivered_to_all_engines_is_stored_once(self: Any) -> None:
        batch = [samples.stored(sequence=number) for number in range(200)]
        databases = [self.another() for _ in range(4)]

        def store(number: int) -> int:
            orders = [batch, batch[::-1], batch[50:] + batch[:50], batch[100:]]
            return len(databases[number].run(_insert_new, orders[number]))

        stored = race(4, store)
        retried = [self.database.run(_insert_new, batch) for _ in range(2)]
        self.assertEqual([], retried[1])
        for result in stored:
            self.assertTrue(isinstance(result, int | errors.Conflict), repr(result))
        with self.database.reader() as tx:
            ids = {event.event.event_id for event in batch}
            self.assertEqual(ids, events.stored_ids(tx, ids))

    def test_concurrent_batches_are_all_stored(self: Any) -> None:
        databases = [self.another() for _ in range(4)]

        def store(number: int) -> int:
            for _ in range(5):
                batch = [samples.stored(host=f"compute-{each % 3}") for each in range(100)]
                databases[number].run(events.insert, batch)
            return number

        self.assertEqual([0, 1, 2, 3], race(4, store))

    def test_purge_takes_the_old_and_leaves_what_is_open(self: Any) -> None:
        open_one, over = samples.incident(), samples.incident()
        self.database.run(incidents.insert, [open_one, over])
        self.database.run(
            incidents.transition, over, "plan", reason="stopped by its owner", now=NOON
        )
        old = [samples.stored(NOON - SECOND), samples.stored(NOON - SECOND, over.incident_id)]
        needed = samples.stored(NOON - SECOND, open_one.incident_id)
        new = samples.stored(NOON)
        self.database.run(events.insert, [*old, needed, new])
        self.assertEqual(2, self.database.run(events.purge, NOON, 0, 100))
        self.assertEqual(0, self.database.run(events.purge, NOON, 0, 100))
        self.assertEqual({needed.event.event_id, new.event.event_id}, self._stored_ids())

    def test_what_was_told_of_an_instance_beside_an_incident(self: Any) -> None:
        incident = samples.incident()
        here = {"instance": incident.instance, "source": "nova_notifications"}
        other = samples.new_id()
        wanted = [samples.stored(NOON + number, **here) for number in range(3)]
        wanted.append(samples.stored(NOON + 9, other, **here))
        others = [
            samples.stored(NOON, incident.incident_id, **here),
            samples.stored(NOON - 1, **here),
            samples.stored(NOON, **{**here, "source": "libvirt", "type": "nova.reboot"}),
            samples.stored(NOON, source="nova_notifications"),
        ]
        self.database.run(events.insert, [*others, *wanted])
        with self.database.reader() as tx:
            told = events.of_instance(tx, incident, "nova_notifications", NOON)
            newest = events.of_instance(tx, incident, "nova_notifications", NOON, limit=2)
        self.assertEqual(wanted, told)
        self.assertEqual(wanted[-2:], newest)

    def test_purge_keeps_the_newest_n_and_what_is_open(self: Any) -> None:
        open_one = samples.incident()
        self.database.run(incidents.insert, [open_one])
        needed = samples.stored(NOON, open_one.incident_id, sequence=0)
        others = [samples.stored(NOON, sequence=number) for number in range(1, 10)]
        self.database.run(events.insert, [needed, *others])
        self.assertEqual(2, self.database.run(events.purge, 0, 4, 2))
        self.assertEqual(3, self.database.run(events.purge, 0, 4, 100))
        self.assertEqual(0, self.database.run(events.purge, 0, 4, 100))
        kept = {event.event.event_id for event in [needed, *others[-4:]]}
        self.assertEqual(kept, self._stored_ids())

    def test_purge_goes_in_bounds_oldest_first(self: Any) -> None:
        batch = [samples.stored(NOON + number, sequence=number) for number in range(7)]
        self.database.run(events.insert, batch)
        self.assertEqual(3, self.database.run(events.purge, NOON + SECOND, 0, 3))
        self.assertEqual({event.event.event_id for event in batch[3:]}, self._stored_ids())

    def _stored_ids(self: Any) -> set[str]:
        with self.database.reader() as tx:
            found = events.page(tx, Page(limit=1000))
        return {event.event.event_id for event in found}


def _insert_new(tx: Any, batch: list[Any]) -> list[Any]:
    known = events.stored_ids(tx, [event.event.event_id for event in batch])
    new = [event for event in batch if event.event.event_id not in known]
    events.insert(tx, [dataclasses.replace(event, stored_at=NOON) for event in new])
    return new
