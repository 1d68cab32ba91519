# SPDX-License-Identifier: Apache-2.0
"""How the claims of hosts on instances of other hosts end."""

import dataclasses

from vmmonitor.db import agents, inventories, owners
from vmmonitor.engine.ingest.local_events import LocalEvents
from vmmonitor.engine.upkeep.host_claims import HostClaims
from vmmonitor.expectation import Expectation
from vmmonitor.model.errors import Retriable
from vmmonitor.model.event import RECORD
from vmmonitor.rules import defaults, filters
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.engine.base import FAILURE, RUNS, UUID
from vmmonitor.tests.functional.engine.ingest.test_ownership import ARRIVED, OwnershipCase


class Naming(Expectation):
    """Names the host that a test sets."""

    NAMES_HOST = True
    host = ""
    error: Exception | None = None

    def judge(self, incident, events):
        raise AssertionError("is not queried here")

    def locate(self, instance_uuid):
        if self.error:
            raise self.error
        return self.host


class Silent(Naming):
    NAMES_HOST = False


class HostClaimsTest(OwnershipCase):
    def setUp(self) -> None:
        super().setUp()
        self.naming = Naming(self.conf)
        self.monitor("compute-1")
        self.send(self.here(RUNS))

    def check(self, expectation: Expectation | None = None) -> None:
        self.later(6)
        local_events = LocalEvents(
            filters=filters.load(defaults.path(defaults.EVENT_FILTERS)),
            writer=self.ingest(),
            store_timeout=10,
            now=self.database.now,
        )
        asked = expectation or self.naming
        HostClaims(self.conf, self.database, asked, local_events).check()

    def types(self) -> list[str]:
        return [one.event.type for one in self.events() if one.event.source == "engine"]

    def test_host_that_the_expectation_names_becomes_owner(self):
        self.send(self.there(FAILURE))
        self.naming.host = "compute-2"
        self.check()
        self.assertEqual(("compute-2", []), (self.owner(), self.claims()))
        self.assertEqual([("compute-2", FAILURE, "pending")], self.states())

    def test_claim_against_the_expectation_is_reported_once(self):
        self.monitor("compute-2")
        self.send(self.there(RUNS))
        self.naming.host = "compute-1"
        for _ in range(4):
            self.check()
        self.assertEqual(["host.conflict"], self.types())
        (conflict,) = [one for one in self.events() if one.event.source == "engine"]
        self.assertEqual(RECORD, conflict.decision.action)
        self.assertEqual(("compute-2", UUID), (conflict.event.host, conflict.event.instance.uuid))
        with self.database.reader() as tx:
            self.assertEqual("reports 1 instances of other hosts", self.conflict(tx))

    def conflict(self, tx) -> str:
        return agents.get(tx, "compute-2").conflict

    def test_claim_is_kept_while_the_expectation_does_not_answer(self):
        self.send(self.there(RUNS))
        self.naming.error = Retriable("nova is away")
        self.check()
        self.assertEqual(("compute-1", 1), (self.owner(), len(self.claims())))

    def test_owner_that_is_not_monitored_for_long_loses_the_instance(self):
        self.stop_agent("compute-1")
        self.send(self.there(RUNS))
        self.monitor("compute-2")
        self.check(Silent(self.conf))
        self.assertEqual("compute-1", self.owner())
        self.later(60)
        self.monitor("compute-2")
        self.check(Silent(self.conf))
        self.assertEqual("compute-2", self.owner())
        self.assertEqual(["host.owner_changed"], self.types()[-1:])

    def test_instance_that_only_the_other_host_runs_moves_after_a_minute(self):
        self.monitor("compute-1", "shutoff")
        self.send(self.here(FAILURE))
        self.send(self.there(RUNS))
        self.monitor("compute-2")
        self.check(Silent(self.conf))
        self.assertEqual("compute-1", self.owner())
        self.later(60)
        self.check(Silent(self.conf))
        self.assertEqual("compute-2", self.owner())
        self.assertEqual([("compute-2", FAILURE, "resolved")], self.states())

    def test_crash_on_the_other_host_while_the_owner_is_away_counts_when_it_moves(self):
        self.stop_agent("compute-1")
        self.send(self.there(RUNS))
        self.send(self.there(FAILURE))
        self.monitor("compute-2", "shutoff")
        self.later(60)
        self.check(Silent(self.conf))
        self.assertEqual([("compute-2", FAILURE, "pending")], self.states())

    def test_departure_stored_at_the_same_time_as_the_arrival_moves_the_instance(self):
        self.monitor("compute-2")
        self.send(self.there(RUNS))
        self.assertEqual([("compute-2", True, True)], self.claims())

        def depart(tx):
            # As another engine does that does not see the claim yet.
            owner = owners.owner_of(tx, UUID)
            owners.replace(tx, owner, dataclasses.replace(owner, released_at=self.clock))

        self.database.run(depart)
        self.monitor("compute-1", "shutoff")
        self.check(Silent(self.conf))
        self.assertEqual(("compute-2", []), (self.owner(), self.claims()))

    def test_contested_claim_never_moves_the_instance(self):
        self.monitor("compute-2")
        self.send(self.there(RUNS))
        self.stop_agent("compute-1")
        self.later(600)
        self.check(Silent(self.conf))
        self.assertEqual("compute-1", self.owner())

    def test_owner_that_is_monitored_again_and_runs_the_instance_contests_the_claim(self):
        self.stop_agent("compute-1")
        self.send(self.there(RUNS))
        self.assertEqual([("compute-2", True, False)], self.claims())
        self.monitor("compute-1")
        self.later(10)
        self.check(Silent(self.conf))
        self.assertEqual([("compute-2", True, True)], self.claims())

    def test_instance_that_left_another_host_is_owned_there_when_it_returns(self):
        """The source of its first migration was killed, so that the owner announced no move."""
        self.stop_agent("compute-1")
        self.send(self.there(ARRIVED))
        self.send(self.there("lifecycle.stopped/migrated", RECORD))
        self.monitor("compute-1")
        self.later(10)
        self.check(Silent(self.conf))
        self.send(self.there(ARRIVED))
        self.send(self.here("lifecycle.stopped/migrated", RECORD))
        self.send(self.there(FAILURE))
        self.assertEqual([("compute-2", FAILURE, "pending")], self.states())

    def test_owner_with_an_outdated_inventory_contests_nothing(self):
        self.stop_agent("compute-1")
        self.send(self.there(RUNS))
        back = samples.report(host="compute-1", inventory_digest="newer")
        self.database.run(agents.store_report, back, self.clock)
        self.later(10)
        self.check(Silent(self.conf))
        self.assertEqual([("compute-2", True, False)], self.claims())

    def test_other_name_of_a_host_is_shown_by_its_agent(self):
        names = {"compute-1": "compute-1.example.org"}
        self.database.run(agents.set_expected_names, names)
        self.check()
        with self.database.reader() as tx:
            conflict = agents.get(tx, "compute-1").conflict
        self.assertIn("has its instances on host compute-1.example.org", conflict)
        self.database.run(agents.set_expected_names, {})
        self.check()
        with self.database.reader() as tx:
            self.assertEqual("", agents.get(tx, "compute-1").conflict)

    def test_claim_that_is_not_repeated_ends(self):
        self.send(self.there(FAILURE))
        self.later(601)
        self.check(Silent(self.conf))
        self.assertEqual([], self.claims())

    def test_owners_of_instances_that_are_nowhere_are_purged(self):
        self.assertEqual(0, self.database.run(owners.purge, self.clock + 1, 10))
        self.database.run(inventories.replace, "compute-1", "e", [], self.clock)
        self.database.run(inventories.purge_lost, self.clock + 1, 10)
        self.assertEqual(1, self.database.run(owners.purge, self.clock + 1, 10))
        self.assertIsNone(self.owner())
