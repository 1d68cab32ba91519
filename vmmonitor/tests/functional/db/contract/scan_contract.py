# SPDX-License-Identifier: Apache-2.0
"""What every database must do for a replay."""

from typing import Any

from vmmonitor.db import events, incidents, scan, timeline_entries
from vmmonitor.db.session import Database
from vmmonitor.model.timeline import TimelineEntry
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON


class ScanContract:
    database: Database

    def test_each_host_s_events_in_their_order(self: Any) -> None:
        times = [NOON, NOON + 2, NOON, NOON - 1, NOON + 1]
        kept = [
            samples.stored(at, host=host, sequence=n)
            for host in ("b", "a")
            for n, at in enumerate(times)
        ]
        self.database.run(events.insert, kept)
        self.assertEqual(["a", "b"], list(scan.hosts(self.database)))
        for size in (1, 2, 3, 9):
            told = list(scan.events(self.database, "b", NOON, size))
            self.assertEqual([0, 2, 4, 1], [one.event.sequence for one in told])
            self.assertEqual({"b"}, {one.event.host for one in told})

    def test_incidents_with_what_was_decided_about_them(self: Any) -> None:
        opened = [samples.incident(opened_at=NOON + n) for n in range(5)]
        opened.append(samples.incident(kind="host", host="elsewhere"))
        event = samples.stored()
        lines = [
            TimelineEntry(incident_id=opened[1].incident_id, at=NOON + at, kind=kind, message="m")
            for at, kind in ((2, "hold"), (1, "decision"), (3, "state"))
        ]
        with self.database.writer() as tx:
            incidents.insert(tx, opened)
            timeline_entries.insert(tx, lines)
            events.insert(tx, [event])
        pages = list(scan.incidents(self.database, NOON + 1, 3))
        ids = [[one.incident_id for one in page] for page in pages]
        self.assertEqual([[one.incident_id for one in part] for part in
                          (opened[1:4], opened[4:5])], ids)  # fmt: skip
        with self.database.reader() as tx:
            told = scan.steps(tx, ids[0])
            known = scan.events_by_id(tx, [event.event.event_id, "gone"])
        self.assertEqual(["decision", "hold"], [one.kind for one in told[ids[0][0]]])
        self.assertEqual([], told[ids[0][1]])
        self.assertEqual({event.event.event_id: event}, known)
