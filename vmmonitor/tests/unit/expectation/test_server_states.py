# SPDX-License-Identifier: Apache-2.0
"""Test verdicts that follow from the state and the actions of a server in nova."""

from vmmonitor.model.errors import Retriable
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.model.states import IncidentState
from vmmonitor.testing import builders
from vmmonitor.tests.unit.expectation.test_nova import (
    FAILURES,
    HOST,
    RECORDED,
    STATE,
    TASK,
    WITHOUT_REASON,
    NovaCase,
    server,
)


class StatesTest(NovaCase):
    def test_failure_during_a_task_is_unknown(self):
        busy = [server(**{TASK: task}) for task in ("powering-off", "migrating", "image_snapshot")]
        for answer in (server("being rebooted"), *busy):
            for cause in (*FAILURES, *WITHOUT_REASON, "liveness.hung/monitor", "io_error/pause"):
                self.assert_word(VerdictKind.UNKNOWN, self.judge(answer, cause), "nova is working")

    def test_requested_stop_during_a_task_is_planned(self):
        for cause in ("lifecycle.stopped/destroyed", "lifecycle.stopped/migrated"):
            self.assert_word(VerdictKind.PLANNED, self.judge(server("being rebooted"), cause))

    def test_failure_on_another_host_during_a_task_is_unknown(self):
        """After a post-copy migration has switched, the guest runs on the other host."""
        migrating = server(**{TASK: "migrating"})
        self.assert_word(
            VerdictKind.UNKNOWN, self.judge(migrating, host="compute-2"), "(migrating)"
        )
        arrival = "lifecycle.stopped/migrated"
        self.assert_word(
            VerdictKind.PLANNED, self.judge(migrating, arrival, host="compute-2"), "compute-1"
        )

    def test_failure_on_the_source_of_a_failed_migration_is_manual(self):
        """nova has the server on its target, where it does not run."""
        self.nova.done = [{"action": "live-migration", "user_id": "alice"}, {"action": "create"}]
        verdict = self.judge(server(**{STATE: "error"}), host="compute-2")
        self.assert_word(VerdictKind.MANUAL, verdict, "not on compute-2")
        destroyed = "lifecycle.stopped/destroyed"
        verdict = self.judge(server(**{STATE: "error"}), destroyed, host="compute-2")
        self.assert_word(VerdictKind.PLANNED, verdict)

    def test_stop_of_a_dead_server_by_nova_is_not_planned(self):
        """nova stops a server that it finds dead, 15 s later and without a user."""
        incident = builders.incident(state=IncidentState.PENDING)
        by_host = {"shutdown_by": "host"}
        ended = [builders.event("lifecycle.stopped/shutdown", attributes=by_host)]
        for answer, word in (
            (Retriable("nova-api restarts"), VerdictKind.UNKNOWN),
            (server(**{TASK: "powering-off"}), VerdictKind.UNKNOWN),
            (server("stopped by nova"), VerdictKind.FAILED),
        ):
            self.nova.answer = answer
            self.nova.done = RECORDED["actions, stopped by nova"]["instanceActions"]
            self.assert_word(word, self.expectation.judge(incident, ended))

    def test_stuck_task_does_not_end_the_incident(self):
        stuck = server(**{TASK: "image_pending_upload"})
        self.assert_word(VerdictKind.UNKNOWN, self.judge(stuck), "image_pending_upload")

    def test_opted_out_server_with_a_task_is_planned(self):
        opted_out = server(metadata={"HA_Enabled": "false"}, **{TASK: "rebooting"})
        self.assert_word(VerdictKind.PLANNED, self.judge(opted_out), "HA_Enabled")

    def test_state_at_rest_is_planned(self):
        for state in ("suspended", "shelved", "shelved_offloaded", "soft-delete"):
            self.assert_word(VerdictKind.PLANNED, self.judge(server(**{STATE: state})), "nova")

    def test_failure_in_a_state_that_nova_cannot_reboot_is_manual(self):
        for state in ("paused", "rescued", "resized", "error"):
            self.assert_word(VerdictKind.MANUAL, self.judge(server(**{STATE: state})), "nova")
            verdict = self.judge(server(**{STATE: state}), "lifecycle.stopped/destroyed")
            self.assert_word(VerdictKind.PLANNED, verdict)

    def test_unknown_state_is_judged_again(self):
        for state in ("building", "of the future"):
            self.assert_word(VerdictKind.UNKNOWN, self.judge(server(**{STATE: state})), "nova")

    def test_instance_that_runs_again_is_unknown_in_each_state(self):
        causes = ["lifecycle.stopped/failed", "lifecycle.started/booted"]
        for state in ("active", "paused", "resized", "rescued", "stopped", "error"):
            verdict = self.judge(server(**{STATE: state}), *causes)
            self.assert_word(VerdictKind.UNKNOWN, verdict, "runs again")


class HostReportsTest(NovaCase):
    """The agents contradict nova, or an event."""

    def setUp(self) -> None:
        super().setUp()
        self.expectation.use_host_reports(self)
        self.reporting = {"compute-1"}
        self.running: set[str] = set()

    def is_reporting(self, host: str) -> bool:
        return host in self.reporting

    def is_running(self, host: str, instance_uuid: str) -> bool:
        return host in self.running

    def test_server_on_a_host_with_an_agent_is_planned(self):
        self.assert_word(VerdictKind.PLANNED, self.judge(server(), host="compute-2"), "not on")

    def test_server_on_a_host_without_an_agent_is_unknown(self):
        """nova uses the full name of the host, and the agent its short name."""
        here = server(**{HOST: "compute-1.example.org"})
        for cause in (*FAILURES, *WITHOUT_REASON):
            verdict = self.judge(here, cause)
            self.assert_word(
                VerdictKind.UNKNOWN, verdict, "no agent reports as compute-1.example.org"
            )
        self.assert_word(VerdictKind.PLANNED, self.judge(here, "lifecycle.stopped/destroyed"))

    def test_end_of_a_process_alone_is_unknown_while_the_host_reports_the_instance(self):
        """Any user of a host can end a process that looks like that of an instance."""
        self.running = {"compute-1"}
        verdict = self.judge(server(), "process.exited")
        self.assert_word(VerdictKind.UNKNOWN, verdict, "its host reports that it runs")
        verdict = self.judge(server(), "process.exited", "lifecycle.stopped/failed")
        self.assert_word(VerdictKind.FAILED, verdict)
        self.running = set()
        self.assert_word(VerdictKind.FAILED, self.judge(server(), "process.exited"))


class ActionsTest(NovaCase):
    """The actions of a server show whether it was to run."""

    def judge_after(self, state: str, *actions: str, cause: str = FAILURES[0]) -> Verdict:
        """Judge a server; ``-stop`` is a stop by nova, ``+stop`` one by vmmonitor."""
        users = {"-": None, "+": "vmmonitor-user"}
        self.nova.done = [
            {"action": name.lstrip("+-"), "user_id": users.get(name[0], "alice"), "message": None}
            for name in actions
        ]
        return self.judge(server(**{STATE: state}), cause)

    def test_stopped_server_that_was_to_run_is_failed(self):
        for actions in (
            ("-stop", "create"),
            ("+stop", "-stop", "start", "stop", "create"),
            ("createImage", "-stop", "lock", "create"),
            ("confirmResize", "resize", "create"),
            ("revertResize", "resize", "reboot"),
            ("start", "stop", "create"),
        ):
            verdict = self.judge_after("stopped", *actions)
            self.assert_word(VerdictKind.FAILED, verdict, "stop")
            verdict = self.judge_after("stopped", *actions, cause="lifecycle.stopped/vanished")
            self.assert_word(VerdictKind.UNKNOWN, verdict)

    def test_recovery_continues_after_nova_stopped_the_server(self):
        """nova stops a dead server while the recovery waits for its next attempt."""
        self.nova.done = [{"action": "stop"}, {"action": "create", "user_id": "alice"}]
        self.nova.answer = server(**{STATE: "stopped"})
        recovering = builders.incident(state=IncidentState.RECOVERING)
        for cause in WITHOUT_REASON:
            verdict = self.expectation.judge(recovering, [builders.event(cause)])
            self.assert_word(VerdictKind.FAILED, verdict, "nova found the server dead")

    def test_server_stopped_by_a_user_is_planned_after_any_later_action(self):
        for actions in (
            ("stop", "create"),
            ("-stop", "stop", "create"),
            ("createImage", "stop", "create"),
            ("confirmResize", "resize", "stop", "create"),
        ):
            for cause in (*FAILURES, *WITHOUT_REASON):
                verdict = self.judge_after("stopped", *actions, cause=cause)
                self.assert_word(VerdictKind.PLANNED, verdict, "stopped in nova")

    def test_server_that_was_paused_is_not_started(self):
        """nova also stops a paused server that it finds dead."""
        for actions in (("-stop", "pause", "create"), ("-stop", "lock", "rescue", "create")):
            verdict = self.judge_after("stopped", *actions)
            self.assert_word(VerdictKind.MANUAL, verdict, "the last request of a user was")

    def test_server_in_error_that_was_to_run_is_failed(self):
        for actions in (
            ("live-migration", "create"),
            ("reboot", "create"),
            ("createImage", "start", "stop", "create"),
            ("-reboot", "create"),
            ("+reboot",),
            ("-stop", "create"),
        ):
            for cause in (*FAILURES, *WITHOUT_REASON):
                verdict = self.judge_after("error", *actions, cause=cause)
                self.assert_word(VerdictKind.FAILED, verdict, "was to run before")

    def test_server_in_error_after_an_action_on_its_disks_is_manual(self):
        for actions in (
            ("create",),
            ("rebuild", "create"),
            ("resize", "create"),
            ("evacuate", "create"),
            ("resetState", "create"),
            ("live-migration", "stop", "create"),
            ("-stop", "pause", "create"),
            (),
        ):
            verdict = self.judge_after("error", *actions)
            self.assert_word(VerdictKind.MANUAL, verdict, "in the error state")
