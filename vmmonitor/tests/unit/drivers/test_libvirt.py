# SPDX-License-Identifier: Apache-2.0
import dataclasses
from typing import Any

import testtools
from oslo_config import cfg

from vmmonitor.drivers.libvirt import LibvirtDriver
from vmmonitor.model import errors
from vmmonitor.model.order import RecoveryOrder
from vmmonitor.model.recovery import Outcome
from vmmonitor.testing import builders
from vmmonitor.testing.agents import FakeAgents

ANSWER = {
    "ok": True,
    "action": "started",
    "state": "running",
    "reason": "booted",
    "message": "started it",
    "retry": False,
}


class TestLibvirtDriver(testtools.TestCase):
    def recover(self, answer: Any, **changes: Any) -> Outcome:
        """Let the agent give, or raise, ``answer``."""
        self.agents = FakeAgents(answer)
        return LibvirtDriver(cfg.ConfigOpts(), self.agents).recover(
            builders.request(timeout=7.5, **changes)
        )

    def test_agent_is_called_once_with_the_cause(self):
        self.recover(ANSWER)
        expected = RecoveryOrder(
            instance_uuid=builders.UUID,
            recovery_id=builders.request().recovery.recovery_id,
            token=builders.request().recovery.token,
            expires_at=builders.AT + 7_500_000,
            timeout=7.5,
            cause="lifecycle.stopped/failed",
        )
        self.assertEqual([(builders.HOST, expected)], self.agents.orders)

    def test_shorter_order_expires_with_the_step(self):
        agents = FakeAgents(ANSWER)
        driver = LibvirtDriver(cfg.ConfigOpts(), agents)
        recovery = dataclasses.replace(builders.request().recovery, called_at=builders.AT + 5)
        driver.recover_within(builders.request(timeout=7.5, recovery=recovery), 2.5)
        ((_, order),) = agents.orders
        self.assertEqual((2.5, builders.AT + 7_500_005), (order.timeout, order.expires_at))

    def test_newest_lasting_failure_is_sent(self):
        for told, cause in (
            ("liveness.hung/monitor", "liveness.hung/monitor"),
            ("lifecycle.suspended/ioerror liveness.hung/stopped", "liveness.hung/stopped"),
            ("liveness.hung/monitor lifecycle.suspended/ioerror", "liveness.hung/monitor"),
            ("liveness.hung/monitor liveness.stalled/failed", "liveness.hung/monitor"),
            ("liveness.hung/monitor io_error/report reboot", "liveness.hung/monitor"),
            ("liveness.hung/monitor lifecycle.stopped/failed", "lifecycle.stopped/failed"),
            ("liveness.hung/monitor lifecycle.started/booted", ""),
            ("liveness.hung/monitor liveness.recovered/hung", ""),
            ("liveness.hung/x liveness.recovered/hung liveness.paused/y", "liveness.paused/y"),
            ("watchdog/reset liveness.stalled/failed liveness.recovered", "watchdog/reset"),
            (
                "liveness.stalled/failed liveness.hung/x liveness.cleared/hung",
                "liveness.stalled/failed",
            ),
            ("liveness.hung/x liveness.cleared/guest_agent", "liveness.hung/x"),
            ("liveness.stalled/failed", "liveness.stalled/failed"),
            ("liveness.stalled/failed io_error/report", "liveness.stalled/failed"),
            ("liveness.stalled/failed watchdog/reset", "watchdog/reset"),
            ("watchdog/pause liveness.stalled/suspect", "watchdog/pause"),
            ("liveness.stalled/suspect", ""),
            ("", ""),
        ):
            self.recover(ANSWER, events=[builders.event(one) for one in told.split()])
            self.assertEqual(cause, self.agents.orders[0][-1].cause, told)

    def test_successful_action_waits_for_the_instance(self):
        for action in ("started", "created", "reset", "resumed", "none"):
            outcome = self.recover({**ANSWER, "action": action})
            self.assertEqual(Outcome(move="wait", message="started it"), outcome)

    def test_response_without_a_message_is_described(self):
        outcome = self.recover({**ANSWER, "message": ""})
        self.assertEqual("started, and the instance is running (booted)", outcome.message)

    def test_refused_action_is_skipped(self):
        for ok in (True, False):
            answer = {**ANSWER, "ok": ok, "action": "refused", "message": "a user paused it"}
            expected = Outcome(move="skip", message="a user paused it")
            self.assertEqual(expected, self.recover(answer))

    def test_failure_is_retried_if_the_agent_allows_it(self):
        for retry in (True, False):
            answer = {"ok": False, "message": "no such disk", "retry": retry}
            expected = Outcome(move="fail", message="no such disk", retry=retry)
            self.assertEqual(expected, self.recover(answer))

    def test_missing_response_fails_with_retry(self):
        outcome = self.recover(errors.Retriable("timed out"))
        self.assertEqual(
            Outcome(
                move="fail",
                message="the agent on compute-1 did not respond: timed out",
                retry=True,
                answered=False,
            ),
            outcome,
        )

    def test_invalid_response_fails_without_retry(self):
        broken = (
            None,
            "ok",
            [],
            {},
            {**ANSWER, "ok": "yes"},
            {**ANSWER, "action": "exploded"},
            {**ANSWER, "action": ["started"]},
            {**ANSWER, "message": 7},
            {**ANSWER, "ok": False, "retry": "often"},
        )
        for answer in broken:
            outcome = self.recover(answer)
            self.assertEqual(("fail", False), (outcome.move, outcome.retry), answer)
            self.assertIn("invalid response of the agent", outcome.message)

    def test_huge_response_is_cut(self):
        self.assertLess(len(self.recover(["x" * 100_000]).message), 300)
