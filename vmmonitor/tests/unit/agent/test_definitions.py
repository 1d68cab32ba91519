# SPDX-License-Identifier: Apache-2.0
"""The definitions of instances in the inventory, and the passwords in them."""

import unittest

from vmmonitor.agent.known import read_known, write_known
from vmmonitor.tests.unit.agent.test_inventory import NOW, UUID, knowing, listing, raw, seen

WITH = "<domain><devices><graphics type='vnc' passwd='s3cret'/></devices></domain>"
WITHOUT = "<domain><devices><graphics type='vnc'/></devices></domain>"


class PasswordTest(unittest.TestCase):
    def definition(self, inventory):
        found = inventory.get(UUID)
        return found.definition, found.may_lack_password

    def test_definition_with_password_is_kept_in_the_same_run(self):
        for changed in (
            lambda inventory, now: inventory.apply_listing(listing(now), NOW),
            lambda inventory, now: inventory.apply_event(
                raw("lifecycle.defined/updated", seen=now)
            ),
        ):
            inventory = knowing(seen(definition=WITH))
            changed(inventory, seen(definition=WITHOUT, may_lack_password=True))
            self.assertEqual((WITH, False), self.definition(inventory))

    def test_definition_of_another_run_is_replaced(self):
        inventory = knowing(seen(definition=WITH, run_id=1))
        now = seen(definition=WITHOUT, may_lack_password=True, run_id=2)
        inventory.apply_listing(listing(now), NOW)
        self.assertEqual((WITHOUT, True), self.definition(inventory))

    def test_definition_read_with_password_replaces_the_other(self):
        inventory = knowing(seen(definition=WITHOUT, may_lack_password=True))
        inventory.apply_listing(listing(seen(definition=WITH)), NOW)
        self.assertEqual((WITH, False), self.definition(inventory))

    def test_instance_that_stopped_keeps_what_is_known_of_its_definition(self):
        for definition, lacks in ((WITH, False), (WITHOUT, True)):
            inventory = knowing(seen(definition=definition, may_lack_password=lacks))
            inventory.apply_event(raw("lifecycle.stopped/failed", at=20))
            known = read_known(write_known(inventory._known[UUID]))
            found = (known.seen.definition, known.seen.may_lack_password)
            self.assertEqual((definition, lacks), found)

    def test_definition_is_not_part_of_logged_text(self):
        event = raw("lifecycle.defined/updated", seen=seen(definition=WITH))
        self.assertNotIn("s3cret", repr(event) + repr(listing(seen(definition=WITH))))
