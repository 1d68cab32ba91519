# SPDX-License-Identifier: Apache-2.0
"""Snapshots and deltas of the inventory that are sent to the engine."""

import testtools

from vmmonitor import conf as configuration
from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.inventory_sync import InventorySync
from vmmonitor.model.instance import Instance
from vmmonitor.rpc.transport import Unsupported
from vmmonitor.tests.unit.agent.base import UUID, Engine, raw


class InventorySyncTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        conf = configuration.new([], files=[])
        conf.set_override("host", "compute-1")
        self.inventory = Inventory({})
        self.inventory.listed = True
        self.engine = Engine()
        self.sync = InventorySync(conf=conf, inventory=self.inventory, engine=self.engine)
        self.apply("lifecycle.started/booted")

    def apply(self, cause, **changes):
        self.inventory.apply_event(raw(cause, **changes))

    def resync(self):
        self.sync.resync(self.engine.digest)

    def test_first_resync_sends_a_snapshot(self):
        self.resync()
        ((host, digest, seen),) = self.engine.inventories
        self.assertEqual(("compute-1", self.inventory.snapshot().digest), (host, digest))
        self.assertEqual(["running"], [instance.state for instance in seen])

    def test_resync_without_changes_sends_nothing(self):
        self.resync()
        self.resync()
        self.assertEqual((1, []), (len(self.engine.inventories), self.engine.changes))

    def test_resync_after_changes_sends_a_delta(self):
        self.resync()
        before = self.engine.digest
        self.apply("lifecycle.stopped/failed", at=50)
        self.apply("lifecycle.started/booted", at=51, instance=Instance(uuid="b"))
        self.resync()
        (delta,) = self.engine.changes
        self.assertEqual((before, self.engine.digest), (delta.base_digest, delta.digest))
        self.assertEqual(
            [(UUID, "shutoff", "failed"), ("b", "running", "booted")],
            [(seen.instance.uuid, seen.state, seen.reason) for seen in delta.changed],
        )
        self.assertEqual(1, len(self.engine.inventories))

    def test_delta_names_the_removed_instances(self):
        self.apply("lifecycle.stopped/failed", at=50)
        self.resync()
        self.apply("lifecycle.undefined/removed", at=60)
        self.resync()
        self.assertEqual([UUID], self.engine.changes[-1].gone)

    def test_engine_with_another_inventory_gets_a_snapshot(self):
        self.resync()
        self.engine.digest = "of another inventory"
        self.resync()
        self.assertEqual((2, []), (len(self.engine.inventories), self.engine.changes))

    def test_delta_that_does_not_apply_is_followed_by_a_snapshot(self):
        self.resync()
        self.apply("lifecycle.stopped/failed", at=50)
        self.engine.answers = [lambda _: "of another inventory"]
        self.resync()
        self.assertEqual(2, len(self.engine.inventories))
        self.assertEqual(self.inventory.snapshot().digest, self.engine.digest)

    def test_engine_without_deltas_gets_a_snapshot(self):
        self.resync()
        self.apply("lifecycle.stopped/failed", at=50)
        self.engine.answers = [Unsupported()]
        self.resync()
        self.assertEqual(2, len(self.engine.inventories))

    def test_changes_are_those_since_the_last_snapshot(self):
        self.assertTrue(self.sync.has_changes())
        self.resync()
        self.assertFalse(self.sync.has_changes())
        self.apply("lifecycle.stopped/failed", at=50)
        self.assertTrue(self.sync.has_changes())
        self.sync.send_changes()
        self.assertFalse(self.sync.has_changes())
        self.assertEqual(1, len(self.engine.changes))
