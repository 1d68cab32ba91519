# SPDX-License-Identifier: Apache-2.0
"""Test that a guest which dies in any state of its server is recovered, or left for an operator.

``admin/expectations.rst`` has the table. One server goes through the states, because a boot is the
longest part of such a test.
"""

import contextlib
import os
import signal
from collections.abc import Iterator

from vmmonitor.model.states import IncidentState
from vmmonitor.testing.processes import read_pid
from vmmonitor.tests.fixtures.openstack_lab import NOVA_S
from vmmonitor.tests.openstack.base import OpenStackTest, step
from vmmonitor.tests.promises import shows


@shows("P4")
class TestStates(OpenStackTest):
    steps = (step("nova", attempts=5),)
    options = {"recovery": {"unhandled_interval": 1}}

    def setUp(self) -> None:
        super().setUp()
        self.compute = self.lab.cloud.compute
        #: Number of the server's incidents before the current part of the test.
        self.before = 0

    def test_guest_killed_in_each_state_is_not_lost(self):
        server = self.server("node1")
        for kill in (
            self.kill_during_reboot,
            self.kill_after_failed_live_migration,
            self.kill_while_paused,
            self.kill_while_rescued,
            self.kill_before_resize_is_confirmed,
            self.kill_during_snapshot,
        ):
            self.before = len(self.states(server))
            kill(server)

    def kill_during_reboot(self, server) -> None:
        """Kill the new QEMU of a reboot, which sets the error state."""
        before = server.pid()
        self.compute.reboot_server(server.uuid, "HARD")
        self.wait(lambda: server.pid() not in (None, before), "it is not started")
        server.kill()
        self.recovered_after(server, "failed")

    def kill_after_failed_live_migration(self, server) -> None:
        """Kill a guest that runs on after its migration failed, which sets the error state."""
        source, target = self.migrate(server)
        os.kill(target, signal.SIGKILL)
        server.becomes("ERROR")
        os.kill(source, signal.SIGKILL)
        self.recovered_after(server, "failed")

    def kill_while_paused(self, server) -> None:
        """Kill a guest that its owner paused, and start the server again as its owner does."""
        self.compute.pause_server(server.uuid)
        server.becomes("PAUSED")
        server.kill()
        self.left_to_an_operator(server)
        self.wait(lambda: server.look().status == "SHUTOFF", "nova does not find it dead")
        self.compute.start_server(server.uuid)
        self.recovered_after(server)

    def kill_while_rescued(self, server) -> None:
        """Kill the guest of a rescue, and end the rescue."""
        self.compute.rescue_server(server.uuid)
        server.becomes("RESCUE")
        server.kill()
        self.left_to_an_operator(server)
        self.compute.unrescue_server(server.uuid)
        self.recovered_after(server)

    def kill_before_resize_is_confirmed(self, server) -> None:
        """Kill a resized guest; nova can restart it only after the confirmation."""
        self.compute.resize_server(server.uuid, self.compute.find_flavor("m1.micro").id)
        server.becomes("VERIFY_RESIZE")
        server.kill()
        self.left_to_an_operator(server)
        self.compute.confirm_server_resize(server.uuid)
        self.recovered_after(server, "manual", "failed")

    def kill_during_snapshot(self, server) -> None:
        """Kill a guest whose snapshot nova has begun to take."""
        with self.suspended(f"nova-compute-{server.look().compute_host}"):
            image = self.compute.create_server_image(server.uuid, "snapshot")
            self.addCleanup(self.lab.cloud.image.delete_image, image.id)
            self.assertIn("image", server.look().task_state)
            server.kill()
            self.wait(lambda: "unknown" in self.verdicts(server), "it is not judged")
        self.recovered_after(server, "unknown", "failed")

    # -- common parts --------------------------------------------------------------------------
    def migrate(self, server) -> tuple[int, int]:
        """Begin a live migration; return the pids on its source and its target."""
        host = server.look().compute_host
        (other,) = set(self.lab.hosts) - {host}
        source = self.pid_on(host, server)
        self.compute.live_migrate_server(server.uuid, host=other, block_migration="auto")
        self.wait(lambda: self.pid_on(other, server), "the migration does not begin")
        return source, self.pid_on(other, server)

    def recovered_after(self, server, *verdicts: str) -> None:
        """Wait until the newest incident is resolved and the server runs again."""
        self.ends(server, IncidentState.RESOLVED, *verdicts)
        server.becomes("ACTIVE")
        self.assertTrue(server.ping(NOVA_S), "its guest does not answer")

    def left_to_an_operator(self, server) -> None:
        """Wait until the newest incident is unhandled."""
        self.ends(server, IncidentState.UNHANDLED, "manual")

    def ends(self, server, state: str, *verdicts: str) -> None:
        """Wait until the newest incident has a state, after these verdicts."""
        self.wait(lambda: self.new_states(server)[-1:] == [state], f"it does not become {state}")
        given = self.verdicts(server)
        self.assertEqual(list(verdicts), [one for one in verdicts if one in given], given)

    def new_states(self, server) -> list[str]:
        """Return the states of the incidents since the last part of the test."""
        return self.states(server)[self.before :]

    def verdicts(self, server) -> list[str]:
        """Return the verdicts on the newest new incident of a server, oldest first."""
        incidents = self.deployment.incidents(server.uuid)[self.before :]
        steps = [self.deployment.steps(one.incident_id) for one in incidents[-1:]]
        return [one.data["verdict"] for part in steps for one in part if one.kind == "question"]

    @contextlib.contextmanager
    def suspended(self, unit: str) -> Iterator[None]:
        """Stop a process of the lab with SIGSTOP, and continue it."""
        group = os.getpgid(self.lab.told()["units"][unit])
        os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(group, signal.SIGCONT)

    def pid_on(self, host: str, server) -> int:
        """Return the pid of a server's QEMU on a host; 0 if there is none."""
        return read_pid(os.path.join(self.lab.hosts[host].qemu_pids, f"{server.domain}.pid")) or 0
