# SPDX-License-Identifier: Apache-2.0
"""Test the nova driver over real HTTP: its requests, and the outcomes of the responses."""

import dataclasses
import datetime
import threading
from typing import Any

import testtools

from vmmonitor import conf as configuration
from vmmonitor.drivers.nova import NovaAttempt, NovaDriver
from vmmonitor.model.recovery import Outcome
from vmmonitor.openstack import nova
from vmmonitor.openstack.nova import SERVER_HOST as HOST
from vmmonitor.openstack.nova import TASK_STATE as TASK
from vmmonitor.openstack.nova import VM_STATE as STATE
from vmmonitor.testing import builders
from vmmonitor.testing.agents import FakeAgents
from vmmonitor.testing.builders import AT, UUID
from vmmonitor.tests.fixtures.openstack import USER_ID, Cloud
from vmmonitor.tests.unit.expectation.test_nova import RECORDED, server

SERVER = f"GET /v2.1/servers/{UUID}"
ACTIONS = f"GET /v2.1/servers/{UUID}/os-instance-actions"
ACT = f"POST /v2.1/servers/{UUID}/action"
PATH = f"/v2.1/servers/{UUID}/action"
COMPUTE = "GET /v2.1/os-services"
SECOND = 1_000_000

REBOOT = (PATH, {"reboot": {"type": "HARD"}})
STOP = (PATH, {"os-stop": None})
START = (PATH, {"os-start": None})
RESET = (PATH, {"os-resetState": {"state": "active"}})
EVACUATE = (PATH, {"evacuate": {}})

GONE = (404, {"itemNotFound": {"code": 404, "message": "Instance could not be found."}})

RESUMED = {"ok": True, "action": "resumed", "state": "running", "reason": "unpaused"}


def action(name: str, seconds: float = 1, by: Any = USER_ID, **changes: Any) -> dict[str, Any]:
    """Return an action in the server's records that started some seconds after AT."""
    at = datetime.datetime.fromtimestamp(int(AT / SECOND + seconds), datetime.UTC)
    text = at.strftime("%Y-%m-%dT%H:%M:%S.000000")
    told = {"action": name, "instance_uuid": UUID, "request_id": "req-1", "user_id": by}
    return {**told, "start_time": text, "updated_at": text, "message": None, **changes}


def compute(state: str = "up", status: str = "enabled", **changes: Any) -> dict[str, Any]:
    service = {
        "id": "service-1",
        "binary": "nova-compute",
        "host": builders.HOST,
        "state": state,
    }
    return {"status": status, "disabled_reason": None, "forced_down": False, **service, **changes}


class DriverCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.cloud = self.useFixture(Cloud())
        self.agents = FakeAgents(RESUMED)
        self.conf = configuration.new([], files=[])
        self.driver = NovaDriver(self.conf, self.agents)
        self.cloud.configure(self.conf)
        self.has(server())
        self.did()
        self.cloud.tell(ACT, {}, 202)
        self.host_is(compute())

    def has(self, *servers: Any) -> None:
        """Set the responses for the server, in order; the last one stays."""
        self.cloud.answers[SERVER] = [
            one if isinstance(one, tuple) else (200, {"server": one}) for one in servers
        ]

    def did(self, *actions: Any) -> None:
        self.cloud.tell(ACTIONS, {"instanceActions": list(actions)})

    def host_is(self, *services: Any) -> None:
        self.cloud.tell(COMPUTE, {"services": list(services)})

    def recover(
        self,
        *causes: str,
        attempt: int = 1,
        taken_over: bool = False,
        timeout: float = 30.0,
        events: Any = None,
        lease: Any = None,
        **options: Any,
    ) -> Outcome:
        request = builders.request(timeout, taken_over=taken_over, options=options)
        request = dataclasses.replace(request, lease=lease or request.lease)
        happened = [builders.event(cause) for cause in causes or ("lifecycle.stopped/failed",)]
        recovery = dataclasses.replace(request.recovery, driver="nova", attempt=attempt)
        return self.driver.recover(
            dataclasses.replace(request, recovery=recovery, events=events or happened)
        )

    def assert_done(self, outcome: Outcome, *orders: Any, because: str = "") -> None:
        self.assertEqual("wait", outcome.move, outcome)
        self.assertIn(because, outcome.message)
        self.assertEqual(list(orders), self.cloud.orders())

    def assert_not(
        self, outcome: Outcome, because: str, move: str = "fail", retry: bool = True
    ) -> None:
        """Check that no request was sent, and the reason."""
        self.assertEqual((move, move == "fail" and retry), (outcome.move, outcome.retry), outcome)
        self.assertIn(because, outcome.message)
        self.assertEqual([], self.cloud.orders())


class ActsTest(DriverCase):
    def test_crashed_server_is_rebooted(self):
        self.assert_done(self.recover(), REBOOT, because="a hard reboot; the server was active")
        asked = [path for _, path, _ in self.cloud.asked]
        self.assertEqual([f"/v2.1/servers/{UUID}", PATH], asked)

    def test_server_stopped_by_nova_is_rebooted(self):
        self.has(server("stopped by nova", id=UUID))
        self.did(*RECORDED["actions, stopped by nova"]["instanceActions"])
        self.assert_done(self.recover(), REBOOT, because="the server was stopped")

    def test_server_in_error_after_own_reboot_is_rebooted(self):
        self.has(server(**{STATE: "error"}))
        self.did(action("reboot", message="Error"))
        self.assert_done(self.recover(attempt=2), REBOOT)

    def test_stop_start_stops_and_starts_the_server(self):
        stopping = server(**{TASK: "powering-off"})
        self.has(server(), stopping, server(**{STATE: "stopped"}))
        self.assert_done(self.recover(method="stop_start"), STOP, START, because="a start")

    def test_stop_start_of_a_stopped_server_only_starts_it(self):
        self.has(server(**{STATE: "stopped"}))
        self.did(action("stop"))
        self.assert_done(self.recover(method="stop_start"), START)

    def test_stop_start_of_a_server_in_error_resets_the_state(self):
        self.has(server(**{STATE: "error"}), server(**{STATE: "stopped"}))
        self.did(action("reboot", message="Error"))
        self.assert_done(self.recover(method="stop_start"), RESET, STOP, START)

    def test_server_that_stops_late_is_started_by_the_next_attempt(self):
        self.has(server(), server(**{TASK: "powering-off"}))
        clock = [0.0]

        def pause(seconds):
            clock[0] += seconds

        request = builders.request(30.0, options={"method": "stop_start"})
        api = nova.shared_api(self.conf)
        outcome = NovaAttempt(api, self.agents, request, self.fail, lambda: clock[0], pause).run()
        self.assertEqual(("fail", True), (outcome.move, outcome.retry), outcome)
        self.assertIn("has not stopped the server in time", outcome.message)
        self.assertTrue(29 < clock[0] <= 30, clock)
        self.has(server(**{STATE: "stopped"}))
        self.did(action("stop"))
        self.assert_done(self.recover(method="stop_start", attempt=2), STOP, START)

    def test_server_whose_stop_fails_is_not_started(self):
        self.has(server(), server(**{STATE: "error"}))
        outcome = self.recover(method="stop_start")
        self.assertEqual(("fail", True), (outcome.move, outcome.retry), outcome)
        self.assertEqual([STOP], self.cloud.orders())

    def test_server_paused_by_an_io_error_is_resumed_by_the_agent(self):
        """No action of nova would resume such a server without a reset."""
        for options in ({}, {"method": "resume"}, {"method": "auto"}):
            outcome = self.recover("lifecycle.suspended/ioerror", timeout=5, **options)
            self.assert_done(outcome, because="resumed")
            host, order = self.agents.orders.pop()
            recovery_id = builders.request().recovery.recovery_id
            asked = (host, order.instance_uuid, order.recovery_id, order.cause)
            expected = (builders.HOST, UUID, recovery_id, "lifecycle.suspended/ioerror")
            self.assertEqual(expected, asked)
            self.assertEqual(AT + 5 * SECOND, order.expires_at)
            self.assertTrue(0 < order.timeout <= 5)

    def test_method_of_the_step_replaces_the_resume(self):
        outcome = self.recover("io_error/pause", method="hard_reboot")
        self.assert_done(outcome, REBOOT)

    def test_server_on_a_host_that_is_down_is_evacuated(self):
        for down in (compute("down"), compute("up", forced_down=True)):
            self.cloud.asked.clear()
            self.host_is(compute(host="other"), down)
            self.assert_done(self.recover(method="evacuate"), EVACUATE)

    def test_stopped_server_is_reset_before_evacuation(self):
        self.host_is(compute("down"))
        self.has(server("stopped by nova", id=UUID, host_status="UNKNOWN"))
        self.did(*RECORDED["actions, stopped by nova"]["instanceActions"])
        self.assert_done(self.recover(method="evacuate"), RESET, EVACUATE)

    def test_server_on_a_host_that_is_up_is_not_evacuated(self):
        for up in (compute(), compute(status="disabled"), compute(status="UNKNOWN", state=None)):
            self.host_is(up)
            self.assert_not(self.recover(method="evacuate"), "is not down; nova evacuates only")
        self.host_is()
        self.assert_not(self.recover(method="evacuate"), "is not down")

    def test_server_on_a_host_that_is_down_is_not_rebooted(self):
        """nova would accept the request and keep the server in it until the host is back."""
        self.has(server(host_status="UNKNOWN"))
        self.host_is(compute("down"))
        self.assert_not(self.recover(), "nova-compute on compute-1 is down")

    def test_disable_compute_disables_the_service_first(self):
        put = "PUT /v2.1/os-services/service-1"
        self.cloud.tell(put, {"service": {}})
        outcome = self.recover("liveness.hung/uninterruptible", disable_compute=True)
        self.assertEqual("wait", outcome.move, outcome)
        (path, body), *others = self.cloud.orders()
        self.assertEqual(([REBOOT], put[4:]), (others, path))
        self.assertEqual("disabled", body["status"])
        reason = body["disabled_reason"]
        self.assertTrue(
            reason.startswith(f"{nova.DISABLED_REASON_PREFIX} lifecycle.stopped/failed"), reason
        )
        self.assertIn(builders.incident().incident_id, reason)

    def test_disabled_service_is_not_disabled_again(self):
        self.host_is(compute(status="disabled", disabled_reason="a person's"))
        self.assert_done(self.recover(disable_compute=True), REBOOT)

    def test_disable_compute_applies_to_a_resume(self):
        self.cloud.tell("PUT /v2.1/os-services/service-1", {"service": {}})
        self.recover("io_error/pause", disable_compute=True)
        self.assertEqual(1, len(self.cloud.orders()))
        self.assertEqual(1, len(self.agents.orders))


class LeftAloneTest(DriverCase):
    def test_deleted_server_is_skipped(self):
        self.has(GONE)
        self.assert_not(self.recover(), "it was deleted", "skip")

    def test_server_deleted_during_the_request_is_skipped(self):
        self.cloud.tell(ACT, GONE[1], 404)
        outcome = self.recover()
        self.assertEqual("skip", outcome.move, outcome)

    def test_server_on_another_host_is_skipped(self):
        self.has(server(**{HOST: "compute-2"}))
        self.assert_not(self.recover(), "the server is on host compute-2 in nova", "skip")

    def test_server_in_a_state_of_rest_is_skipped(self):
        for state, why in (
            *(("paused", "paused in nova"), ("rescued", "rescued"), ("suspended", "suspended")),
            *(("shelved", "shelved"), ("shelved_offloaded", "no host"), ("resized", "resize")),
            *(("soft-delete", "deleted"), ("deleted", "deleted"), ("new", "in nova is new")),
        ):
            self.has(server(**{STATE: state}))
            self.assert_not(self.recover(), why, "skip")

    def test_server_stopped_by_a_user_is_skipped(self):
        self.has(server("stopped by a user", id=UUID))
        self.did(*RECORDED["actions, stopped by a user"]["instanceActions"])
        self.assert_not(self.recover(), "the server is stopped in nova", "skip")

    def test_server_in_error_after_a_users_action_is_skipped(self):
        self.has(server(**{STATE: "error"}))
        self.did(action("resize", by="alice", message="Error"))
        self.assert_not(self.recover(), "is in the error state in nova", "skip")

    def test_server_with_a_task_fails_with_retry(self):
        self.has(server(**{TASK: "powering-off"}))
        self.assert_not(self.recover(), "nova is working on the server: powering-off")

    def test_server_without_a_state_or_host_fails_with_retry(self):
        self.has({"id": UUID, "status": "UNKNOWN"})
        self.assert_not(self.recover(), "its cell is down")
        self.has(server(**{HOST: None}))
        self.assert_not(self.recover(), "does not return the host")


class OnceTest(DriverCase):
    """A request is sent once, also if its response was lost."""

    def test_takeover_during_the_action_sends_no_request(self):
        self.has(server(**{TASK: "reboot_started_hard"}))
        self.did(action("reboot"))
        outcome = self.recover(taken_over=True)
        self.assert_done(outcome, because="already carrying out the request: reboot_started_hard")

    def test_takeover_after_the_action_sends_no_request(self):
        self.did(action("reboot"), action("create", -1000, "alice"))
        self.assert_done(
            self.recover(taken_over=True), because="already carried out the request: reboot"
        )

    def test_takeover_before_the_action_sends_the_request(self):
        for newest in (
            action("reboot", -60),
            action("reboot", by="alice"),
            action("reboot", message="Error"),
            action("create", by="alice"),
            {},
        ):
            self.cloud.asked.clear()
            self.did(newest)
            self.assert_done(self.recover(taken_over=True), REBOOT)

    def test_new_recovery_ignores_earlier_actions(self):
        self.did(action("reboot"))
        self.assert_done(self.recover(), REBOOT)

    def test_lost_response_is_found_by_the_next_attempt(self):
        self.cloud.tell(ACT, b"<html>try later</html>", 504)
        outcome = self.recover()
        self.assertEqual(("fail", True), (outcome.move, outcome.retry))
        self.did(action("reboot", -3))
        self.cloud.asked.clear()
        self.assert_done(self.recover(attempt=2), because="already carried out the request")

    def test_action_before_the_last_attempt_does_not_count(self):
        self.did(action("reboot", -70))
        self.assert_done(self.recover(attempt=2), REBOOT)

    def test_action_before_a_newer_failure_does_not_count(self):
        self.did(action("reboot", 1))
        events = [
            builders.event("lifecycle.stopped/failed"),
            builders.event("lifecycle.stopped/failed", occurred_at=AT + 20 * SECOND),
        ]
        self.assert_done(self.recover(taken_over=True, events=events), REBOOT)

    def test_takeover_between_stop_and_start_starts_the_server(self):
        self.has(server(**{STATE: "stopped"}))
        self.did(action("stop"), action("reboot", -1000, "alice"))
        outcome = self.recover(taken_over=True, method="stop_start")
        self.assert_done(outcome, START)

    def test_evacuated_server_is_not_evacuated_again(self):
        self.host_is(compute("down"))
        self.did(action("evacuate"))
        for attempt in (1, 2):
            self.has(server(**{TASK: "rebuilding"}), server(**{HOST: "compute-2"}))
            for because in (
                "carrying out the request: rebuilding",
                "carried out the request: evacuate",
            ):
                outcome = self.recover(method="evacuate", attempt=attempt)
                self.assert_done(outcome, because=because)

    def test_expired_attempt_sends_no_request(self):
        self.cloud.go_on.clear()
        threading.Timer(0.5, self.cloud.go_on.set).start()
        outcome = self.recover(timeout=0.3)
        self.assert_not(outcome, "the request to nova failed")
