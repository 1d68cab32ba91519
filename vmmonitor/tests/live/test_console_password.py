# SPDX-License-Identifier: Apache-2.0
"""A transient guest with a password on its console is created again."""

import os
import re
import socket
import stat

import fixtures

from vmmonitor.testing.guest import Guest
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.live.base import WholeTest

PASSWORD = "s3cret"
#: Security type of VNC: the server asks for a password.
VNC_PASSWORD = 2


class GuestWithConsole(Guest):
    """A guest with a VNC console that has a password."""

    def _domain_xml(self, boot):
        console = f"<graphics type='vnc' port='-1' listen='127.0.0.1' passwd='{PASSWORD}'/>"
        return super()._domain_xml(boot).replace("<panic", f"{console}<panic")


class ConsolePasswordTest(WholeTest):
    def setUp(self):
        super().setUp()
        self.host = self.useFixture(Hypervisor())
        self.hypervisor = lambda: self.host
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.deploy("fake://", f"sqlite:///{self.directory}/vmmonitor.db")

    def test_created_guest_keeps_its_password(self):
        self.watched(self.deployment.standalone(self.host))
        guest = self.useFixture(GuestWithConsole(self.host, video=True))
        self.created.append(guest)
        self.wait(
            lambda: "lifecycle.started/booted" in self.deployment.causes(guest.uuid), "started"
        )
        self.assertEqual([VNC_PASSWORD], self.offered(guest))
        guest.kill()
        self.recovered(guest)
        self.assertEqual([VNC_PASSWORD], self.offered(guest))
        self.check_secrecy()

    def offered(self, guest):
        """Return the security types that the console of a guest offers."""
        with self.host.connection() as connection:
            xml = connection.lookupByUUIDString(guest.uuid).XMLDesc()
        port = int(re.search(r"<graphics [^>]*port='(\d+)'", xml)[1])
        with socket.create_connection(("127.0.0.1", port), 5) as console:
            console.recv(12)
            console.sendall(b"RFB 003.008\n")
            return list(console.recv(console.recv(1)[0]))

    def check_secrecy(self):
        """Check that the password is only in the spool, which only the agent's user can read."""
        state = os.path.join(self.deployment.path, "standalone")
        holders = []
        for directory, _, names in os.walk(self.deployment.path):
            for name in names:
                path = os.path.join(directory, name)
                if not os.path.isfile(path):
                    continue  # The socket of the API.
                with open(path, "rb") as file:
                    if PASSWORD.encode() in file.read():
                        holders.append(path)
        with open(os.path.join(self.directory, "vmmonitor.db"), "rb") as file:
            self.assertNotIn(PASSWORD.encode(), file.read())
        self.assertNotEqual([], holders)
        for path in holders:
            self.assertTrue(path.startswith(os.path.join(state, "spool")), path)
            self.assertEqual(0o600, stat.S_IMODE(os.stat(path).st_mode), path)
