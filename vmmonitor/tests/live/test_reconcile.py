# SPDX-License-Identifier: Apache-2.0
"""Test that failures without an event are found, with real agents and several engines."""

import os
import signal

from vmmonitor.db import inventories
from vmmonitor.db.tables import AGENTS, INSTANCES
from vmmonitor.model.states import AgentState, IncidentState
from vmmonitor.testing.hypervisor import Hypervisor
from vmmonitor.tests.live.base import LOG_ONLY, WholeTest
from vmmonitor.tests.live.libvirt_base import migrate
from vmmonitor.tests.promises import shows

#: Short rounds, and a hold that exceeds the time of a report on a loaded machine.
EAGER = {"reconcile": {"interval": 0.5, "hold": 2}}


@shows("P5")
class TestReconcile(WholeTest):
    def setUp(self):
        super().setUp()
        self.deploy(options=EAGER)
        for name in ("engine-1", "engine-2"):
            self.start(self.deployment.engine(name, self.policies(LOG_ONLY)))
        self.agent = self.watched()

    def seen(self, guest, host="node-1"):
        """Return the engines' inventory entry of a guest, or None."""
        with self.deployment.database.reader() as tx:
            found = inventories.present(tx, host)
        return next((one for one in found if one.instance.uuid == guest.uuid), None)

    def state_on(self, host, guest):
        seen = self.seen(guest, host)
        return seen.state if seen else ""

    def known(self, guest, state="running"):
        self.wait(lambda: (one := self.seen(guest)) and one.state == state, f"not {state}")

    def drift_causes(self, guest):
        return [one for one in self.deployment.causes(guest.uuid) if one.startswith("reconcile.")]

    def forget(self):
        """Take the agent's memory away."""
        for directory, _, files in os.walk(self.deployment.path):
            for name in files:
                if name.startswith("spool.db"):
                    os.unlink(os.path.join(directory, name))

    def test_instance_that_disappears_without_event_is_reported(self):
        lost, other = self.guests(2)
        self.known(lost)
        self.known(other)
        self.agent.kill()
        self.forget()
        lost.kill(signal.SIGKILL)
        self.watched(self.agent)
        self.wait(lambda: self.drift_causes(lost) == ["reconcile.missing"], "not reported")
        (incident,) = self.deployment.incidents(lost.uuid)
        self.assertEqual("reconcile.missing", incident.cause)
        # The stop may have been intended, so no recovery follows.
        self.wait(lambda: self.states(lost) == [IncidentState.HELD], "not held")
        self.quiet()
        self.assertEqual(["reconcile.missing"], self.drift_causes(lost))
        self.assertEqual([], self.drift_causes(other))
        self.assertEqual([], self.deployment.recoveries(incident.incident_id))

    def test_failure_with_event_is_not_reported_again(self):
        killed, destroyed, undefined = self.guests(3, defined=True)
        for guest in (killed, destroyed, undefined):
            self.known(guest)
        killed.kill(signal.SIGKILL)
        with self.hypervisor().connection() as connection:
            connection.lookupByUUIDString(destroyed.uuid).destroy()
            domain = connection.lookupByUUIDString(undefined.uuid)
            domain.destroy()
            domain.undefine()
        self.known(killed, "shutoff")
        self.known(destroyed, "shutoff")
        self.wait(lambda: self.seen(undefined) is None, "still known")
        # And neither when the agent comes back without a memory.
        self.agent.kill()
        self.forget()
        self.watched(self.agent)
        marker = self.guest()
        self.known(marker)
        self.wait(lambda: self.deployment.agent_state() == (AgentState.UP, ""), "not up")
        for _ in range(4):
            self.quiet()
        self.assertEqual([], [one for guest in self.created for one in self.drift_causes(guest)])

    def test_migration_is_not_reported_as_drift(self):
        target = self.useFixture(Hypervisor())
        self.watched(self.deployment.agent(target, "node-2"))
        guest = self.guest(defined=True)
        self.known(guest)
        with self.hypervisor().connection() as connection:
            migrate(connection.lookupByUUIDString(guest.uuid), target)
        self.wait(lambda: self.state_on("node-2", guest) == "running", "not there")
        self.wait(lambda: self.state_on("node-1", guest) == "shutoff", "not away")
        for _ in range(4):
            self.quiet()
        self.assertEqual([], self.drift_causes(guest))
        self.assertEqual([], self.deployment.incidents(guest.uuid))

    def test_lost_inventory_delta_is_repaired(self):
        guest = self.guest(defined=True)
        self.known(guest)
        with self.hypervisor().connection() as connection:
            connection.lookupByUUIDString(guest.uuid).setAutostart(1)
        with self.deployment.database.writer() as tx:
            tx.execute(INSTANCES.delete())
            tx.execute(AGENTS.update().values(held_digest="of another inventory"))
        self.known(guest)
        guest.kill(signal.SIGKILL)
        self.known(guest, "shutoff")
        with self.hypervisor().connection() as connection:
            connection.lookupByUUIDString(guest.uuid).create()
        self.wait(lambda: (one := self.seen(guest)) and one.autostart, "no autostart")
