# SPDX-License-Identifier: Apache-2.0
"""tools/bench recovery works on the lab, with tiny sizes."""

from vmmonitor.tests.fixtures.openstack_lab import OpenStackLab
from vmmonitor.tests.fixtures.shared import shared
from vmmonitor.tests.live import test_bench


class TestRecovery(test_bench.BenchTest):
    timeout_s = 900

    def test_recovery_prints_its_figures(self):
        shared(OpenStackLab)
        self.assert_measures("recovery")
