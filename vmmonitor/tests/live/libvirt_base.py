# SPDX-License-Identifier: Apache-2.0
"""What the live tests of the libvirt source share."""

from vmmonitor.tests.fixtures.guest import Guest
from vmmonitor.tests.fixtures.hypervisor import Hypervisor
from vmmonitor.tests.fixtures.shared import shared
from vmmonitor.tests.functional.sources import base


class LiveTest(base.LibvirtTest):
    def hypervisor(self):
        return shared(Hypervisor)

    def watch(self, hypervisor, **options):
        """Watch a hypervisor; returns the source and what it tells."""
        source, observed = self.source(uri=hypervisor.uri, **options)
        self.wait(lambda: observed.reachable() == [True], "reachable")
        return source, observed

    def guest(self, **kwargs):
        return self.useFixture(Guest(self.hypervisor(), **kwargs))

    def domain(self, guest, do):
        """Do something with a guest's domain, on a connection of its own."""
        with guest.hypervisor.connection() as opened:
            return do(opened.lookupByUUIDString(guest.uuid))


def fill(guest):
    """Write until the disk is full."""
    while guest.order("D", timeout=1) == "o":
        continue
