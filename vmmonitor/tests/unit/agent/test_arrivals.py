# SPDX-License-Identifier: Apache-2.0
"""The inventory of instances that migrate to this host, or that are paused."""

import unittest

from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.known import read_known, write_known
from vmmonitor.model.event import RawEvent
from vmmonitor.tests.unit.agent.test_inventory import (
    NOW,
    UUID,
    causes,
    knowing,
    listing,
    raw,
    seen,
)


class ArrivalTest(unittest.TestCase):
    """An instance that a migration brings to this host still runs on the other host."""

    ON_ITS_WAY = (
        seen(state="paused", reason="migration", run_id=3, persistent=False),
        seen(state="paused", reason="migration", run_id=3),
        seen(state="paused", reason="starting_up", run_id=3, persistent=False),
    )

    def failed_arrival(self, inventory: Inventory) -> RawEvent:
        """Let the migration fail; return the event, and check that it never ran here."""
        event = inventory.apply_event(raw("lifecycle.stopped/failed", at=200))
        assert event is not None
        self.assertIs(False, inventory.get(UUID).ran_here)
        return event

    def test_instance_first_listed_paused_for_migration_is_arriving(self):
        for arriving in self.ON_ITS_WAY:
            inventory = knowing(arriving)
            event = self.failed_arrival(inventory)
            self.assertIs(True, event.attributes.get("was_arriving"), arriving)

    def test_instance_known_as_stopped_and_listed_paused_for_migration_is_arriving(self):
        for reason in ("migrated", "shutdown", "failed"):
            for arriving in self.ON_ITS_WAY:
                inventory = knowing(seen(state="shutoff", reason=reason, run_id=-1))
                events = inventory.apply_listing(listing(arriving), NOW)
                self.assertEqual(["lifecycle.started/migrated"], causes(events))
                event = self.failed_arrival(inventory)
                self.assertIs(True, event.attributes.get("was_arriving"), arriving)

    def test_instance_listed_in_another_run_is_arriving(self):
        inventory = knowing(seen(run_id=1))
        inventory.apply_listing(listing(self.ON_ITS_WAY[0]), NOW)
        self.assertIs(True, self.failed_arrival(inventory).attributes.get("was_arriving"))

    def test_instance_that_vanishes_while_it_arrives_has_attribute(self):
        inventory = knowing(self.ON_ITS_WAY[0])
        [event] = inventory.apply_listing(listing(), NOW)
        self.assertIs(True, event.attributes["was_arriving"])
        self.assertIs(False, inventory.get(UUID).ran_here)

    def test_persistent_instance_that_starts_and_then_waits_for_migration_is_arriving(self):
        inventory = knowing(seen(state="paused", reason="starting_up", run_id=3))
        inventory.apply_listing(listing(self.ON_ITS_WAY[1]), NOW)
        self.assertIs(True, self.failed_arrival(inventory).attributes.get("was_arriving"))

    def test_instance_paused_by_its_departure_is_not_arriving(self):
        inventory = knowing(seen(run_id=3))
        inventory.apply_listing(listing(self.ON_ITS_WAY[0]), NOW)
        event = inventory.apply_event(raw("lifecycle.stopped/failed", at=200))
        self.assertNotIn("was_arriving", event.attributes)
        self.assertIs(True, inventory.get(UUID).ran_here)

    def test_instance_that_arrived_ran_here(self):
        for arrived in ("lifecycle.resumed/migrated", "lifecycle.resumed/postcopy"):
            inventory = knowing(self.ON_ITS_WAY[0])
            inventory.apply_event(raw(arrived, at=150))
            event = inventory.apply_event(raw("lifecycle.stopped/failed", at=200))
            self.assertNotIn("was_arriving", event.attributes)
            self.assertIs(True, inventory.get(UUID).ran_here)

    def test_instance_that_comes_back_has_not_run_here_again(self):
        inventory = knowing(seen())
        inventory.apply_event(raw("lifecycle.stopped/migrated", at=20))
        self.assertIs(True, inventory.get(UUID).ran_here)
        inventory.apply_event(raw("lifecycle.started/migrated", at=30))
        self.failed_arrival(inventory)

    def test_change_of_definition_does_not_end_arrival(self):
        inventory = knowing(self.ON_ITS_WAY[0])
        inventory.apply_event(raw("lifecycle.defined/added", at=20, seen=self.ON_ITS_WAY[1]))
        self.assertIs(True, self.failed_arrival(inventory).attributes.get("was_arriving"))

    def test_instance_is_remembered_to_have_run_here(self):
        inventory = knowing(seen(persistent=False))
        again = Inventory({UUID: read_known(write_known(inventory._known[UUID]))})
        again.apply_listing(listing(), NOW)
        self.assertIs(True, again.get(UUID).ran_here)

    def test_instance_listed_as_stopped_is_not_known_to_have_run_here(self):
        self.assertIsNone(knowing(seen(state="shutoff", reason="failed")).get(UUID).ran_here)


class PauseTest(unittest.TestCase):
    def test_stop_of_a_paused_instance_has_the_reason_of_the_pause(self):
        for cause, reason in (
            ("lifecycle.suspended/paused", "paused"),
            ("lifecycle.suspended/ioerror", "ioerror"),
        ):
            inventory = knowing(seen())
            inventory.apply_event(raw(cause))
            learnt = inventory.apply_event(raw("lifecycle.stopped/failed", at=21))
            self.assertEqual(reason, learnt.attributes["was_paused"])
        inventory = knowing(seen())
        inventory.apply_event(raw("lifecycle.suspended/paused"))
        inventory.apply_event(raw("lifecycle.resumed/unpaused", at=21))
        learnt = inventory.apply_event(raw("lifecycle.stopped/failed", at=22))
        self.assertNotIn("was_paused", learnt.attributes)
