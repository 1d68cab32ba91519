# SPDX-License-Identifier: Apache-2.0
"""What every database must do with incidents."""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vmmonitor.db import incidents, recoveries, timeline_entries
from vmmonitor.db.page import Page
from vmmonitor.db.session import Database
from vmmonitor.model import errors
from vmmonitor.model.errors import IllegalTransition
from vmmonitor.model.incident import Incident
from vmmonitor.model.instance import Instance
from vmmonitor.model.states import IncidentState
from vmmonitor.model.timeline import TimelineEntry
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND


class IncidentsContract:
    database: Database

    def test_an_incident_comes_back_as_it_was(self: Any) -> None:
        incident = samples.incident(running_at=NOON, event_count=3, reason="x" * 100_000)
        self.database.run(incidents.insert, [incident])
        self.assertEqual(incident, self._get(incident))
        found = self._open_for(incident.instance.uuid, samples.new_id())
        self.assertEqual({incident.instance.uuid: incident}, found)

    def test_a_host_has_one_open_incident_and_no_instance_is_in_its_way(self: Any) -> None:
        host = "compute-" + "1" * 247
        incident = self._of_host(host)
        impostor = samples.incident(instance=samples.instance(uuid=f"host:{host}"[:36]))
        self.database.run(incidents.insert, [incident, self._of_host("other"), impostor])
        with self.assertRaises(errors.Conflict):
            self.database.run(incidents.insert, [self._of_host(host)])
        with self.database.writer() as tx:
            self.assertEqual(incident, incidents.lock_open_host(tx, host))
            self.assertIsNone(incidents.lock_open_host(tx, "nowhere"))
            self.assertEqual([host, "other"], incidents.hosts_with_open_incident(tx))
        moved = self.database.run(incidents.transition, incident, "leave", reason="x", now=NOON)
        self.database.run(incidents.transition, moved, "run", reason="watched", now=NOON + 1)
        self.database.run(incidents.insert, [self._of_host(host)])
        with self.database.reader() as tx:
            page = Page(limit=9, filters={"kind": "host", "host": host})
            self.assertEqual(2, len(incidents.page(tx, page)))

    def test_nobody_acts_on_a_host(self: Any) -> None:
        self.database.run(incidents.insert, [self._of_host("a")])
        with self.database.reader() as tx:
            self.assertEqual([], incidents.due(tx, NOON + 1, 9))
            self.assertIsNone(incidents.next_due(tx, NOON - 1))

    def _of_host(self: Any, host: str) -> Incident:
        return samples.incident(kind="host", host=host, instance=Instance(uuid=""))

    def test_another_reason_for_the_same_state(self: Any) -> None:
        incident = self._of_host("a")
        self.database.run(incidents.insert, [incident])
        found = self.database.run(incidents.set_reason, incident, "why", NOON + 5)
        expected = dataclasses.replace(incident, reason="why", updated_at=NOON + 5)
        self.assertEqual(expected, found)
        self.database.run(incidents.transition, incident, "leave", reason="x", now=NOON)
        with self.assertRaises(errors.Conflict):
            self.database.run(incidents.set_reason, incident, "late", NOON + 6)

    def test_a_hold_that_begins_in_the_future_begins_now(self: Any) -> None:
        hour = 3600 * SECOND
        hold = {"hold_until": NOON + hour + 15 * SECOND, "updated_at": NOON + hour}
        held = samples.incident(**hold)
        over = samples.incident(state=IncidentState.UNHANDLED, **hold)
        old = samples.incident(hold_until=NOON + hour)
        self.database.run(incidents.insert, [held, over, old])
        self.assertEqual(1, self.database.run(incidents.rebase_after_clock_step, NOON))
        self.assertEqual(0, self.database.run(incidents.rebase_after_clock_step, NOON))
        now = self._get(held)
        self.assertEqual((NOON + 15 * SECOND, NOON), (now.hold_until, now.updated_at))
        self.assertEqual([over, old], [self._get(over), self._get(old)])

    def test_no_such_incident(self: Any) -> None:
        with self.database.reader() as tx, self.assertRaises(errors.NotFound):
            incidents.get(tx, "nothing")

    def test_of_engines_that_open_one_for_an_instance_one_does(self: Any) -> None:
        shared = samples.instance()
        databases = [self.another() for _ in range(4)]

        def open_one(number: int) -> Incident:
            others = [samples.incident() for _ in range(5)]
            incident = samples.incident(instance=shared)
            databases[number].run(incidents.insert, [*others, incident])
            return incident

        results = race(4, open_one)
        won = [result for result in results if isinstance(result, Incident)]
        lost = [result for result in results if isinstance(result, errors.Conflict)]
        self.assertEqual((1, 3), (len(won), len(lost)), results)
        self.assertEqual({shared.uuid: won[0]}, self._open_for(shared.uuid))

    def test_who_lost_sees_the_winner(self: Any) -> None:
        shared = samples.instance()
        winner = samples.incident(instance=shared)
        with self.assertRaises(errors.Conflict), self.database.writer() as tx:
            self.assertEqual({}, incidents.lock_open(tx, [(shared.uuid, "compute-1")]))
            if self.database.engine.dialect.name == "sqlite":
                incidents.insert(tx, [winner])
            else:
                self.another().run(incidents.insert, [winner])
            incidents.insert(tx, [samples.incident(instance=shared)])
        if self.database.engine.dialect.name == "sqlite":
            self.database.run(incidents.insert, [winner])
        self.assertEqual({shared.uuid: winner}, self._open_for(shared.uuid))

    def test_a_move_writes_state_reason_time_and_changes(self: Any) -> None:
        incident = samples.incident()
        self.database.run(incidents.insert, [incident])
        moved = self.database.run(
            incidents.transition,
            incident,
            "hold",
            reason="no verdict",
            now=NOON + 5,
            policy="careful",
        )
        expected = dataclasses.replace(
            incident,
            state=IncidentState.HELD,
            reason="no verdict",
            updated_at=NOON + 5,
            policy="careful",
        )
        self.assertEqual(expected, moved)
        self.assertEqual(expected, self._get(incident))
        released = self.database.run(
            incidents.transition, moved, "release", reason="", now=NOON + 6, hold_until=NOON + 9
        )
        self.assertEqual((IncidentState.PENDING, NOON + 9), (released.state, released.hold_until))

    def test_what_is_over_is_closed_and_makes_room(self: Any) -> None:
        incident = samples.incident()
        self.database.run(incidents.insert, [incident])
        over = self.database.run(
            incidents.transition, incident, "plan", reason="stopped", now=NOON + 5
        )
        self.assertEqual((IncidentState.IGNORED, NOON + 5), (over.state, over.closed_at))
        self.assertEqual({}, self._open_for(incident.instance.uuid))
        self.database.run(incidents.insert, [samples.incident(instance=incident.instance)])

    def test_a_move_from_a_stale_state_is_a_conflict(self: Any) -> None:
        incident = samples.incident()
        self.database.run(incidents.insert, [incident])
        self.database.run(incidents.transition, incident, "confirm", reason="failed", now=NOON)
        with self.assertRaises(errors.Conflict):
            self.database.run(incidents.transition, incident, "plan", reason="stopped", now=NOON)
        self.assertEqual(IncidentState.RECOVERING, self._get(incident).state)

    def test_an_illegal_move_changes_nothing(self: Any) -> None:
        incident = samples.incident()
        self.database.run(incidents.insert, [incident])
        with self.assertRaises(IllegalTransition):
            self.database.run(incidents.transition, incident, "give_up", reason="", now=NOON)
        self.assertEqual(incident, self._get(incident))

    def test_of_engines_that_make_one_move_one_does(self: Any) -> None:
        incident = samples.incident()
        self.database.run(incidents.insert, [incident])
        databases = [self.another() for _ in range(4)]

        def confirm(number: int) -> str:
            reason = f"engine {number}"
            databases[number].run(
                incidents.transition, incident, "confirm", reason=reason, now=NOON
            )
            return reason

        results = race(4, confirm)
        won = [result for result in results if isinstance(result, str)]
        self.assertEqual(1, len(won), results)
        self.assertEqual(won[0], self._get(incident).reason)

    def test_a_newer_failure_takes_back_that_it_runs(self: Any) -> None:
        incident = samples.incident(running_at=NOON)
        self.database.run(incidents.insert, [incident])
        self.database.run(incidents.count_events, incident.incident_id, 1, None, NOON + 1)
        with self.assertRaises(errors.Conflict):
            self.database.run(
                incidents.transition, incident, "run", reason="it runs", now=NOON + 2
            )
        self.assertEqual(IncidentState.PENDING, self._get(incident).state)

    def test_attach_counts_and_sets_keeps_or_clears_running_at(self: Any) -> None:
        incident = samples.incident()
        self.database.run(incidents.insert, [incident])
        seen = []
        for running_at in (NOON, incidents.KEEP, None):
            self.database.run(
                incidents.count_events, incident.incident_id, 2, running_at, NOON + 7
            )
            found = self._get(incident)
            seen.append((found.event_count, found.running_at, found.updated_at))
        self.assertEqual([(3, NOON, NOON + 7), (5, NOON, NOON + 7), (7, None, NOON + 7)], seen)

    def test_nothing_is_attached_to_what_is_over(self: Any) -> None:
        incident = samples.incident()
        self.database.run(incidents.insert, [incident])
        self.database.run(incidents.transition, incident, "run", reason="runs", now=NOON)
        with self.assertRaises(errors.Conflict):
            self.database.run(incidents.count_events, incident.incident_id, 1, None, NOON)

    def test_concurrent_attaches_all_count(self: Any) -> None:
        crowd = [samples.incident() for _ in range(4)]
        self.database.run(incidents.insert, crowd)
        databases = [self.another() for _ in range(4)]

        def attach_all(tx: Any, number: int) -> None:
            turned = crowd[number:] + crowd[:number]
            incidents.lock_open(tx, [(one.instance.uuid, one.host) for one in turned])
            for incident in turned:
                incidents.count_events(tx, incident.incident_id, 1, incidents.KEEP, NOON)

        self.assertEqual([None] * 4, race(4, lambda n: databases[n].run(attach_all, n)))
        self.assertEqual([5] * 4, [self._get(incident).event_count for incident in crowd])

    def test_a_deadlock_is_resolved(self: Any) -> None:
        pair = [samples.incident() for _ in range(2)]
        self.database.run(incidents.insert, pair)
        databases = [self.another() for _ in range(2)]

        def attach_both(tx: Any, order: list[Incident]) -> None:
            for incident in order:
                incidents.count_events(tx, incident.incident_id, 1, incidents.KEEP, NOON)
                time.sleep(0.05)

        results = race(2, lambda n: databases[n].run(attach_both, [pair, pair[::-1]][n]))
        self.assertEqual([None, None], results)
        self.assertEqual([3, 3], [self._get(incident).event_count for incident in pair])

    def test_a_locked_incident_waits_to_be_moved(self: Any) -> None:
        incident = samples.incident()
        self.database.run(incidents.insert, [incident])
        mover = self.another()
        with ThreadPoolExecutor(1) as threads:
            with self.database.writer() as tx:
                self.assertEqual(incident, incidents.lock(tx, incident.incident_id))
                moving = threads.submit(
                    mover.run, incidents.transition, incident, "plan", reason="stopped", now=NOON
                )
                incidents.count_events(tx, incident.incident_id, 1, NOON, NOON)
                time.sleep(0.1)
                self.assertFalse(moving.done())
            self.assertEqual(2, moving.result().event_count)

    def test_nothing_to_lock(self: Any) -> None:
        with self.database.writer() as tx, self.assertRaises(errors.NotFound):
            incidents.lock(tx, "nothing")

    def test_due_are_those_whose_hold_is_over(self: Any) -> None:
        crowd = [samples.incident(hold_until=NOON + late) for late in (3, 1, 2, 99)]
        crowd[2] = dataclasses.replace(crowd[2], state=IncidentState.HELD)
        moved = samples.incident(hold_until=NOON)
        self.database.run(incidents.insert, [*crowd, moved])
        self.database.run(incidents.transition, moved, "confirm", reason="failed", now=NOON)
        with self.database.reader() as tx:
            self.assertEqual([crowd[1], crowd[2], crowd[0]], incidents.due(tx, NOON + 3, 10))
            self.assertEqual([crowd[1]], incidents.due(tx, NOON + 3, 1))
            told = [incidents.next_due(tx, NOON + late) for late in (0, 1, 99)]
            self.assertEqual([NOON + 1, NOON + 2, None], told)

    def test_nothing_is_due_without_incidents(self: Any) -> None:
        with self.database.reader() as tx:
            self.assertEqual(
                ([], None), (incidents.due(tx, NOON, 9), incidents.next_due(tx, NOON))
            )

    def test_reschedule_happens_once(self: Any) -> None:
        incident = samples.incident()
        self.database.run(incidents.insert, [incident])
        later = NOON + SECOND
        found = self.database.run(
            incidents.reschedule, incident, later, "nova is away", NOON, policy="careful"
        )
        self.assertEqual((IncidentState.PENDING, later), (found.state, found.hold_until))
        self.assertEqual(("careful", "nova is away"), (found.policy, found.reason))
        self.assertEqual(found, self._get(incident))
        with self.assertRaises(errors.Conflict):
            self.database.run(incidents.reschedule, incident, later + 1, "again", NOON)

    def test_steps_come_back_in_order(self: Any) -> None:
        incident_id = samples.new_id()
        steps = [
            TimelineEntry(
                incident_id=incident_id, at=at, kind="state", message=f"{at} ä", data={"n": [at]}
            )
            for at in (NOON, NOON, NOON + 1)
        ]
        self.database.run(timeline_entries.insert, steps[2:])
        self.database.run(timeline_entries.insert, steps[:2])
        self.database.run(timeline_entries.insert, [])
        with self.database.reader() as tx:
            self.assertEqual(steps, timeline_entries.of_incident(tx, incident_id))
            self.assertEqual([], timeline_entries.of_incident(tx, samples.new_id()))

    def test_purge_takes_what_is_over_with_all_of_it(self: Any) -> None:
        open_one, over = samples.incident(), samples.incident()
        for incident in (open_one, over):
            self.database.run(incidents.insert, [incident])
            step = TimelineEntry(
                incident_id=incident.incident_id, at=NOON, kind="state", message="m"
            )
            self.database.run(timeline_entries.insert, [step])
            recovery = samples.recovery(incident_id=incident.incident_id)
            self.database.run(recoveries.insert, recovery)
        self.database.run(incidents.transition, over, "run", reason="runs", now=NOON)
        self.assertEqual(0, self.database.run(incidents.purge, NOON, 10))
        self.assertEqual(1, self.database.run(incidents.purge, NOON + 1, 10))
        with self.database.reader() as tx:
            self.assertEqual([], timeline_entries.of_incident(tx, over.incident_id))
            self.assertEqual([], recoveries.of_incident(tx, over.incident_id))
            self.assertEqual(1, len(timeline_entries.of_incident(tx, open_one.incident_id)))
            self.assertEqual(1, len(recoveries.of_incident(tx, open_one.incident_id)))
        self.assertEqual(open_one, self._get(open_one))

    def _open_for(self: Any, *uuids: str) -> dict[str, Incident]:
        with self.database.writer() as tx:
            found = incidents.lock_open(tx, [(uuid, "compute-1") for uuid in uuids])
        return {uuid: incident for (uuid, _), incident in found.items()}

    def _get(self: Any, incident: Incident) -> Incident:
        with self.database.reader() as tx:
            return incidents.get(tx, incident.incident_id)
