# SPDX-License-Identifier: Apache-2.0
"""Common parts of the live tests of the libvirt source."""

import socket

import libvirt

from vmmonitor.testing.guest import Guest
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.shared import shared
from vmmonitor.tests.functional.sources import base


class LiveTest(base.LibvirtTest):
    def hypervisor(self):
        return shared(Hypervisor)

    def watch(self, hypervisor, **options):
        """Start a source for a hypervisor; return the source and its observations."""
        source, observed = self.source(uri=hypervisor.uri, **options)
        self.wait(lambda: observed.reachable() == [True], "reachable")
        return source, observed

    def guest(self, **kwargs):
        return self.useFixture(Guest(self.hypervisor(), **kwargs))

    def domain(self, guest, do):
        """Call ``do`` with a guest's domain, on a separate connection."""
        with guest.hypervisor.connection() as opened:
            return do(opened.lookupByUUIDString(guest.uuid))


def fill(guest):
    """Write until the disk is full."""
    while guest.order("D", timeout=1) == "o":
        continue


def migrate(found, target):
    """Move a running domain to another host."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_UNSAFE
    with target.connection() as there:
        parameters = {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://127.0.0.1:{port}"}
        found.migrate3(there, parameters, flags)
