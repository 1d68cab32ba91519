# SPDX-License-Identifier: Apache-2.0
"""The inventories of hosts, and the owners and claims that follow from them."""

from vmmonitor.db import agents, owners
from vmmonitor.engine.ingest import inventory_store
from vmmonitor.model.instance import PAUSED, RUNNING, SHUTOFF, Instance, Seen
from vmmonitor.rpc.inventory_wire import InventoryChanges
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import RUNS, UUID, delivery


class InventoryStoreTest(base.EngineCase):
    def inventory(self, host: str, *states: str) -> None:
        """Store the inventory of a monitored host, with the instance in one state or without."""
        self.clock += SECOND
        self.database.run(agents.store_report, samples.report(host=host), self.clock)
        seen = [Seen(instance=Instance(uuid=UUID, name="web"), state=one) for one in states]
        self.database.run(inventory_store.replace, host, "d", seen, self.clock)

    def delta(self, host: str, *states: str) -> None:
        self.clock += SECOND
        seen = [Seen(instance=Instance(uuid=UUID, name="web"), state=one) for one in states]
        gone = [] if states else [UUID]
        changes = InventoryChanges(host=host, base_digest="d", digest="d", changed=seen, gone=gone)
        self.database.run(inventory_store.change, changes, self.clock)

    def owner(self) -> tuple[str, bool] | None:
        """(host, whether it released the instance)."""
        with self.database.reader() as tx:
            found = owners.owner_of(tx, UUID)
        return (found.host, found.released_at is not None) if found else None

    def claims(self) -> list[tuple[str, bool, bool]]:
        with self.database.reader() as tx:
            found = owners.claims_of(tx, UUID)
        return [(one.host, one.running, one.contested) for one in found]

    def test_first_inventory_with_an_instance_owns_it(self):
        self.inventory("compute-1", RUNNING)
        self.inventory("compute-2", RUNNING)
        self.assertEqual(("compute-1", False), self.owner())
        self.assertEqual([("compute-2", True, True)], self.claims())

    def test_inventory_without_the_instance_releases_it(self):
        for release in (self.inventory, self.delta):
            self.inventory("compute-1", RUNNING)
            release("compute-1")
            self.assertEqual(("compute-1", True), self.owner())

    def test_instance_that_is_listed_again_is_not_released(self):
        self.inventory("compute-1", RUNNING)
        self.delta("compute-1")
        self.delta("compute-1", RUNNING)
        self.assertEqual(("compute-1", False), self.owner())

    def test_definition_that_never_ran_is_released_to_the_host_that_runs_it(self):
        self.inventory("compute-1", SHUTOFF)
        self.assertEqual(("compute-1", True), self.owner())
        self.store(delivery(RUNS, host="compute-2", occurred_at=self.clock))
        self.assertEqual(("compute-2", False), self.owner())

    def test_claim_that_begins_after_the_owner_stopped_is_not_contested(self):
        self.inventory("compute-1", RUNNING)
        self.delta("compute-1", SHUTOFF)
        self.inventory("compute-2", RUNNING)
        self.assertEqual([("compute-2", True, False)], self.claims())

    def test_claim_while_the_owner_is_not_monitored_is_not_contested(self):
        self.inventory("compute-1", RUNNING)
        stopped = samples.report(host="compute-1", state="stopped")
        self.database.run(agents.store_report, stopped, self.clock)
        self.inventory("compute-2", RUNNING)
        self.assertEqual([("compute-2", True, False)], self.claims())

    def test_claim_of_an_instance_that_stopped_is_kept(self):
        self.inventory("compute-1", RUNNING)
        for state in ((PAUSED,), ()):
            self.inventory("compute-2", RUNNING)
            self.delta("compute-2", *state)
            self.assertEqual([("compute-2", True, True)], self.claims())

    def test_arriving_instance_is_no_claim(self):
        self.inventory("compute-1", RUNNING)
        self.inventory("compute-2", PAUSED)
        self.assertEqual([], self.claims())
