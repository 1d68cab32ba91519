# SPDX-License-Identifier: Apache-2.0
"""Test that no request of the nova driver can result in a second copy of a guest."""

import dataclasses

from vmmonitor.model.errors import Retriable
from vmmonitor.model.inspection import Inspection
from vmmonitor.model.order import ProhibitionAnswer
from vmmonitor.openstack.nova import VM_STATE as STATE
from vmmonitor.testing import builders
from vmmonitor.testing.agents import LOST, STOPPED
from vmmonitor.testing.builders import UUID, HeldLease
from vmmonitor.tests.functional.drivers.test_nova import (
    EVACUATE,
    REBOOT,
    RESET,
    START,
    STOP,
    DriverCase,
    action,
    compute,
)
from vmmonitor.tests.promises import shows
from vmmonitor.tests.unit.expectation.test_nova import RECORDED, server

RUNNING = Inspection(state="running", reason="booted", managed=True, process=True, answers=False)
SILENT = Retriable("no answer within 5 s")


@shows("P11")
class RestartTest(DriverCase):
    def test_process_that_libvirt_has_lost_is_not_rebooted(self):
        for method in ("hard_reboot", "stop_start", "auto"):
            self.agents.inspection = LOST
            self.assert_not(self.recover(method=method), "libvirt does not manage it")

    def test_process_that_libvirt_manages_is_rebooted(self):
        self.agents.inspection = RUNNING
        self.assert_done(self.recover("liveness.hung/monitor"), REBOOT)

    def test_instance_without_a_process_is_rebooted(self):
        self.agents.inspection = dataclasses.replace(STOPPED, managed=False, state="absent")
        self.assert_done(self.recover(), REBOOT)

    def test_agent_without_an_answer_prevents_the_reboot(self):
        self.agents.inspection = SILENT
        self.assert_not(self.recover(), "the agent on compute-1 did not report")


@shows("P11")
class EvacuationTest(DriverCase):
    """nova would evacuate from any host that is down, whether or not the guest runs there."""

    def setUp(self) -> None:
        super().setUp()
        self.host_is(compute("down"))

    def evacuate(self, *causes: str):
        self.cloud.asked.clear()
        return self.recover(*causes, method="evacuate")

    def test_guest_with_a_process_is_not_evacuated(self):
        for service in (compute("down"), compute("down", forced_down=True)):
            self.host_is(service)
            for inspection in (RUNNING, LOST):
                self.agents.inspection = inspection
                for cause in (
                    "liveness.hung/uninterruptible",
                    "lifecycle.suspended/ioerror",
                    "lifecycle.crashed/panicked",
                    "lifecycle.stopped/failed",
                ):
                    self.assert_not(self.evacuate(cause), "a QEMU process of the instance runs")
        self.assertEqual([], self.agents.prohibited)

    def test_agent_that_starts_it_no_more_is_the_proof(self):
        self.assert_done(self.evacuate(), EVACUATE)
        ((host, prohibition),) = self.agents.prohibited
        recovery = builders.request().recovery
        self.assertEqual((builders.HOST, UUID), (host, prohibition.instance_uuid))
        self.assertEqual(recovery.token, prohibition.token)

    def test_agent_that_refuses_prevents_the_evacuation(self):
        refusal = ProhibitionAnswer(accepted=False, reason="a newer order was accepted")
        self.agents.prohibition = refusal
        self.assert_not(self.evacuate(), "refused: a newer order was accepted")

    def test_silent_agent_is_no_proof(self):
        self.agents.inspection = SILENT
        self.assert_not(self.evacuate(), "it is not proven that the instance does not run")
        self.agents.inspection, self.agents.prohibition = STOPPED, SILENT
        self.assert_not(self.evacuate(), "it is not proven that the instance does not run")

    def test_host_that_was_fenced_is_the_proof(self):
        self.agents.inspection = SILENT
        for state in ("down", "up"):
            self.host_is(compute(state, forced_down=True))
            self.assert_done(self.evacuate(), EVACUATE)


class LeaseTest(DriverCase):
    """Another engine acts on the server when the lease has expired."""

    def recover_with(self, orders: int, **options):
        self.cloud.asked.clear()
        lease = HeldLease()
        lease.left = orders
        return self.recover(lease=lease, **options)

    def test_nothing_is_requested_without_the_lease(self):
        self.host_is(compute("down"))
        self.assert_not(self.recover_with(0, method="evacuate"), "the lease of the recovery")
        self.host_is(compute())
        for options in ({}, {"method": "stop_start"}, {"disable_compute": True}):
            self.assert_not(self.recover_with(0, **options), "the lease of the recovery was lost")

    def test_stop_is_not_followed_by_a_start_without_the_lease(self):
        failed = server(**{STATE: "error"})
        self.did(action("reboot", message="Error"))
        for orders, expected in enumerate(([], [RESET], [RESET, STOP])):
            self.has(failed, server(**{STATE: "stopped"}))
            outcome = self.recover_with(orders, method="stop_start")
            self.assertEqual(("fail", True), (outcome.move, outcome.retry), outcome)
            self.assertEqual(expected, self.cloud.orders())
        self.has(failed, server(**{STATE: "stopped"}))
        self.assert_done(self.recover_with(3, method="stop_start"), RESET, STOP, START)

    def test_evacuation_does_not_follow_a_reset_without_the_lease(self):
        self.host_is(compute("down"))
        self.has(server("stopped by nova", id=UUID, host_status="UNKNOWN"))
        self.did(*RECORDED["actions, stopped by nova"]["instanceActions"])
        self.recover_with(1, method="evacuate")
        self.assertEqual([RESET], self.cloud.orders())

    def test_service_is_not_disabled_without_the_lease(self):
        self.cloud.tell("PUT /v2.1/os-services/service-1", {"service": {}})
        self.recover_with(1, disable_compute=True)
        self.assertEqual(1, len(self.cloud.orders()))
