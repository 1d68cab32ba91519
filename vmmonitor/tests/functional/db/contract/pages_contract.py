# SPDX-License-Identifier: Apache-2.0
"""What every database must do with lists."""

import itertools
from collections.abc import Callable
from typing import Any

from vmmonitor.db import agents, events, incidents, recoveries
from vmmonitor.db.page import Direction, Page
from vmmonitor.db.session import Database
from vmmonitor.model import errors
from vmmonitor.model.states import IncidentState, RecoveryState
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON


class PagesContract:
    database: Database

    def test_pages_make_up_the_list_in_both_directions(self: Any) -> None:
        times = [NOON, NOON + 1, NOON, NOON + 2, NOON, NOON + 1, NOON]
        batch = [samples.stored(at, sequence=n) for n, at in enumerate(times)]
        self.database.run(events.insert, batch)
        forwards = [0, 2, 4, 6, 1, 5, 3]
        for limit in range(1, 9):
            for direction, expected in (("asc", forwards), ("desc", forwards[::-1])):
                found = self._all(limit, sort=[("occurred_at", direction)])
                self.assertEqual(expected, [event.event.sequence for event in found])

    def test_two_keys_of_different_directions(self: Any) -> None:
        places = [("b", 1), ("a", 1), ("a", 2), ("b", 2), ("c", 1)]
        for host, at in places:
            self.database.run(agents.store_report, samples.report(host=f"{host}{at}"), NOON + at)
        found = []
        marker = None
        while True:
            page = Page(limit=2, marker=marker, sort=[("seen_at", "desc"), ("host", "asc")])
            with self.database.reader() as tx:
                agents_found = agents.page(tx, page)
            if not agents_found:
                break
            found += [agent.report.host for agent in agents_found]
            marker = found[-1]
        self.assertEqual(["a2", "b2", "a1", "b1", "c1"], found)

    def test_what_comes_between_two_pages_neither_repeats_nor_hides(self: Any) -> None:
        first = [samples.stored(NOON, sequence=n) for n in range(6)]
        self.database.run(events.insert, first)
        with self.database.reader() as tx:
            seen = events.page(tx, Page(limit=3))
        self.database.run(
            events.insert, [samples.stored(NOON + 1), samples.stored(NOON, sequence=7)]
        )
        marker = seen[-1].event.event_id
        with self.database.reader() as tx:
            seen += events.page(tx, Page(limit=9, marker=marker))
        self.assertEqual(first[::-1], seen)

    def test_events_by_filters_and_time(self: Any) -> None:
        one, two = samples.instance(), samples.instance()
        incident_id = samples.new_id()
        batch = [
            samples.stored(NOON, incident_id, instance=one, host="a", type="io_error"),
            samples.stored(NOON + 1, instance=one, host="b", type="watchdog"),
            samples.stored(NOON + 2, instance=two, host="a", type="watchdog"),
            samples.stored(NOON + 3, instance=two, host="c", type="agent.x"),
        ]
        self.database.run(events.insert, batch)
        wanted: list[tuple[dict[str, Any], list[int]]] = [
            ({"filters": {"instance_uuid": one.uuid}}, [1, 0]),
            ({"filters": {"host": ["a", "c"]}}, [3, 2, 0]),
            ({"filters": {"host": "a", "type": "watchdog"}}, [2]),
            ({"filters": {"incident_id": incident_id}}, [0]),
            ({"filters": {"host": []}}, []),
            ({"filters": {"host": "A"}}, []),
            ({"since": NOON + 1, "until": NOON + 3}, [2, 1]),
        ]
        for asked, numbers in wanted:
            found = self._all(10, **asked)
            self.assertEqual([batch[n] for n in numbers], found, asked)

    def test_incidents_and_recoveries_by_filters(self: Any) -> None:
        project = samples.instance(project_id="p1")
        one = samples.incident(instance=project, opened_at=NOON + 1)
        two = samples.incident(state=IncidentState.UNHANDLED, host="b")
        self.database.run(incidents.insert, [one, two])
        first = samples.recovery(incident_id=one.incident_id, created_at=NOON + 1)
        second = samples.recovery(state=RecoveryState.SKIPPED, driver="log")
        for recovery in (first, second):
            self.database.run(recoveries.insert, recovery)
        wanted: list[tuple[Callable[..., Any], dict[str, Any], list[Any]]] = [
            (incidents.page, {}, [one, two]),
            (incidents.page, {"state": [IncidentState.UNHANDLED, IncidentState.HELD]}, [two]),
            (incidents.page, {"project_id": "p1"}, [one]),
            (incidents.page, {"host": "b"}, [two]),
            (incidents.page, {"instance_uuid": one.instance.uuid}, [one]),
            (recoveries.page, {}, [first, second]),
            (recoveries.page, {"incident_id": one.incident_id}, [first]),
            (recoveries.page, {"instance_uuid": second.instance_uuid}, [second]),
            (recoveries.page, {"state": RecoveryState.SKIPPED, "driver": "log"}, [second]),
        ]
        with self.database.reader() as tx:
            for page, filters, expected in wanted:
                self.assertEqual(expected, page(tx, Page(limit=9, filters=filters)), filters)

    def test_every_offered_filter_and_sort_key_works(self: Any) -> None:
        modules: tuple[Any, ...] = (events, incidents, recoveries, agents)
        directions: tuple[Direction, ...] = ("asc", "desc")
        with self.database.reader() as tx:
            for module, direction in itertools.product(modules, directions):
                for key in module.REPOSITORY.sort:
                    self.assertEqual([], module.page(tx, Page(limit=1, sort=[(key, direction)])))
                for name in module.REPOSITORY.filters:
                    self.assertEqual([], module.page(tx, Page(limit=1, filters={name: "x"})))

    def test_what_is_not_offered_is_refused_by_name(self: Any) -> None:
        sideways: Any = [("stored_at", "up")]
        refused: list[tuple[Page, str]] = [
            (Page(limit=1, filters={"colour": "x"}), "'colour', only by: action, detail, host"),
            (Page(limit=1, sort=[("rule", "asc")]), "'rule', only by: id, occurred_at, stored_at"),
            (Page(limit=1, sort=sideways), "'up' is neither"),
            (Page(limit=0), "at least 1"),
        ]
        with self.database.reader() as tx:
            for page, why in refused:
                with self.assertRaisesRegex(ValueError, why):
                    events.page(tx, page)

    def test_a_marker_that_does_not_exist(self: Any) -> None:
        with self.database.reader() as tx, self.assertRaises(errors.NotFound):
            incidents.page(tx, Page(limit=1, marker="nothing"))

    def _all(self: Any, limit: int, **asked: Any) -> list[Any]:
        """All pages, one after the other."""
        found: list[Any] = []
        marker = None
        while True:
            with self.database.reader() as tx:
                page = events.page(tx, Page(limit=limit, marker=marker, **asked))
            found += page
            if len(page) < limit:
                return found
            marker = page[-1].event.event_id
