# SPDX-License-Identifier: Apache-2.0
"""A guest on QEMU's user-mode network and the API of its host.

Such a guest reaches the loopback interface of the host under the address 10.0.2.2.
"""

import subprocess

import testtools

from vmmonitor.testing.processes import wait_until
from vmmonitor.tests.fixtures.api import Api, Served

PATIENCE = 120.0


class TestGuestNetwork(testtools.TestCase):
    def test_guest_on_user_mode_network_is_refused(self):
        api = self.useFixture(Api())
        answers = []

        def application(environ, start_response):
            def record(status, headers, error=None):
                answers.append((environ["REMOTE_ADDR"], environ["PATH_INFO"], status))
                return start_response(status, headers, error)

            return api.application(environ, record)

        served = self.useFixture(Served(application))
        # The firmware of the network card loads its boot file over HTTP.
        url = f"http://10.0.2.2:{served.port}/v1/events"
        guest = subprocess.Popen(
            [*("qemu-system-x86_64", "-accel", "tcg", "-m", "64", "-display", "none")]
            + [*("-nodefaults", "-boot", "n", "-netdev", f"user,id=n,bootfile={url}")]
            + [*("-device", "virtio-net-pci,netdev=n,bootindex=1")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(guest.wait)
        self.addCleanup(guest.kill)
        wait_until(lambda: answers, PATIENCE, "the guest does not reach the API")
        self.assertEqual([("127.0.0.1", "/v1/events", "403 Forbidden")], answers[:1])
