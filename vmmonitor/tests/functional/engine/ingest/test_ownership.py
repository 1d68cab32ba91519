# SPDX-License-Identifier: Apache-2.0
"""Which host speaks for an instance, and what the events of other hosts change."""

from typing import Any

from vmmonitor.db import agents, inventories, owners
from vmmonitor.model.event import INCIDENT, RECORD
from vmmonitor.model.instance import SHUTOFF, Instance, Seen
from vmmonitor.rpc.event_wire import Delivery
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON, SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import FAILURE, RUNS, UUID, delivery, policy

ARRIVED = "lifecycle.resumed/migrated"
VANISHED = "lifecycle.stopped/vanished"


class OwnershipCase(base.EngineCase):
    """Instance UUID runs on compute-1; compute-2 is another host."""

    def setUp(self) -> None:
        super().setUp()
        self.policies = self.load(policy(hold=10))

    def send(self, *deliveries: Delivery) -> list[str]:
        """Store events that occur now, later than those stored before."""
        self.clock += SECOND
        return self.store(*deliveries)

    def here(self, cause: str, action: str | None = None, **fields: Any) -> Delivery:
        return self.of("compute-1", cause, action, **fields)

    def there(self, cause: str, action: str | None = None, **fields: Any) -> Delivery:
        return self.of("compute-2", cause, action, **fields)

    def of(self, host: str, cause: str, action: str | None, **fields: Any) -> Delivery:
        harmless = cause.startswith(("lifecycle.started", "lifecycle.resumed"))
        action = action or (RECORD if harmless else INCIDENT)
        fields = {"occurred_at": self.clock + SECOND, **fields}
        return delivery(cause, action, host=host, **fields)

    def monitor(self, host: str, state: str = "running", **fields: Any) -> None:
        """Store a report and an inventory of a host with the instance."""
        self.database.run(agents.store_report, samples.report(host=host, **fields), self.clock)
        seen = Seen(instance=Instance(uuid=UUID, name="web"), state=state, run_id=1)
        self.database.run(inventories.replace, host, "d", [seen], self.clock)

    def stop_agent(self, host: str) -> None:
        stopped = samples.report(host=host, state="stopped")
        self.database.run(agents.store_report, stopped, self.clock)

    def owner(self) -> str | None:
        with self.database.reader() as tx:
            found = owners.owner_of(tx, UUID)
        return found.host if found else None

    def claims(self) -> list[tuple[str, bool, bool]]:
        """(host, running, contested) of each claim."""
        with self.database.reader() as tx:
            found = owners.claims_of(tx, UUID)
        return [(claim.host, claim.running, claim.contested) for claim in found]

    def states(self) -> list[tuple[str, str, str]]:
        """(host, cause, state) of each incident."""
        return sorted((one.host, one.cause, one.state) for one in self.incidents())


class OwnerTest(OwnershipCase):
    def test_first_host_that_reports_an_instance_owns_it(self):
        self.send(self.here(RUNS))
        self.send(self.there(RUNS))
        self.assertEqual("compute-1", self.owner())

    def test_migration_that_the_owner_announced_changes_the_owner(self):
        self.send(self.here(RUNS))
        self.send(self.there("lifecycle.started/migrated"))
        self.send(self.here("lifecycle.suspended/migrated", RECORD))
        self.assertEqual("compute-1", self.owner())
        self.send(self.there(ARRIVED))
        self.assertEqual(("compute-2", []), (self.owner(), self.claims()))

    def test_arrival_that_is_reported_before_the_departure_changes_the_owner(self):
        self.monitor("compute-1")
        self.send(self.here("io_error/x"))
        self.send(self.there(ARRIVED))
        self.assertEqual([("compute-2", True, True)], self.claims())
        self.send(self.here("lifecycle.stopped/migrated", RECORD))
        self.assertEqual(("compute-2", []), (self.owner(), self.claims()))
        self.assertEqual([("compute-2", "io_error/x", "pending")], self.states())

    def test_failed_migration_leaves_the_owner(self):
        self.send(self.here(RUNS))
        self.send(self.here("lifecycle.suspended/migrated", RECORD))
        self.send(self.here("lifecycle.resumed/unpaused"))
        self.send(self.there(RUNS))
        self.assertEqual("compute-1", self.owner())

    def test_start_elsewhere_after_planned_stop_or_removal_changes_the_owner(self):
        for cause in ("lifecycle.stopped/destroyed", "lifecycle.undefined/removed"):
            uuid = samples.new_id()
            self.send(self.here(RUNS, uuid=uuid))
            self.send(self.here(cause, RECORD, uuid=uuid))
            self.send(self.there(RUNS, uuid=uuid))
            self.send(self.there(FAILURE, uuid=uuid))
            incidents = [one for one in self.incidents() if one.instance.uuid == uuid]
            self.assertEqual(["compute-2"], [one.host for one in incidents], cause)

    def test_stop_by_a_recovery_does_not_release_the_instance(self):
        self.send(self.here("liveness.hung/monitor"))
        by_recovery = {"ended_by": "recovery"}
        self.send(self.here("lifecycle.stopped/destroyed", RECORD, attributes=by_recovery))
        self.send(self.there(RUNS))
        self.assertEqual("compute-1", self.owner())

    def test_instance_that_vanished_while_it_ran_elsewhere_is_owned_there(self):
        """It was migrated while the agent of its old host was stopped."""
        self.monitor("compute-1", state=SHUTOFF)
        self.send(self.here(RUNS))
        self.stop_agent("compute-1")
        self.send(self.there("lifecycle.started/migrated"), self.there(ARRIVED))
        self.assertEqual([("compute-2", True, False)], self.claims())
        self.send(self.here(VANISHED))
        self.assertEqual(("compute-2", []), (self.owner(), self.incidents()))
        self.send(self.there(FAILURE))
        self.assertEqual([("compute-2", FAILURE, "pending")], self.states())

    def test_failure_elsewhere_after_the_departure_opens_an_incident_there(self):
        """The agent of the new host was restarted, and did not see the arrival."""
        self.send(self.here(RUNS))
        self.send(self.here("lifecycle.stopped/migrated", RECORD))
        self.send(self.there(FAILURE))
        self.assertEqual([("compute-2", FAILURE, "pending")], self.states())

    def test_crash_on_the_new_host_before_the_old_agent_returns_opens_an_incident(self):
        self.monitor("compute-1", state=SHUTOFF)
        self.send(self.here(RUNS))
        self.stop_agent("compute-1")
        self.send(self.there(ARRIVED))
        self.send(self.there(FAILURE))
        self.assertEqual([], self.incidents())
        self.send(self.here(VANISHED))
        self.assertEqual([("compute-2", FAILURE, "pending")], self.states())

    def test_late_start_from_before_the_move_is_no_claim(self):
        self.send(self.here(RUNS))
        self.send(self.there(RUNS, occurred_at=NOON - 60 * SECOND))
        self.assertEqual([], self.claims())


class ForeignEventTest(OwnershipCase):
    """Events of compute-2 about an instance of compute-1."""

    def setUp(self) -> None:
        super().setUp()
        self.monitor("compute-1")
        self.send(self.here(RUNS))

    def test_foreign_failure_opens_no_incident_and_is_recorded_with_the_owner(self):
        self.assertEqual(["stored"], self.send(self.there(FAILURE)))
        self.assertEqual([], self.incidents())
        stored = self.events()[-1]
        self.assertEqual((RECORD, None), (stored.decision.action, stored.incident_id))
        self.assertEqual("compute-1", stored.event.attributes["owner"])
        self.assertEqual("incident", stored.event.attributes["filter_action"])

    def test_foreign_start_does_not_resolve_an_incident(self):
        self.send(self.here(FAILURE))
        for cause in (RUNS, "lifecycle.resumed/unpaused", "recovery.running/reset"):
            self.send(self.there(cause, RECORD))
        self.assertEqual([("compute-1", FAILURE, "pending")], self.states())
        self.assertEqual((1, None), (self.incident().event_count, self.incident().running_at))

    def test_foreign_arrival_does_not_move_an_incident(self):
        self.send(self.here(FAILURE))
        self.send(self.there(ARRIVED))
        self.assertEqual([("compute-1", FAILURE, "pending")], self.states())

    def test_foreign_failure_does_not_swallow_that_of_the_owner(self):
        self.send(self.there(VANISHED), self.there("process.exited"))
        self.send(self.here(FAILURE))
        self.assertEqual([("compute-1", FAILURE, "pending")], self.states())

    def test_host_that_repeats_its_claim_gets_no_instance_that_its_owner_stops(self):
        for _ in range(3):
            self.send(self.there(RUNS))
            self.later(10)
        self.send(self.here("lifecycle.stopped/destroyed", RECORD))
        self.send(self.there(RUNS))
        self.send(self.here(RUNS))
        self.send(self.here(FAILURE))
        self.assertEqual("compute-1", self.owner())
        self.assertEqual([("compute-1", FAILURE, "pending")], self.states())

    def test_host_that_stops_and_starts_its_claim_does_not_renew_it(self):
        self.send(self.there(RUNS))
        self.later(60)
        self.send(self.there("lifecycle.stopped/destroyed"), self.there(RUNS))
        self.send(self.here("lifecycle.suspended/migrated", RECORD))
        self.assertEqual("compute-1", self.owner())

    def test_end_of_a_failed_arrival_is_no_claim(self):
        arriving = {"was_arriving": True}
        self.send(self.there("lifecycle.started/migrated"))
        self.send(self.there(FAILURE, attributes=arriving))
        self.assertEqual(([], []), (self.claims(), self.incidents()))


class ConfirmedOwnerTest(OwnershipCase):
    """The expectation names another owner."""

    def confirm(self) -> None:
        self.send(self.of("compute-2", "host.owner_changed/nova", RECORD, source="engine"))

    def test_confirmed_host_becomes_owner_and_its_earlier_failure_counts(self):
        self.send(self.here("process.exited"))
        self.send(self.there("process.exited"), self.there(FAILURE))
        self.assertEqual([("compute-1", "process.exited", "pending")], self.states())
        self.confirm()
        self.assertEqual("compute-2", self.owner())
        own = [("compute-1", "process.exited", "pending"), ("compute-2", FAILURE, "pending")]
        self.assertEqual(own, self.states())

    def test_confirmed_host_that_runs_the_instance_resolves_its_incident(self):
        self.send(self.here(FAILURE))
        self.send(self.there(RUNS))
        self.confirm()
        self.assertEqual([("compute-2", FAILURE, "resolved")], self.states())

    def test_copies_of_earlier_events_are_stored_once(self):
        self.send(self.here(RUNS))
        self.send(self.there(FAILURE))
        self.confirm()
        self.confirm()
        repeats = [one for one in self.events() if "repeats" in one.event.attributes]
        self.assertEqual([FAILURE], [one.event.cause for one in repeats])
