# SPDX-License-Identifier: Apache-2.0
"""What every database must do with registered hosts."""

from typing import Any

from vmmonitor.db import agents, hosts
from vmmonitor.model.errors import Conflict
from vmmonitor.model.host import RegisteredHost
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.db.samples import NOON, SECOND

HOST = "compute-1"


class HostsContract:
    def registered(self: Any) -> list[RegisteredHost]:
        with self.database.reader() as tx:
            return hosts.registered(tx)

    def record(self: Any, sent_at: int, key_id: str = "1", now: int = NOON + SECOND) -> None:
        self.database.run(hosts.record_call, HOST, key_id, sent_at, now)

    def test_host_is_registered_once(self: Any) -> None:
        self.assertTrue(self.database.run(hosts.register, HOST, NOON))
        self.assertFalse(self.database.run(hosts.register, HOST, NOON + 1))
        (found,) = self.registered()
        expected = RegisteredHost(
            host=HOST, added_at=NOON, issued_key="", used_key="", agent_state=""
        )
        self.assertEqual(expected, found)

    def test_issued_and_used_keys_are_listed_with_the_agent(self: Any) -> None:
        self.database.run(hosts.record_issued_key, HOST, "2", NOON)
        self.database.run(hosts.record_issued_key, "another", "1", NOON)
        self.database.run(agents.store_report, samples.report(host=HOST), NOON)
        self.record(NOON)
        another, found = self.registered()
        self.assertEqual(
            ("another", "1", ""), (another.host, another.issued_key, another.used_key)
        )
        self.assertEqual(("2", "1", "up"), (found.issued_key, found.used_key, found.agent_state))
        with self.database.reader() as tx:
            self.assertEqual("2", hosts.issued_key(tx, HOST))
            self.assertEqual("", hosts.issued_key(tx, "nowhere"))

    def test_call_that_is_not_newer_than_the_previous_one_conflicts(self: Any) -> None:
        self.record(NOON)
        for sent_at in (NOON, NOON - 1):
            self.assertRaises(Conflict, self.record, sent_at)
        self.record(NOON + 1, "2")
        self.assertEqual(["2"], [each.used_key for each in self.registered()])

    def test_call_of_a_host_whose_clock_is_ahead_does_not_exclude_later_ones(self: Any) -> None:
        self.record(NOON + 50 * SECOND, now=NOON)
        self.record(NOON + 1)

    def test_of_concurrent_repetitions_one_is_recorded(self: Any) -> None:
        self.record(NOON - 1)

        def record(number: int) -> bool:
            try:
                self.another().run(hosts.record_call, HOST, "1", NOON, NOON + SECOND)
            except Conflict:
                return False
            return True

        self.assertEqual(1, sum(race(4, record)))
