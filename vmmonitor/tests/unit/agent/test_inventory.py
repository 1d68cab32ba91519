# SPDX-License-Identifier: Apache-2.0
"""The effects of events and of listings on the inventory."""

import json
import unittest

from vmmonitor.agent.inventory import MAX_REMOVED, Inventory
from vmmonitor.agent.known import read_known, write_known
from vmmonitor.model.event import RawEvent, SourceSnapshot
from vmmonitor.model.instance import Instance, Seen

UUID = "7d1a4fd2-2f0c-4a46-a6d5-0b3c2b9b3a11"
NAMED = Instance(uuid=UUID, name="web", hypervisor_name="instance-2a", project_id="p1")
NOW = 1000


def seen(state="running", reason="booted", run_id=1, **changes) -> Seen:
    return Seen(
        **{"instance": NAMED, "state": state, "reason": reason, "run_id": run_id} | changes
    )


def raw(cause: str, at: int = 20, **changes) -> RawEvent:
    kind, _, detail = cause.partition("/")
    facts = {"instance": Instance(uuid=UUID), "source": "libvirt"} | changes
    return RawEvent(type=kind, detail=detail, occurred_at=at, **facts)


def listing(*instances: Seen, at: int = 100, why: str = "reconnect") -> SourceSnapshot:
    return SourceSnapshot(source="libvirt", started_at=at, why=why, seen=instances)


def knowing(*instances: Seen, at: int = 10) -> Inventory:
    inventory = Inventory({})
    inventory.apply_listing(listing(*instances, at=at, why="start"), NOW)
    inventory.take_changes()
    return inventory


def causes(events: list[RawEvent]) -> list[str]:
    return [f"{event.type}/{event.detail}" for event in events]


class EventTest(unittest.TestCase):
    def test_event_is_completed_with_the_identity_of_its_instance(self):
        learnt = knowing(seen()).apply_event(raw("lifecycle.stopped/failed"))
        self.assertEqual(NAMED, learnt.instance)

    def test_nova_name_is_not_replaced_by_the_hypervisor_name(self):
        bare = Instance(uuid=UUID, name="instance-2a", hypervisor_name="instance-2a")
        learnt = knowing(seen()).apply_event(raw("lifecycle.stopped/failed", instance=bare))
        self.assertEqual("web", learnt.instance.name)

    def test_stop_names_the_initiator_of_its_shutdown(self):
        for who in ("host", "guest"):
            inventory = knowing(seen())
            inventory.apply_event(raw(f"lifecycle.shutdown/{who}", at=20))
            learnt = inventory.apply_event(raw("lifecycle.stopped/shutdown", at=21))
            self.assertEqual(who, learnt.attributes["shutdown_by"])

    def test_initiator_of_a_shutdown_is_forgotten_after_a_start(self):
        inventory = knowing(seen())
        inventory.apply_event(raw("lifecycle.shutdown/host", at=20))
        inventory.apply_event(raw("lifecycle.stopped/shutdown", at=21))
        inventory.apply_event(raw("lifecycle.started/booted", at=22))
        learnt = inventory.apply_event(raw("lifecycle.stopped/shutdown", at=23))
        self.assertNotIn("shutdown_by", learnt.attributes)

    def test_stop_during_an_incoming_migration_has_an_attribute(self):
        inventory = Inventory({})
        inventory.apply_event(raw("lifecycle.started/migrated", at=20))
        learnt = inventory.apply_event(raw("lifecycle.stopped/failed", at=21))
        self.assertIs(True, learnt.attributes["was_arriving"])
        learnt = inventory.apply_event(raw("lifecycle.stopped/failed", at=22))
        self.assertNotIn("was_arriving", learnt.attributes)

    def test_stop_after_an_incoming_migration_has_no_attribute(self):
        for arrived in ("lifecycle.resumed/migrated", "lifecycle.resumed/postcopy"):
            inventory = Inventory({})
            inventory.apply_event(raw("lifecycle.started/migrated", at=20))
            inventory.apply_event(raw(arrived, at=21))
            learnt = inventory.apply_event(raw("lifecycle.stopped/failed", at=22))
            self.assertNotIn("was_arriving", learnt.attributes)

    def test_process_exit_names_the_event_that_explains_it(self):
        for cause, follows in (
            ("lifecycle.stopped/destroyed", "lifecycle.stopped/destroyed"),
            ("lifecycle.shutdown/guest", "lifecycle.shutdown/guest"),
            ("lifecycle.suspended/migrated", "lifecycle.suspended/migrated"),
            ("lifecycle.suspended/ioerror", None),
            ("lifecycle.shutdown/host", None),
            ("reboot/", None),
        ):
            inventory = knowing(seen())
            inventory.apply_event(raw(cause))
            learnt = inventory.apply_event(raw("process.exited/", at=21, source="process"))
            self.assertEqual(follows, learnt.attributes.get("follows"), cause)

    def test_process_exit_during_an_incoming_migration_has_an_attribute(self):
        inventory = Inventory({})
        inventory.apply_event(raw("lifecycle.started/migrated"))
        learnt = inventory.apply_event(raw("process.exited/", source="process"))
        self.assertTrue(learnt.attributes["was_arriving"])

    def test_state_follows_the_events(self):
        inventory = knowing(seen())
        for cause, state in (
            ("lifecycle.suspended/ioerror", "paused"),
            ("io_error/pause", "paused"),
            ("lifecycle.resumed/unpaused", "running"),
            ("lifecycle.crashed/panicked", "crashed"),
            ("lifecycle.stopped/crashed", "shutoff"),
        ):
            inventory.apply_event(raw(cause))
            self.assertEqual(state, inventory.get(UUID).state, cause)

    def test_definition_is_kept_after_a_stop(self):
        inventory = knowing(seen(definition="<domain/>", persistent=False))
        inventory.apply_event(raw("lifecycle.stopped/failed"))
        self.assertEqual("<domain/>", inventory.get(UUID).definition)

    def test_unknown_instance_is_added_by_its_event(self):
        inventory = Inventory({})
        learnt = inventory.apply_event(raw("lifecycle.started/booted", seen=seen()))
        self.assertEqual(NAMED, learnt.instance)
        self.assertEqual("running", inventory.get(UUID).state)

    def test_stopped_instance_is_removed_when_undefined(self):
        inventory = knowing(seen("shutoff", "destroyed", -1))
        inventory.apply_event(raw("lifecycle.undefined/removed"))
        self.assertIsNone(inventory.get(UUID))
        self.assertEqual({UUID: None}, inventory.take_changes())

    def test_running_instance_is_kept_when_undefined(self):
        inventory = knowing(seen())
        inventory.apply_event(raw("lifecycle.undefined/removed"))
        self.assertEqual("running", inventory.get(UUID).state)


class ListingTest(unittest.TestCase):
    def test_first_listing_of_a_healthy_instance_causes_no_event(self):
        inventory = Inventory({})
        self.assertEqual([], inventory.apply_listing(listing(seen(), why="start"), NOW))
        self.assertEqual("running", inventory.get(UUID).state)

    def test_first_listing_of_a_failed_instance_causes_an_event(self):
        events = Inventory({}).apply_listing(listing(seen("paused", "ioerror"), why="start"), NOW)
        self.assertEqual(["lifecycle.suspended/ioerror"], causes(events))

    def test_missed_event_has_its_cause(self):
        for state, reason, cause in (
            ("shutoff", "crashed", "lifecycle.stopped/crashed"),
            ("shutoff", "failed", "lifecycle.stopped/failed"),
            ("shutoff", "destroyed", "lifecycle.stopped/destroyed"),
            ("shutoff", "shutdown", "lifecycle.stopped/shutdown"),
            ("shutoff", "daemon", "lifecycle.stopped/daemon"),
            ("paused", "user", "lifecycle.suspended/paused"),
            ("paused", "ioerror", "lifecycle.suspended/ioerror"),
            ("paused", "watchdog", "lifecycle.suspended/watchdog"),
            ("crashed", "panicked", "lifecycle.crashed/panicked"),
            ("pmsuspended", "unknown", "lifecycle.pmsuspended/unknown"),
        ):
            inventory = knowing(seen())
            (event,) = inventory.apply_listing(listing(seen(state, reason, -1)), NOW)
            self.assertEqual([cause], causes([event]))
            self.assertEqual(NAMED, event.instance)
            self.assertEqual("reconnect", event.attributes["noticed"])
            self.assertEqual("running", event.attributes["was"])
            again = inventory.apply_listing(listing(seen(state, reason, -1), at=200), NOW)
            self.assertEqual([], again, "told twice")

    def test_vanished_instance_causes_a_stop(self):
        inventory = knowing(seen(persistent=False))
        self.assertEqual(
            ["lifecycle.stopped/vanished"], causes(inventory.apply_listing(listing(), NOW))
        )
        self.assertEqual([], inventory.apply_listing(listing(at=200), NOW), "told twice")

    def test_vanished_instance_names_the_initiator_of_its_shutdown(self):
        inventory = knowing(seen())
        inventory.apply_event(raw("lifecycle.shutdown/host"))
        (event,) = inventory.apply_listing(listing(seen("shutoff", "shutdown", -1)), NOW)
        self.assertEqual("host", event.attributes["shutdown_by"])

    def test_vanished_incoming_migration_has_an_attribute(self):
        inventory = Inventory({})
        inventory.apply_event(raw("lifecycle.started/migrated", at=20))
        inventory.apply_listing(listing(seen(state="paused", reason="migration"), at=30), NOW)
        [event] = inventory.apply_listing(listing(at=40), NOW)
        self.assertIs(True, event.attributes["was_arriving"])

    def test_instance_listed_as_running_has_arrived(self):
        inventory = Inventory({})
        inventory.apply_event(raw("lifecycle.started/migrated", at=20))
        inventory.apply_listing(listing(seen(state="paused", reason="migration"), at=30), NOW)
        inventory.apply_listing(listing(seen(reason="migrated"), at=35), NOW)
        [event] = inventory.apply_listing(listing(at=40), NOW)
        self.assertNotIn("was_arriving", event.attributes)

    def test_start_in_a_listing_causes_an_event(self):
        inventory = knowing(seen("shutoff", "destroyed", -1))
        events = inventory.apply_listing(listing(seen(run_id=7)), NOW)
        self.assertEqual(["lifecycle.started/booted"], causes(events))

    def test_new_run_in_a_listing_causes_a_start(self):
        events = knowing(seen(run_id=1)).apply_listing(listing(seen(run_id=2)), NOW)
        self.assertEqual(["lifecycle.started/booted"], causes(events))

    def test_crash_kernel_leaves_the_state_running(self):
        inventory = knowing(seen())
        inventory.apply_event(raw("lifecycle.crashed/crashloaded"))
        self.assertEqual("running", inventory.get(UUID).state)
        self.assertEqual([], inventory.apply_listing(listing(seen()), NOW))

    def test_unchanged_instance_causes_no_event(self):
        for state, reason in (("running", "booted"), ("paused", "user"), ("shutoff", "crashed")):
            inventory = knowing(seen(state, reason))
            self.assertEqual([], inventory.apply_listing(listing(seen(state, reason)), NOW))

    def test_instance_that_cannot_be_examined_keeps_its_state(self):
        inventory = knowing(seen())
        self.assertEqual([], inventory.apply_listing(listing(seen("unknown-0", "error")), NOW))
        self.assertEqual("running", inventory.get(UUID).state)

    def test_pause_known_from_its_event_causes_no_second_event(self):
        for cause, reason in (
            ("lifecycle.suspended/paused", "user"),
            ("lifecycle.suspended/ioerror", "ioerror"),
        ):
            inventory = knowing(seen())
            inventory.apply_event(raw(cause))
            self.assertEqual([], inventory.apply_listing(listing(seen("paused", reason)), NOW))

    def test_event_during_a_listing_takes_precedence(self):
        inventory = knowing(seen())
        inventory.apply_event(raw("lifecycle.stopped/failed", at=150))
        self.assertEqual([], inventory.apply_listing(listing(seen(), at=100), NOW))
        self.assertEqual("shutoff", inventory.get(UUID).state)
        inventory = knowing()
        inventory.apply_event(raw("lifecycle.started/booted", at=150, seen=seen()))
        self.assertEqual([], inventory.apply_listing(listing(at=100), NOW))

    def test_removal_during_a_listing_takes_precedence(self):
        inventory = knowing(seen())
        inventory.apply_event(raw("lifecycle.stopped/destroyed", at=110))
        inventory.apply_event(raw("lifecycle.undefined/removed", at=111))
        self.assertEqual([], inventory.apply_listing(listing(seen(), at=100), NOW))
        self.assertIsNone(inventory.get(UUID))

    def test_instance_defined_again_after_its_removal_is_listed(self):
        inventory = knowing(seen())
        inventory.apply_event(raw("lifecycle.stopped/destroyed", at=110))
        inventory.apply_event(raw("lifecycle.undefined/removed", at=111))
        inventory.apply_listing(listing(seen(run_id=2), at=112), NOW)
        self.assertEqual("running", inventory.get(UUID).state)

    def test_removals_are_remembered_up_to_a_limit(self):
        inventory = Inventory({})
        for number in range(MAX_REMOVED + 10):
            instance = Instance(uuid=f"uuid-{number}")
            stopped = seen(state="shutoff", reason="destroyed", instance=instance)
            inventory.apply_listing(listing(stopped, at=10), NOW)
            inventory.apply_event(raw("lifecycle.undefined/removed", at=20, instance=instance))
        self.assertEqual(MAX_REMOVED, len(inventory._removed))

    def test_stop_event_after_its_listing_is_dropped_once(self):
        inventory = knowing(seen())
        inventory.apply_listing(listing(seen("shutoff", "crashed", -1)), NOW)
        self.assertIsNone(inventory.apply_event(raw("lifecycle.stopped/failed", at=120)))
        self.assertIsNotNone(inventory.apply_event(raw("lifecycle.started/booted", at=130)))
        self.assertIsNotNone(inventory.apply_event(raw("lifecycle.stopped/failed", at=140)))

    def test_start_event_after_its_listing_is_dropped_once(self):
        inventory = knowing(seen("shutoff", "crashed", -1))
        self.assertEqual(
            ["lifecycle.started/booted"],
            causes(inventory.apply_listing(listing(seen(run_id=7)), NOW)),
        )
        started = raw("lifecycle.started/booted", at=120, seen=seen(run_id=7))
        self.assertIsNone(inventory.apply_event(started))
        self.assertIsNotNone(inventory.apply_event(started), "dropped twice")

    def test_start_event_without_a_listing_is_kept(self):
        inventory = knowing(seen(run_id=7))
        started = raw("lifecycle.started/booted", at=120, seen=seen(run_id=7))
        self.assertIsNotNone(inventory.apply_event(started))

    def test_inventory_is_equal_after_a_restart(self):
        before = knowing(seen(definition="<domain/>"))
        before.apply_event(raw("lifecycle.shutdown/host"))
        kept = json.loads(json.dumps(before.take_changes()))
        after = Inventory({uuid: read_known(form) for uuid, form in kept.items()})
        (event,) = after.apply_listing(listing(seen("shutoff", "shutdown", -1), why="start"), NOW)
        self.assertEqual("host", event.attributes["shutdown_by"])
        self.assertEqual("<domain/>", after.get(UUID).definition)


class EndingTest(unittest.TestCase):
    """A recovery ends an instance by force; libvirt calls that destroyed."""

    def setUp(self):
        self.inventory = knowing(seen())
        self.apply("recovery.ending/begun")

    def apply(self, cause, **changes):
        return self.inventory.apply_event(raw(cause, **changes))

    def again(self):
        """The inventory after a restart of the agent."""
        known = {UUID: self.inventory._known[UUID]}
        kept = json.loads(json.dumps({uuid: write_known(one) for uuid, one in known.items()}))
        return Inventory({uuid: read_known(form) for uuid, form in kept.items()})

    def test_stop_by_a_recovery_is_named_until_the_next_run(self):
        self.assertTrue(self.inventory.stopped_by_recovery(UUID))
        learnt = self.apply("lifecycle.stopped/destroyed")
        self.assertEqual("recovery", learnt.attributes["ended_by"])
        self.assertTrue(self.inventory.stopped_by_recovery(UUID))
        self.apply("lifecycle.started/booted", seen=seen(run_id=2))
        self.assertFalse(self.inventory.stopped_by_recovery(UUID))
        self.assertNotIn("ended_by", self.apply("lifecycle.stopped/destroyed").attributes)

    def test_failed_forced_stop_is_not_named(self):
        self.apply("recovery.ending/failed")
        self.assertFalse(self.inventory.stopped_by_recovery(UUID))

    def test_forced_stop_is_known_after_a_restart(self):
        for now in ([seen("shutoff", "destroyed", -1)], []):
            inventory = self.again()
            for at in (100, 200):
                inventory.apply_listing(listing(*now, at=at, why="start"), NOW)
                self.assertTrue(inventory.stopped_by_recovery(UUID))
        inventory = self.again()
        inventory.apply_listing(listing(seen()), NOW)
        self.assertTrue(inventory.stopped_by_recovery(UUID), "it is not ended yet")
        inventory.apply_listing(listing(seen(run_id=2), at=200), NOW)
        self.assertFalse(inventory.stopped_by_recovery(UUID), "it runs again")

    def test_forced_stop_of_an_unknown_instance_is_ignored(self):
        self.inventory = Inventory({})
        self.apply("recovery.ending/begun")
        self.assertFalse(self.inventory.stopped_by_recovery(UUID))


class TidyTest(unittest.TestCase):
    def test_transient_instance_is_forgotten_after_its_stop(self):
        inventory = knowing(seen(persistent=False))
        inventory.apply_event(raw("lifecycle.stopped/failed", at=20))
        inventory.forget(before=20)
        self.assertIsNotNone(inventory.get(UUID))
        inventory.forget(before=21)
        self.assertIsNone(inventory.get(UUID))

    def test_defined_instance_is_never_forgotten(self):
        inventory = knowing(seen("shutoff", "destroyed", -1))
        inventory.forget(before=10**9)
        self.assertIsNotNone(inventory.get(UUID))

    def test_digest_changes_with_the_reported_state(self):
        inventory = knowing(seen())
        before = inventory.snapshot().digest
        inventory.apply_listing(listing(seen()), NOW)
        self.assertEqual(before, inventory.snapshot().digest)
        inventory.apply_event(raw("lifecycle.stopped/failed"))
        self.assertNotEqual(before, inventory.snapshot().digest)
        self.assertEqual(0, len(inventory))

    def test_digest_does_not_depend_on_the_order(self):
        others = [Instance(uuid=uuid) for uuid in "abcd"]
        digests = set()
        for order in (others, others[::-1]):
            inventory = Inventory({})
            for instance in order:
                inventory.apply_event(raw("lifecycle.started/booted", instance=instance))
            digests.add(inventory.snapshot().digest)
        self.assertEqual(1, len(digests))

    def test_incoming_migration_is_reported_as_paused(self):
        inventory = Inventory({})
        inventory.apply_event(raw("lifecycle.started/migrated", at=20))
        self.assertEqual(["paused"], [one.state for one in inventory.snapshot().all()])
        inventory.apply_event(raw("lifecycle.resumed/migrated", at=21))
        self.assertEqual(["running"], [one.state for one in inventory.snapshot().all()])

    def test_version_increases_only_with_reported_changes(self):
        inventory = knowing(seen())
        before = inventory.version
        inventory.apply_event(raw("lifecycle.shutdown/guest"))
        inventory.apply_listing(listing(seen(definition="<other/>")), NOW)
        self.assertEqual(before, inventory.version)
        inventory.apply_event(raw("lifecycle.stopped/failed"))
        self.assertEqual(before + 1, inventory.version)
