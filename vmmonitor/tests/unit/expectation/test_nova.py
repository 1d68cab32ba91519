# SPDX-License-Identifier: Apache-2.0
"""Test verdicts and surveys with nova. ``samples/nova_answers.json`` is recorded from nova 34."""

import copy
import dataclasses
import json
import pathlib
from typing import Any
from unittest import mock

import testtools

from vmmonitor import conf as configuration
from vmmonitor.expectation.nova import NovaExpectation
from vmmonitor.model.desired import DesiredSnapshot, DesiredStatus
from vmmonitor.model.errors import Retriable
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.model.states import IncidentState
from vmmonitor.openstack import nova
from vmmonitor.openstack.nova import to_microseconds
from vmmonitor.testing import builders
from vmmonitor.tests.unit.expectation.test_operations import nova_events

SAMPLES = pathlib.Path(__file__).parent / "samples" / "nova_answers.json"
RECORDED: dict[str, Any] = json.loads(SAMPLES.read_text())
NOW = 1_795_366_800_000_000
HOST, TASK, STATE = "OS-EXT-SRV-ATTR:host", "OS-EXT-STS:task_state", "OS-EXT-STS:vm_state"

#: Clear failures, by libvirt's report.
FAILURES = ("lifecycle.stopped/failed", "lifecycle.stopped/crashed", "lifecycle.stopped/daemon")
#: Ends of a guest that libvirt gives no reason for.
WITHOUT_REASON = ("lifecycle.stopped/vanished", "lifecycle.stopped/unknown", "process.exited")


class FakeNova:
    """Returns the configured responses; raises those that are exceptions."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.done: Any = []
        self.all: list[Any] = []
        self.parts: Any = []
        self.service: Any = None
        self.groups: Any = []
        self.asked: list[Any] = []

    def get_server(self, uuid: str) -> Any:
        self.asked.append(uuid)
        return _given(self.answer)

    def list_actions(self, uuid: str) -> Any:
        return _given(self.done)

    def user_id(self) -> str:
        return "vmmonitor-user"

    def list_action_events(self, uuid: str, request_id: str) -> Any:
        self.asked.append(request_id)
        return _given(self.parts)

    def get_compute_service(self, host: str) -> Any:
        self.asked.append(host)
        return _given(self.service)

    def list_aggregates(self) -> Any:
        self.asked.append("aggregates")
        return _given(self.groups)

    def list_servers(self, since: int | None, page_size: int) -> Any:
        self.asked.append(since)
        return iter(_given(self.all))


def _given(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


def server(sample: str = "active", /, **changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(RECORDED[sample]["server"]), **changes}


class NovaCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.conf = configuration.new([], files=[])
        self.nova = FakeNova()
        with mock.patch.object(nova, "shared_api", return_value=self.nova):
            self.expectation = NovaExpectation(self.conf, now=lambda: NOW)

    def judge(
        self, answer: Any, *causes: str, events: Any = (), host: str = "compute-1"
    ) -> Verdict:
        self.nova.answer = answer
        told = causes or ("lifecycle.stopped/failed",)
        happened = [builders.event(cause, host=host) for cause in told]
        incident = builders.incident(host=host, state=IncidentState.PENDING)
        return self.expectation.judge(incident, [*events, *happened])

    def assert_word(self, word: str, verdict: Verdict, because: str = "") -> None:
        self.assertEqual(word, verdict.kind, verdict.reason)
        self.assertIn(because, verdict.reason)


class JudgeTest(NovaCase):
    def test_active_server_that_failed_is_failed(self):
        self.assert_word(
            VerdictKind.FAILED,
            self.judge(server()),
            "should run here according to nova",
        )

    def test_active_server_is_judged_by_the_events_of_its_host(self):
        for causes, word in (
            (["lifecycle.stopped/vanished"], VerdictKind.FAILED),
            (["lifecycle.stopped/unknown"], VerdictKind.FAILED),
            (["process.exited"], VerdictKind.FAILED),
            (["reconcile.missing"], VerdictKind.FAILED),
            (["memory_failure/fatal"], VerdictKind.FAILED),
            (["lifecycle.suspended/ioerror"], VerdictKind.FAILED),
            (["lifecycle.stopped/failed", "lifecycle.undefined/removed"], VerdictKind.FAILED),
            (["lifecycle.stopped/shutdown"], VerdictKind.PLANNED),
            (["lifecycle.stopped/destroyed"], VerdictKind.PLANNED),
            (["lifecycle.stopped/failed", "lifecycle.started/booted"], VerdictKind.UNKNOWN),
            (["lifecycle.crashed/crashloaded"], VerdictKind.UNKNOWN),
            (["lifecycle.suspended/postcopy_failed"], VerdictKind.UNKNOWN),
        ):
            self.assert_word(word, self.judge(server(), *causes), "reported")

    def test_deleted_server_is_gone(self):
        self.assert_word(VerdictKind.GONE, self.judge(None), "deleted")
        self.assert_word(VerdictKind.GONE, self.judge(server(**{STATE: "deleted"})), "deleted")

    def test_server_on_another_host_is_planned(self):
        verdict = self.judge(server(), host="compute-2")
        self.assert_word(
            VerdictKind.PLANNED,
            verdict,
            "is on host compute-1 in nova, not on compute-2",
        )

    def test_server_stopped_by_a_user_is_planned(self):
        self.nova.done = RECORDED["actions, stopped by a user"]["instanceActions"]
        self.assert_word(
            VerdictKind.PLANNED, self.judge(server("stopped by a user")), "stopped in nova"
        )

    def test_server_stopped_by_nova_is_failed(self):
        self.nova.done = RECORDED["actions, stopped by nova"]["instanceActions"]
        stopped = server("stopped by nova")
        self.assert_word(VerdictKind.FAILED, self.judge(stopped), "no user requested that")
        self.assert_word(VerdictKind.PLANNED, self.judge(stopped, "lifecycle.stopped/shutdown"))
        self.assert_word(VerdictKind.UNKNOWN, self.judge(stopped, "lifecycle.stopped/vanished"))

    def test_stopped_server_without_an_action_is_manual(self):
        self.nova.done = []
        stopped = server("stopped by nova")
        self.assert_word(VerdictKind.MANUAL, self.judge(stopped), "no action shows who")
        self.assert_word(VerdictKind.UNKNOWN, self.judge(stopped, "lifecycle.stopped/vanished"))
        self.nova.done = Retriable("HTTP status 503")
        self.assert_word(VerdictKind.UNKNOWN, self.judge(stopped), "503")

    def test_incomplete_response_makes_the_verdict_unknown(self):
        self.assert_word(
            VerdictKind.UNKNOWN,
            self.judge(Retriable("HTTP status 500")),
            "request to nova failed",
        )
        self.assert_word(
            VerdictKind.UNKNOWN,
            self.judge({"id": builders.UUID, "status": "UNKNOWN"}),
            "cell",
        )
        self.assert_word(
            VerdictKind.UNKNOWN, self.judge(server(**{HOST: None})), "does not return the host"
        )

    def test_locked_server_is_planned_if_configured(self):
        self.assert_word(VerdictKind.FAILED, self.judge(server(locked=True)))
        self.conf.set_override("recover_locked", False, "nova")
        self.assert_word(VerdictKind.PLANNED, self.judge(server(locked=True)), "locked")
        self.assert_word(VerdictKind.FAILED, self.judge(server(locked=False)))


class FoundDeadTest(NovaCase):
    def test_server_stopped_by_vmmonitor_is_failed(self):
        ours = dict(RECORDED["actions, stopped by a user"]["instanceActions"][0])
        self.nova.done = [{**ours, "user_id": "vmmonitor-user"}]
        verdict = self.judge(server("stopped by a user"))
        self.assert_word(VerdictKind.FAILED, verdict, "vmmonitor had nova stop the server")
        self.assert_word(
            VerdictKind.PLANNED, self.judge(server("stopped by a user"), "lifecycle.stopped/saved")
        )


class ForgedHostTest(NovaCase):
    """A compromised host cannot have instances of other hosts recovered."""

    def test_event_of_a_wrong_host_recovers_nothing(self):
        self.nova.done = RECORDED["actions, stopped by nova"]["instanceActions"]
        for answer, word in (
            (server(), VerdictKind.PLANNED),
            (server("stopped by nova"), VerdictKind.MANUAL),
            (server(**{STATE: "error"}), VerdictKind.MANUAL),
        ):
            for cause in ("lifecycle.stopped/failed", "io_error/pause", "liveness.hung/monitor"):
                verdict = self.judge(answer, cause, host="forged")
                self.assert_word(word, verdict, "in nova, not on forged")

    def test_similar_host_name_is_another_host(self):
        for host in ("", "COMPUTE-1", "compute-1 ", "compute-1.example.org", "compute-10"):
            self.assert_word(VerdictKind.PLANNED, self.judge(server(), host=host), "not on")


class ActiveTest(NovaCase):
    """The conditions for a server that runs again according to nova."""

    def setUp(self) -> None:
        super().setUp()
        self.nova.answer = server()
        self.nova.done = RECORDED["actions, stopped by a user"]["instanceActions"][1:]
        self.began = to_microseconds(self.nova.done[0]["start_time"])
        self.nova.parts = [{"event": "compute_reboot_instance", "result": "Success"}]

    def is_active(self, driver: str = "masakari", **changes: Any) -> bool:
        known = {"driver": driver, "created_at": self.began, **changes}
        recovery = dataclasses.replace(builders.request().recovery, **known)
        return self.expectation.is_active(recovery)

    def test_successful_newer_action_makes_the_server_active(self):
        self.assertTrue(self.is_active())
        self.assertIn(self.nova.done[0]["request_id"], self.nova.asked)

    def test_active_state_without_a_newer_action_does_not_count(self):
        """nova keeps a crashed server active for 15 s and more."""
        self.assertFalse(self.is_active(created_at=self.began + 6_000_000))
        self.nova.done = []
        self.assertFalse(self.is_active(created_at=0))

    def test_newest_action_counts_after_the_nova_driver(self):
        self.assertTrue(self.is_active("nova", created_at=self.began + 3600_000_000))

    def test_server_that_does_not_run_is_not_active(self):
        for changes in (
            {TASK: "reboot_started_hard"},
            {STATE: "stopped"},
            {STATE: "error"},
            {"OS-EXT-STS:power_state": 4},
            {"OS-EXT-STS:power_state": 3},
            {"OS-EXT-STS:power_state": [1]},
        ):
            self.nova.answer = server(**changes)
            self.assertFalse(self.is_active(), changes)

    def test_failed_action_does_not_count(self):
        for parts in (
            [],
            [{"result": None}],
            [{"result": "Error"}],
            [{"result": "Success"}, {"result": "Error"}],
            [{"event": "?"}],
        ):
            self.nova.parts = parts
            self.assertFalse(self.is_active(), parts)

    def test_action_that_does_not_start_the_server_does_not_count(self):
        for action in ("stop", "pause", "delete", "lock", "attach_volume", None, [], {}):
            self.nova.done = [{"action": action, "start_time": "2026-11-22T16:53:16.000000"}]
            self.assertFalse(self.is_active())

    def test_unavailable_nova_is_not_active(self):
        self.nova.answer = None
        self.assertFalse(self.is_active())
        for odd in (Retriable("no"), [{}], [{"action": "reboot"}]):
            self.nova.answer, self.nova.done = server(), odd
            self.assertFalse(self.is_active(created_at=NOW))


class NotificationsTest(NovaCase):
    def test_reported_operation_needs_no_request(self):
        events = nova_events("-1 power_off/start")
        for cause in ("lifecycle.stopped/shutdown", "process.exited"):
            verdict = self.judge(server(), cause, events=events)
            self.assert_word(VerdictKind.PLANNED, verdict, "powering it off, requested by alice")
        self.assertEqual([], self.nova.asked)

    def test_failure_during_a_reported_operation_is_checked_with_nova(self):
        events = nova_events("-1 power_off/start")
        busy = server(**{TASK: "powering-off"})
        self.assert_word(VerdictKind.UNKNOWN, self.judge(busy, events=events), "powering-off")
        verdict = self.judge(Retriable("no"), events=events)
        self.assert_word(VerdictKind.UNKNOWN, verdict, "request to nova failed")

    def test_finished_operation_is_checked_with_nova(self):
        events = nova_events("-3 power_off/start -2 power_off/end")
        self.assert_word(VerdictKind.FAILED, self.judge(server(), events=events))

    def test_reported_operation_counts_if_nova_is_unavailable(self):
        events = nova_events("-3 power_off/start -2 power_off/end")
        self.assert_word(
            VerdictKind.PLANNED, self.judge(Retriable("no"), events=events), "powering it off"
        )
        events = nova_events("-3 reboot/start -2 reboot/error")
        self.assert_word(
            VerdictKind.UNKNOWN,
            self.judge(Retriable("no"), events=events),
            "request to nova failed",
        )


class SurveyTest(NovaCase):
    def test_aggregates_contain_their_hosts(self):
        self.nova.groups = [
            {"name": "ssd", "hosts": ["node1", "node2"], "metadata": {}},
            {"name": "none"},
        ]
        self.assertEqual({"ssd": {"node1", "node2"}}, self.expectation.aggregates())

    def survey(self, *servers: Any, since: int | None = None) -> DesiredSnapshot:
        self.nova.all = list(servers)
        return self.expectation.survey(since, ())

    def test_recorded_servers_have_the_expected_states(self):
        pages = ("changes, first page", "changes, last page")
        recorded = [one for page in pages for one in RECORDED[page]["servers"]]
        told = {one.instance.name: one for one in self.survey(*recorded).states}
        self.assertEqual(DesiredStatus.GONE, told["web-1"].state)
        self.assertEqual(DesiredStatus.RUNNING, told["web-2"].state)
        self.assertEqual(DesiredStatus.STOPPED, told["web-3"].state)
        running = told["web-2"]
        self.assertEqual("compute-1", running.host)
        self.assertEqual("instance-00000002", running.instance.hypervisor_name)
        self.assertEqual("m2", running.instance.flavor)
        self.assertEqual(0, running.updated_at % 1_000_000)
        self.assertGreater(running.updated_at, 1_795_360_000_000_000)

    def test_server_state_has_the_desired_state(self):
        for changes, state in (
            ({}, DesiredStatus.RUNNING),
            ({TASK: "powering-off"}, DesiredStatus.BUSY),
            ({HOST: None}, DesiredStatus.BUSY),
            ({STATE: "paused"}, DesiredStatus.PAUSED),
            ({STATE: "stopped", TASK: "powering-on"}, DesiredStatus.BUSY),
            ({STATE: "suspended"}, DesiredStatus.STOPPED),
            ({STATE: "shelved_offloaded", HOST: None}, DesiredStatus.STOPPED),
            ({STATE: "rescued"}, DesiredStatus.BUSY),
            ({STATE: "resized"}, DesiredStatus.BUSY),
            ({STATE: "building"}, DesiredStatus.BUSY),
            ({STATE: "error"}, DesiredStatus.BUSY),
            ({STATE: "of the future"}, DesiredStatus.BUSY),
            ({STATE: "deleted", "status": "DELETED", TASK: "deleting"}, DesiredStatus.GONE),
        ):
            (one,) = self.survey(server(**changes)).states
            self.assertEqual(state, one.state, changes)

    def test_server_without_a_state_is_omitted(self):
        """nova returns only the id of a server in a cell that is down."""
        survey = self.survey(
            {"id": builders.UUID, "status": "UNKNOWN"}, {}, {"id": 7, STATE: "active"}
        )
        self.assertEqual((), survey.states)

    def test_invalid_values_become_empty(self):
        (one,) = self.survey(server(updated="yesterday", flavor=None, name=None)).states
        self.assertEqual((0, "", ""), (one.updated_at, one.instance.flavor, one.instance.name))

    def test_survey_reads_all_servers_and_then_changes(self):
        whole = self.survey()
        self.assertEqual((True, NOW), (whole.whole, whole.until))
        changed = self.survey(since=whole.until)
        self.assertEqual((False, NOW), (changed.whole, changed.until))
        self.assertEqual([None, NOW - 120_000_000], self.nova.asked)

    def test_unavailable_nova_raises_retriable(self):
        self.nova.all = Retriable("HTTP status 500")
        self.assertRaises(Retriable, self.expectation.survey, None, ())
