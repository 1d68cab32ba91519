# SPDX-License-Identifier: Apache-2.0
"""Instances whose QEMU lives although libvirt does not run them."""

import dataclasses
import unittest

from vmmonitor.agent.inventory import Inventory
from vmmonitor.agent.known import read_known, write_known
from vmmonitor.model.event import SourceSnapshot
from vmmonitor.model.instance import Instance, Seen
from vmmonitor.tests.unit.agent.test_inventory import NOW, UUID, causes, listing, raw, seen

PID = 4711
STOPPED = seen(state="shutoff", reason="unknown", run_id=-1)


def with_processes(found: SourceSnapshot, processes, booted_at=1) -> SourceSnapshot:
    return dataclasses.replace(found, processes=processes, booted_at=booted_at)


def others(count: int, **changes) -> list[Seen]:
    """Return further instances."""
    return [seen(instance=Instance(uuid=f"uuid-{n}"), **changes) for n in range(count)]


def running(*instances: Seen, limit: int = 10, processes=None) -> Inventory:
    inventory = Inventory({}, limit)
    inventory.apply_listing(with_processes(listing(*instances, at=10), processes), NOW)
    inventory.take_changes()
    return inventory


class LostTest(unittest.TestCase):
    def assert_lost(self, inventory: Inventory, found: SourceSnapshot) -> None:
        events = inventory.apply_listing(found, NOW)
        self.assertEqual(["libvirt.lost/"], causes(events))
        self.assertEqual(PID, events[0].attributes["pid"])
        self.assertEqual(("unknown", "lost"), self.state(inventory))
        self.assertEqual([], inventory.apply_listing(found, NOW), "it is reported twice")

    def state(self, inventory: Inventory) -> tuple[str, str]:
        return inventory.get(UUID).state, inventory.get(UUID).reason

    def test_instance_missing_from_libvirt_with_its_process_is_lost(self):
        for recorded in ({UUID: PID}, {}, None):
            inventory = running(seen(persistent=False), processes=recorded)
            self.assert_lost(inventory, with_processes(listing(), {UUID: PID}))

    def test_defined_instance_listed_as_stopped_with_its_process_is_lost(self):
        for reason in ("unknown", "failed", "destroyed"):
            inventory = running(seen(), processes={UUID: PID})
            stopped = dataclasses.replace(STOPPED, reason=reason)
            self.assert_lost(inventory, with_processes(listing(stopped), {UUID: PID}))

    def test_instance_first_listed_as_stopped_with_a_process_is_lost(self):
        self.assert_lost(Inventory({}), with_processes(listing(STOPPED), {UUID: PID}))

    def test_instance_started_since_the_last_listing_is_lost(self):
        inventory = running(seen(), processes={UUID: 1})
        inventory.apply_event(raw("lifecycle.stopped/shutdown", at=20))
        inventory.apply_event(raw("lifecycle.started/booted", at=21))
        self.assert_lost(inventory, with_processes(listing(), {UUID: PID}))

    def test_instance_that_migrated_away_is_not_lost(self):
        # The process belongs to another libvirt of the same machine.
        for found in (listing(), listing(dataclasses.replace(STOPPED, reason="migrated"))):
            inventory = running(seen(), processes={UUID: 1})
            events = inventory.apply_listing(with_processes(found, {UUID: PID}), NOW)
            self.assertEqual("lifecycle.stopped", events[0].type)
        inventory = running(seen(), processes={UUID: 1})
        inventory.apply_event(raw("lifecycle.stopped/migrated", at=20))
        found = with_processes(listing(STOPPED), {UUID: PID})
        self.assertEqual([], inventory.apply_listing(found, NOW))

    def test_instance_without_process_has_stopped(self):
        inventory = running(seen(), processes={UUID: PID})
        events = inventory.apply_listing(with_processes(listing(), {}), NOW)
        self.assertEqual(["lifecycle.stopped/vanished"], causes(events))

    def test_end_of_lost_process_is_a_stop(self):
        inventory = running(seen(persistent=False), processes={UUID: PID})
        inventory.apply_listing(with_processes(listing(), {UUID: PID}), NOW)
        event = inventory.apply_event(raw("process.exited", at=200, source="process"))
        self.assertEqual(["lifecycle.stopped/vanished"], causes([event]))
        self.assertEqual(("shutoff", "vanished"), self.state(inventory))
        self.assertIs(True, inventory.get(UUID).ran_here)

    def test_end_of_lost_process_while_agent_was_away_is_a_stop(self):
        for found in (listing(at=300), listing(STOPPED, at=300)):
            inventory = running(seen(), processes={UUID: PID})
            inventory.apply_listing(with_processes(listing(), {UUID: PID}), NOW)
            forms = {UUID: write_known(inventory._known[UUID])}
            again = Inventory({uuid: read_known(form) for uuid, form in forms.items()})
            events = again.apply_listing(with_processes(found, {}), NOW)
            self.assertEqual("lifecycle.stopped", events[0].type)

    def test_lost_instance_that_libvirt_runs_again_is_running(self):
        inventory = running(seen(), processes={UUID: PID})
        inventory.apply_listing(with_processes(listing(), {UUID: PID}), NOW)
        events = inventory.apply_listing(with_processes(listing(seen(), at=300), {UUID: PID}), NOW)
        self.assertEqual("lifecycle.started", events[0].type)
        self.assertEqual("running", inventory.get(UUID).state)

    def test_definition_removed_from_libvirt_keeps_lost_instance(self):
        inventory = running(seen(), processes={UUID: PID})
        inventory.apply_listing(with_processes(listing(), {UUID: PID}), NOW)
        inventory.apply_event(raw("lifecycle.undefined/removed", at=200))
        self.assertEqual(("unknown", "lost"), self.state(inventory))


class DoubtTest(unittest.TestCase):
    """Many instances that disappear at once are not many failures."""

    def test_all_instances_lost_at_once_are_doubtful(self):
        instances = others(2)
        processes = {one.instance.uuid: number for number, one in enumerate(instances, 1)}
        inventory = running(*instances, processes=processes)
        events = inventory.apply_listing(with_processes(listing(), processes), NOW)
        self.assertEqual(["libvirt.lost/"] * 2, causes(events))
        self.assertEqual(
            "libvirt does not run 2 of 2 instances that ran, and their QEMU processes live",
            inventory.find_doubt(),
        )
        for uuid in processes:
            inventory.apply_event(
                raw("process.exited", at=200, instance=Instance(uuid=uuid), source="process")
            )
        self.assertEqual("", inventory.find_doubt())

    def test_instances_that_disappear_without_visible_processes_cause_no_events(self):
        for found in (listing(), listing(*others(12, state="shutoff", reason="unknown"))):
            inventory = running(*others(12))
            self.assertEqual([], inventory.apply_listing(with_processes(found, None), NOW))
            self.assertIn("cannot see whether", inventory.find_doubt())
            again = inventory.apply_listing(listing(*others(12), at=300), NOW)
            self.assertEqual(([], ""), (again, inventory.find_doubt()))

    def test_more_instances_than_the_limit_are_doubtful(self):
        inventory = running(*others(20), limit=3)
        self.assertEqual([], inventory.apply_listing(listing(*others(16)), NOW))
        self.assertIn("4 of 20", inventory.find_doubt())

    def test_instances_up_to_the_limit_have_stopped(self):
        inventory = running(*others(20), limit=3)
        self.assertEqual(3, len(inventory.apply_listing(listing(*others(17)), NOW)))
        self.assertEqual("", inventory.find_doubt())

    def test_without_limit_all_have_stopped(self):
        inventory = running(*others(20), limit=0)
        self.assertEqual(20, len(inventory.apply_listing(listing(), NOW)))
        self.assertEqual("", inventory.find_doubt())

    def test_instances_whose_processes_have_ended_have_stopped(self):
        instances = others(20)
        processes = {one.instance.uuid: number for number, one in enumerate(instances, 1)}
        inventory = running(*instances, processes=processes)
        events = inventory.apply_listing(with_processes(listing(), {}), NOW)
        self.assertEqual(["lifecycle.stopped/vanished"] * 20, causes(events))

    def test_instances_have_stopped_if_the_host_was_started_since(self):
        inventory = running(*others(20))
        events = inventory.apply_listing(with_processes(listing(), None, booted_at=50), NOW)
        self.assertEqual(20, len(events))

    def test_one_of_one_has_stopped(self):
        inventory = running(seen())
        self.assertEqual(1, len(inventory.apply_listing(listing(), NOW)))

    def test_instances_whose_end_was_reported_have_stopped(self):
        inventory = running(*others(3))
        for one in others(3):
            inventory.apply_event(
                raw("process.exited", at=20, instance=one.instance, source="process")
            )
        events = inventory.apply_listing(listing(), NOW)
        self.assertEqual(["lifecycle.stopped/vanished"] * 3, causes(events))
