# SPDX-License-Identifier: Apache-2.0
"""Definitions with the passwords of consoles, on libvirt's test driver."""

import uuid
from unittest import mock

import libvirt

from vmmonitor.sources.libvirt import definitions, domain
from vmmonitor.tests.functional.sources import base

CONSOLE = "<devices><graphics type='vnc' passwd='s3cret'/></devices>"


class DefinitionTest(base.LibvirtTest):
    def setUp(self):
        super().setUp()
        self.connection = self.admin()

    def reader(self, allow_recovery=True):
        conf = base.new_conf()
        conf.set_override("allow_recovery", allow_recovery, "agent")
        made = definitions.DefinitionReader(conf)
        self.addCleanup(made.close)
        return made

    def seen(self, console=CONSOLE, persistent=False):
        """Return the state of a new domain."""
        text = base.xml(f"guest-{uuid.uuid4()}", uuid.uuid4()).replace(
            "</domain>", f"{console}</domain>"
        )
        if persistent:
            found = self.connection.defineXML(text)
            found.create()
        else:
            found = self.connection.createXML(text)
        self.addCleanup(self.remove, found.UUIDString())
        return domain.examine(found)

    def remove(self, instance_uuid):
        found = self.connection.lookupByUUIDString(instance_uuid)
        if found.isPersistent():
            found.undefine()
        found.destroy()

    def test_password_of_transient_domain_is_read(self):
        seen = self.seen()
        self.assertTrue(seen.may_lack_password)
        self.assertNotIn("s3cret", seen.definition)
        whole = self.reader().complete(seen)
        self.assertFalse(whole.may_lack_password)
        self.assertIn("passwd='s3cret'", whole.definition)

    def test_connection_is_opened_only_where_it_is_needed(self):
        with mock.patch.object(definitions, "connect", side_effect=AssertionError) as connect:
            for reader, seen in (
                (self.reader(allow_recovery=False), self.seen()),
                (self.reader(), self.seen(console="")),
                (self.reader(), self.seen(persistent=True)),
            ):
                self.assertIs(seen, reader.complete(seen))
        connect.assert_not_called()

    def test_unreadable_password_is_logged_once(self):
        seen = self.seen()
        refused = libvirt.libvirtError("access denied")
        reader = self.reader()
        with (
            mock.patch.object(definitions, "connect", side_effect=refused),
            mock.patch.object(definitions.LOG, "warning") as warning,
        ):
            for _ in range(2):
                self.assertTrue(reader.complete(seen).may_lack_password)
        warning.assert_called_once()
        self.assertFalse(reader.complete(seen).may_lack_password)
