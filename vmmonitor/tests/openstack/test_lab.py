# SPDX-License-Identifier: Apache-2.0
"""The lab itself."""

import testtools

from vmmonitor.testing import reaper
from vmmonitor.tests.fixtures import listeners
from vmmonitor.tests.fixtures.openstack_lab import OpenStackLab
from vmmonitor.tests.fixtures.shared import shared


class TestLab(testtools.TestCase):
    def test_units_listen_on_the_loopback_interface_only(self):
        units = shared(OpenStackLab).told()["units"]
        for name, pid in units.items():
            if pid:
                pids = [pid, *reaper.descendants(pid)]
                with self.subTest(unit=name):
                    self.assertEqual({}, listeners.list_public_addresses(pids))
