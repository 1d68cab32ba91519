# SPDX-License-Identifier: Apache-2.0
"""What every database must do with notifications that wait."""

import threading
from typing import Any

from vmmonitor.db import incidents, outbox, recoveries
from vmmonitor.db.session import Database
from vmmonitor.model import errors
from vmmonitor.model.notification import Change, Notification
from vmmonitor.model.states import IncidentState
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND

LEASE = 30 * SECOND


def notification(incident_id: str = "a", at: int = NOON, **fields: Any) -> Notification:
    known = {
        "incident_id": incident_id,
        "event_type": "vmmonitor.incident.open",
        "priority": "info",
        "payload": {"data": {"host": "compute-1"}},
        "created_at": at,
    }
    return Notification(**{**known, **fields})


class Gathering:
    """Keeps what it is told of."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.commits = 0

    def write(self, tx: Any, changes: Any) -> None:
        self.changes += changes

    def written(self) -> None:
        self.commits += 1


class OutboxContract:
    database: Database

    # -- what is gathered ----------------------------------------------------------------------
    def test_each_change_of_a_transaction_is_told_in_order(self: Any) -> None:
        told = self.database.outbox = Gathering()
        self.addCleanup(setattr, self.database, "outbox", None)
        incident = samples.incident()
        attempt = samples.recovery(incident_id=incident.incident_id)
        with self.database.writer() as tx:
            incidents.insert(tx, [incident])
            moved = incidents.transition(tx, incident, "confirm", reason="it failed", now=NOON + 1)
            recoveries.insert(tx, attempt)
            claimed = recoveries.transition(tx, attempt, "claim", now=NOON + 2, lease_owner="me")
            there = incidents.set_host(tx, moved, "compute-2", NOON + 3)
        expected = [
            Change(before=None, after=incident, at=NOON),
            Change(before=incident, after=moved, at=NOON + 1),
            Change(before=None, after=attempt, at=NOON),
            Change(before=attempt, after=claimed, at=NOON + 2),
            Change(before=moved, after=there, at=NOON + 3),
        ]
        self.assertEqual((expected, 1), (told.changes, told.commits))
        with self.database.reader() as tx:
            found = incidents.instances(tx, [incident.incident_id, samples.new_id()])
        self.assertEqual({incident.incident_id: incident.instance}, found)

    def test_of_what_was_undone_nothing_is_told(self: Any) -> None:
        told = self.database.outbox = Gathering()
        self.addCleanup(setattr, self.database, "outbox", None)
        incident = samples.incident()
        with self.assertRaises(errors.Conflict), self.database.writer() as tx:
            incidents.insert(tx, [incident])
            gone = samples.incident(state=IncidentState.UNHANDLED)
            incidents.transition(tx, gone, "run", reason="", now=NOON)
        self.assertEqual(([], 0), (told.changes, told.commits))
        with self.database.writer() as tx:
            incidents.instances(tx, [])
        self.assertEqual(0, told.commits)

    # -- claiming ------------------------------------------------------------------------------
    def test_a_notification_comes_back_as_it_was(self: Any) -> None:
        one = notification(payload={"text": "ü\x00🙂" + "x" * 100_000, "none": None})
        self.database.run(outbox.insert, [one])
        (found,) = self._claim("me")
        self.assertGreater(found.number, 0)
        self.assertEqual("ü\ufffd🙂x", found.payload["text"][:4])
        self.assertEqual(100_003, len(found.payload["text"]))
        self.assertEqual(("a", NOON), (found.incident_id, found.created_at))

    def test_nothing_to_store_and_nothing_to_claim(self: Any) -> None:
        self.database.run(outbox.insert, [])
        self.assertEqual([], self._claim("me"))
        self.database.run(outbox.settle, "me", [], 0)

    def test_what_one_sends_nobody_else_does(self: Any) -> None:
        self._store("a", "b", "a")
        claimed = self._claim("me")
        self.assertEqual(["a", "b", "a"], [one.incident_id for one in claimed])
        self.assertEqual([], self._claim("you"))
        # Not even what comes later, of an incident whose earlier ones are under way.
        self._store("a", "c")
        self.assertEqual(["c"], [one.incident_id for one in self._claim("you")])

    def test_what_was_sent_goes_and_the_rest_is_free(self: Any) -> None:
        self._store("a", "b", "a", "b")
        claimed = self._claim("me")
        self.database.run(outbox.settle, "me", claimed, 1)
        self.assertEqual(claimed[1:], self._claim("you"))
        # Who was slower than its lease takes nothing from the other, and lets nobody overtake it.
        self.database.run(outbox.settle, "me", claimed, 2)
        self.assertEqual([], self._claim("third"))
        self.assertEqual(claimed[1:], self._waiting())

    def test_a_lease_runs_out(self: Any) -> None:
        self._store("a")
        claimed = self._claim("me")
        self.assertEqual([], self._claim("you", NOON + LEASE - 1))
        self.assertEqual(claimed, self._claim("you", NOON + LEASE))

    def test_a_lease_of_a_clock_that_was_put_back_holds_nothing_up(self: Any) -> None:
        self._store("a")
        self._claim("me", NOON + 3600 * SECOND)
        self.assertEqual(1, len(self._claim("you")))

    def test_few_at_a_time(self: Any) -> None:
        self._store("a", "b", "a", "c")
        self.assertEqual(["a", "b"], [one.incident_id for one in self._claim("me", limit=2)])
        self.assertEqual(["c"], [one.incident_id for one in self._claim("you", limit=2)])

    def test_engines_at_once_send_everything_once_and_in_order(self: Any) -> None:
        """Each incident's numbers were sent in rising order, whoever sent them."""
        count, incident_ids = 120, [f"incident-{number}" for number in range(7)]
        engines = [self.database, self.another(), self.another()]
        sent: list[tuple[str, int]] = []
        guard = threading.Lock()
        stored = threading.Event()

        def store() -> None:
            for number in range(count):
                ids = incident_ids[number % 3 :: 3]
                engines[0].run(outbox.insert, [notification(one, NOON + number) for one in ids])
            stored.set()

        def send(number: int) -> None:
            while True:
                is_last = stored.is_set()
                owner = samples.new_id()
                claimed = engines[number].run(outbox.claim, owner, NOON, LEASE, 9)
                part = claimed[: max(1, len(claimed) // 2)]
                for one in part:
                    with guard:
                        sent.append((one.incident_id, one.number))
                engines[number].run(outbox.settle, owner, claimed, len(part))
                if is_last and not claimed and not self._waiting():
                    return

        self.assertEqual([None] * 4, race(4, lambda n: store() if n == 3 else send(n)))
        self.assertEqual(count * 7 // 3, len(sent))
        self.assertEqual(len(sent), len({number for _, number in sent}))
        for incident_id in incident_ids:
            numbers = [number for one, number in sent if one == incident_id]
            self.assertEqual(sorted(numbers), numbers)

    # -- dropping ------------------------------------------------------------------------------
    def test_what_is_too_much_goes_the_oldest_first(self: Any) -> None:
        self._store(*"abcdef")
        self.assertEqual(2, self._drop(keep=3, limit=2))
        self.assertEqual(1, self._drop(keep=3, limit=2))
        self.assertEqual(0, self._drop(keep=3, limit=2))
        self.assertEqual(["d", "e", "f"], [one.incident_id for one in self._waiting()])

    def test_what_is_too_old_goes(self: Any) -> None:
        for number, one in enumerate("abc"):
            self.database.run(outbox.insert, [notification(one, NOON + number)])
        self.assertEqual(2, self._drop(before=NOON + 2))
        self.assertEqual(["c"], [one.incident_id for one in self._waiting()])

    def _store(self: Any, *incident_ids: str) -> None:
        self.database.run(outbox.insert, [notification(one) for one in incident_ids])

    def _claim(self: Any, owner: str, now: int = NOON, limit: int = 100) -> Any:
        return self.database.run(outbox.claim, owner, now, LEASE, limit)

    def _drop(self: Any, before: int = 0, keep: int = 100, limit: int = 100) -> int:
        return self.database.run(outbox.drop, before, keep, limit)

    def _waiting(self: Any) -> Any:
        with self.database.reader() as tx:
            return outbox.waiting(tx)
