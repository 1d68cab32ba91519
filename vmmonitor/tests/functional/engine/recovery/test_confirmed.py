# SPDX-License-Identifier: Apache-2.0
"""The agent of the host confirms a failure before a driver is called."""

import dataclasses

from vmmonitor.model.errors import Retriable
from vmmonitor.model.inspection import Inspection
from vmmonitor.testing.agents import STOPPED
from vmmonitor.testing.deadline import eventually
from vmmonitor.tests.functional.engine.base import FAIL, WAIT, delivery, policy, step
from vmmonitor.tests.functional.engine.recovery.test_dispatcher import RecoveryCase
from vmmonitor.tests.promises import shows

RUNS = Inspection(state="running", reason="booted", managed=True, process=True, answers=True)
REASON = "it failed, but the agent on compute-1 finds that it runs and answers"


class ConfirmedTest(RecoveryCase):
    def examined(self, count: int) -> None:
        """Wait until the incident was examined a number of times."""
        eventually(lambda: len(self.agents.inspected) >= count, what=f"examined {count} times")

    def put_off(self) -> None:
        """Wait until the incident is examined later, and let that time pass."""
        eventually(lambda: self.incident().hold_until > self.clock, what="put off")
        self.later(self.conf.recovery.verdict_retry_interval)

    @shows("P4")
    def test_instance_that_runs_and_answers_is_not_recovered(self):
        self.agents.inspection = RUNS
        workers = self.recoveries()
        for cause in ("liveness.stalled/failed", "liveness.hung/monitor", "process.exited"):
            self.store(delivery(cause))
        self.put_off()
        incident = self.incident()
        self.assertEqual(("pending", REASON), (incident.state, incident.reason))
        workers.wake()
        resolved = self.eventually_in("resolved")
        self.assertEqual(REASON, resolved.reason)
        self.assertEqual([], self.driver.requests)

    def test_failure_that_the_agent_confirms_later_is_recovered(self):
        self.agents.inspection = RUNS
        workers = self.recoveries()
        self.store(delivery())
        self.put_off()
        self.agents.inspection = STOPPED
        workers.wake()
        self.called(1)

    @shows("P11")
    def test_instance_whose_process_lives_is_not_started(self):
        self.agents.inspection = dataclasses.replace(STOPPED, process=True)
        workers = self.recoveries()
        self.store(delivery())
        for _ in range(2):
            self.put_off()
            workers.wake()
        self.examined(3)
        incident = self.incident()
        self.assertIn("its QEMU process exists although libvirt reports", incident.reason)
        self.assertEqual([], self.driver.requests)

    def test_further_attempt_is_confirmed_too(self):
        self.driver.answer = lambda request: FAIL
        workers = self.recoveries()
        self.store(delivery())
        self.called(1)
        eventually(lambda: len(self.attempted()) == 2, what="the second attempt is requested")
        self.agents.inspection = RUNS
        self.later(60)
        workers.wake()
        eventually(lambda: self.incident().held_by == "unknown", what="held")
        self.later(60)
        workers.wake()
        self.eventually_in("resolved")
        self.assertEqual(1, len(self.driver.requests))
        self.assertEqual(["failed", "cancelled"], [one[-1] for one in self.attempted()])

    def test_failure_on_a_host_whose_agent_is_silent_is_recovered(self):
        self.agents.inspection = Retriable("timeout: no answer")
        self.driver.answer = lambda request: WAIT
        self.recoveries()
        self.store(delivery())
        self.called(1)

    def test_policy_without_an_acting_step_asks_no_agent(self):
        self.policies = self.load(policy(steps=[]))
        self.agents.inspection = RUNS
        self.recoveries()
        self.store(delivery("io_error/report"))
        self.eventually_in("unhandled")
        self.assertEqual([], self.agents.inspected)

    def test_disabled_step_asks_no_agent(self):
        self.policies = self.load(policy(steps=[step(enabled=False)]))
        self.recoveries()
        self.store(delivery())
        self.eventually_in("unhandled")
        self.assertEqual([], self.agents.inspected)
