# SPDX-License-Identifier: Apache-2.0
"""Test verdicts that follow from the state and the actions of a server in nova."""

from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.tests.unit.expectation.test_nova import (
    FAILURES,
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
            VerdictKind.UNKNOWN, self.judge(migrating, host="compute-2"), "on it: migrating"
        )
        arrival = "lifecycle.stopped/migrated"
        self.assert_word(
            VerdictKind.PLANNED, self.judge(migrating, arrival, host="compute-2"), "compute-1"
        )

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
