# SPDX-License-Identifier: Apache-2.0
"""What every database must do with the actions of operators."""

from typing import Any

from vmmonitor.db import actions
from vmmonitor.db.page import Page
from vmmonitor.model import errors
from vmmonitor.model.action import Action
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND


class ActionsContract:
    def add(self: Any, **fields: Any) -> Action:
        known = {
            "action_id": samples.new_id(),
            "verb": "hold",
            "incident_id": samples.new_id(),
            "author": "jane \u2603",
            "comment": "long " * 20_000,
            "options": {"seconds": 90.5},
            "created_at": NOON,
            "state": "requested",
        }
        action = Action(**{**known, **fields})
        self.database.run(actions.insert, action)
        return action

    def due(self: Any) -> list[Action]:
        with self.database.reader() as tx:
            return actions.due(tx, 10)

    def test_an_action_comes_back_as_it_was(self: Any) -> None:
        action = self.add()
        with self.database.reader() as tx:
            self.assertEqual(action, actions.get(tx, action.action_id))
            with self.assertRaises(errors.NotFound):
                actions.get(tx, "nobody")

    def test_the_oldest_is_due_first_until_it_is_ended(self: Any) -> None:
        second, first = self.add(created_at=NOON + 1), self.add()
        self.assertEqual([first, second], self.due())
        self.database.run(actions.wait, first, "waits for a driver")
        waiting = self.due()[0]
        self.assertEqual("waits for a driver", waiting.message)
        self.database.run(actions.move, waiting, "refuse", "no", NOON + SECOND)
        self.assertEqual([second], self.due())
        with self.database.reader() as tx:
            ended = actions.get(tx, first.action_id)
        self.assertEqual(("refused", "no", NOON + SECOND), as_ended(ended))

    def test_of_many_one_ends_it(self: Any) -> None:
        action = self.add()

        def end(number: int) -> Any:
            return self.database.run(actions.move, action, "do", f"{number}", NOON)

        answers = race(6, end)
        self.assertEqual(5, sum(isinstance(one, errors.Conflict) for one in answers), answers)

    def test_pages(self: Any) -> None:
        one, other = self.add(), self.add(created_at=NOON + SECOND, verb="resolve")
        with self.database.reader() as tx:
            self.assertEqual([other, one], actions.page(tx, Page(limit=9)))
            filters = {"incident_id": one.incident_id}
            self.assertEqual([one], actions.page(tx, Page(limit=9, filters=filters)))

    def test_purge_takes_the_oldest_that_were_ended(self: Any) -> None:
        kept, ended = self.add(), [self.add() for _ in range(3)]
        for number, action in enumerate(ended):
            self.database.run(actions.move, action, "do", "", NOON + number)
        self.assertEqual(2, self.database.run(actions.purge, NOON + 2, 5))
        self.assertEqual(0, self.database.run(actions.purge, NOON + 2, 5))
        with self.database.reader() as tx:
            found = {one.action_id for one in actions.page(tx, Page(limit=9))}
        self.assertEqual({kept.action_id, ended[2].action_id}, found)


def as_ended(action: Action) -> tuple[str, str, int | None]:
    return action.state, action.message, action.finished_at
