# SPDX-License-Identifier: Apache-2.0
"""Test an agent with a full disk or a damaged spool."""

import glob
import os

import libvirt

from vmmonitor.tests.fixtures.small_disk import SmallDisk
from vmmonitor.tests.live.base import DIED, DIED_LOGGED, LOG_ONLY, WholeTest
from vmmonitor.tests.promises import shows

#: Enough for an agent's spool and its write-ahead log with all definitions of a test; bytes.
DISK_BYTES = 32 * 1024 * 1024
#: Size of a definition; several of these exceed the reserve.
LARGE = 1_500_000
FULL = "database or disk is full"


@shows("P1")
class TestFullDisk(WholeTest):
    def setUp(self):
        super().setUp()
        self.deploy()
        self.engine = self.start(self.deployment.engine(options=self.policies(LOG_ONLY)))
        self.disk = os.path.join(self.deployment.path, "node-1")
        self.useFixture(SmallDisk(self.disk, DISK_BYTES))
        self.agent = self.watched()

    def fill(self):
        """Fill the disk completely."""
        with open(os.path.join(self.disk, "filling"), "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    def make_room(self):
        os.unlink(os.path.join(self.disk, "filling"))

    def check_stored(self, guests):
        for guest in guests:
            self.wait(lambda g=guest: self.stops(g), f"the end of {guest.name} is not stored")
        self.quiet()
        for guest in guests:
            (cause,) = self.stops(guest)
            self.assertIn(cause, DIED)
            self.assertEqual(1, len(self.states(guest)))

    def test_spool_on_full_disk_uses_reserve(self):
        """The reserve also works after a restart of the agent."""
        self.agent.stop()
        self.watched(self.agent)
        guests = self.guests(4, defined=True)
        self.fill()
        for guest in guests:
            guest.kill()
        self.check_stored(guests)
        self.assertNotIn(FULL, self.agent.log())

    def test_spool_on_full_disk_without_reserve_recovers(self):
        guests = self.guests(6, defined=True)
        self.fill()
        self.engine.kill()
        self.use_up(guests[:4])
        self.agent.wait_for(FULL)
        for guest in guests:
            guest.kill()
        self.start(self.engine)
        self.wait(lambda: self.deployment.agent_state()[0] == "behind", "the agent is not behind")
        self.assertIn(FULL, self.deployment.agent_state()[1])
        self.make_room()
        self.check_stored(guests)
        self.wait(lambda: self.deployment.agent_state() == ("up", ""), "the agent is not up")

    def use_up(self, guests):
        """Give guests large definitions, which the agent stores."""
        with self.hypervisor().connection() as connection:
            for guest in guests:
                connection.lookupByUUIDString(guest.uuid).setMetadata(
                    libvirt.VIR_DOMAIN_METADATA_DESCRIPTION,
                    "x" * LARGE,
                    None,
                    None,
                    libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG,
                )


@shows("P1", "P9")
class TestDamagedSpool(WholeTest):
    """The spool is damaged while the agent is stopped and holds an event that was not sent."""

    def setUp(self):
        super().setUp()
        # No engine runs, and a stop waits for the current call.
        self.deploy(options={"forwarder": {"reply_timeout": 2}})
        self.agent = self.watched()
        self.waiting, self.next = self.guests(2, defined=True)
        self.waiting.kill()
        self.agent.wait_for(DIED_LOGGED)
        self.spool = os.path.join(self.deployment.path, "node-1", "spool.db")

    def restart(self):
        """Start the agent and an engine; check that a further failure is stored."""
        self.watched(self.agent)
        self.start(self.deployment.engine(options=self.policies(LOG_ONLY)))
        self.next.kill()
        self.wait(lambda: self.stops(self.next), "not stored")
        self.wait(lambda: self.deployment.agent_state() == ("up", ""), "the agent is not up")

    def check_quarantined(self):
        (aside,) = [
            path
            for path in glob.glob(f"{self.spool}.broken-*")
            if path[-4:] not in ("-wal", "-shm")
        ]
        self.agent.wait_for(f"was renamed to {aside}")
        figures = self.deployment.agent_figures()
        self.assertEqual([aside], figures["spools_set_aside"])

    def test_spool_with_garbage_is_quarantined(self):
        self.agent.stop()
        size = os.path.getsize(self.spool)
        with open(self.spool, "r+b") as file:
            file.seek(4096)
            file.write(os.urandom(size - 8192))
        self.restart()
        self.check_quarantined()

    def test_truncated_spool_is_quarantined(self):
        self.agent.stop()
        os.truncate(self.spool, os.path.getsize(self.spool) // 2 + 100)
        self.restart()
        self.check_quarantined()

    def test_foreign_spool_file_is_quarantined(self):
        self.agent.kill()
        with open(self.spool, "w") as file:
            file.write("Dear diary,\n" * 1000)
        self.restart()
        self.check_quarantined()

    def test_intact_spool_file_is_sent(self):
        """The waiting event is sent if the spool is intact."""
        self.agent.kill()
        self.restart()
        self.wait(lambda: self.stops(self.waiting), "not stored")
        self.assertEqual([], glob.glob(f"{self.spool}.broken-*"))
