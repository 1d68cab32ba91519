# SPDX-License-Identifier: Apache-2.0
"""What every database must do with the requests of operators."""

from typing import Any

from vmmonitor.db import requests
from vmmonitor.db.page import Page
from vmmonitor.model import errors
from vmmonitor.model.request import OperatorRequest
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND


class RequestsContract:
    def add(self: Any, **fields: Any) -> OperatorRequest:
        known = {
            "request_id": samples.new_id(),
            "verb": "hold",
            "incident_id": samples.new_id(),
            "author": "jane \u2603",
            "comment": "long " * 20_000,
            "options": {"seconds": 90.5},
            "created_at": NOON,
            "state": "requested",
        }
        request = OperatorRequest(**{**known, **fields})
        self.database.run(requests.insert, request)
        return request

    def due(self: Any) -> list[OperatorRequest]:
        with self.database.reader() as tx:
            return requests.due(tx, 10)

    def test_an_action_comes_back_as_it_was(self: Any) -> None:
        request = self.add()
        with self.database.reader() as tx:
            self.assertEqual(request, requests.get(tx, request.request_id))
            with self.assertRaises(errors.NotFound):
                requests.get(tx, "nobody")

    def test_the_oldest_is_due_first_until_it_is_ended(self: Any) -> None:
        second, first = self.add(created_at=NOON + 1), self.add()
        self.assertEqual([first, second], self.due())
        self.database.run(requests.set_message, first, "waits for a driver")
        waiting = self.due()[0]
        self.assertEqual("waits for a driver", waiting.message)
        self.database.run(requests.transition, waiting, "refuse", "no", NOON + SECOND)
        self.assertEqual([second], self.due())
        with self.database.reader() as tx:
            ended = requests.get(tx, first.request_id)
        self.assertEqual(("refused", "no", NOON + SECOND), as_ended(ended))

    def test_of_many_one_ends_it(self: Any) -> None:
        request = self.add()

        def end(number: int) -> Any:
            return self.database.run(requests.transition, request, "do", f"{number}", NOON)

        answers = race(6, end)
        self.assertEqual(5, sum(isinstance(one, errors.Conflict) for one in answers), answers)

    def test_pages(self: Any) -> None:
        one, other = self.add(), self.add(created_at=NOON + SECOND, verb="resolve")
        with self.database.reader() as tx:
            self.assertEqual([other, one], requests.page(tx, Page(limit=9)))
            filters = {"incident_id": one.incident_id}
            self.assertEqual([one], requests.page(tx, Page(limit=9, filters=filters)))

    def test_purge_takes_the_oldest_that_were_ended(self: Any) -> None:
        kept, ended = self.add(), [self.add() for _ in range(3)]
        for number, request in enumerate(ended):
            self.database.run(requests.transition, request, "do", "", NOON + number)
        self.assertEqual(2, self.database.run(requests.purge, NOON + 2, 5))
        self.assertEqual(0, self.database.run(requests.purge, NOON + 2, 5))
        with self.database.reader() as tx:
            found = {one.request_id for one in requests.page(tx, Page(limit=9))}
        self.assertEqual({kept.request_id, ended[2].request_id}, found)


def as_ended(request: OperatorRequest) -> tuple[str, str, int | None]:
    return request.state, request.message, request.finished_at
