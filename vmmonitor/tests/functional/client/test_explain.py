# SPDX-License-Identifier: Apache-2.0
"""``incident explain`` of the incidents of an engine."""

import datetime
import types
from typing import Any

from vmmonitor.api.handlers import incident as handler
from vmmonitor.client import explain
from vmmonitor.engine.recovery.claims import Claim
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.tests.fixtures import sample
from vmmonitor.tests.functional.client.base import CommandTest
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import FAIL, RUNS, delivery, policy, step

ACTIVE = "it should run here: active, nothing in progress"


def nova_verdict(kind: str, reason: str, took: int = 34_000) -> Verdict:
    question = "whether it should run here"
    return Verdict(kind=kind, reason=reason, asked="nova", question=question, took=took)


class ExplainCase(base.EngineCase):
    def response(self) -> dict[str, Any]:
        """Return the incident in the response of ``GET /v1/incidents/{id}``."""
        request = types.SimpleNamespace(
            arguments={"incident_id": self.incident().incident_id}, database=self.database
        )
        return handler.show(request)["incident"]

    def explained(self, width: int = 100) -> list[str]:
        now = datetime.datetime.fromtimestamp(self.clock / 1_000_000, datetime.UTC)
        lines = list(explain.explain(self.response(), width, now))
        self.assertLess(max(map(len, lines)), width)
        return lines

    def assert_explained(self, headline: str, *parts: str) -> None:
        """Check the first line, and that the text has these parts, regardless of line ends."""
        lines = self.explained()
        self.assertEqual(headline, lines[0])
        flat = " ".join(" ".join(lines).split())
        for part in parts:
            self.assertIn(part, flat)

    def fails(self, claim: Claim | None) -> None:
        self.finish(claim, FAIL)

    # -- the states ----------------------------------------------------------------------------
    def test_pending_incident_shows_verdict_and_plan(self):
        self.policies = self.load(policy(hold=5))
        self.store(delivery())
        self.later(2)
        self.assert_explained(
            "Instance web is waiting for a verdict.",
            "cause its QEMU process was killed or crashed (lifecycle.stopped/failed), on host",
            "why so held for 5 s",
            "down for 2 s, not seen running since 2023-11-14 22:13:20Z",
            "next in 3 s, at 2023-11-14 22:13:25Z, the verdict is requested; a failure is "
            "recovered by policy restart: fake (3 attempts)",
            "policy restart applies: after 5 s, fake (3 attempts)",
        )

    def test_recovering_incident_shows_each_attempt(self):
        once = step("webhook", attempts=1, wait_for="nothing")
        self.policies = self.load(policy(steps=[step(attempts=2), once]))
        self.store(delivery())
        self.later(0.05)
        claim = self.decide(nova_verdict(VerdictKind.FAILED, ACTIVE))
        self.later(0.5)
        self.assert_explained(
            "Instance web is being recovered.",
            "now driver fake, step 1 of 2, attempt 1 of 2, running for 500 ms",
            "engine if this engine stops, another takes over in 30 s",
            "if not attempt 2 of 2 of the same step",
            f"asked nova, whether it should run here answer {ACTIVE} (after 34 ms); "
            "verdict: failed",
            "so its recovery starts (recovering)",
            "driver fake, to recover the instance: step 1 of 2, attempt 1 of 2, timeout 30 s",
        )
        self.fails(claim)
        self.assert_explained(
            "Instance web is being recovered.",
            "tried 1 attempt, by driver fake, failed: no",
            "next in 4 s, at 2023-11-14 22:13:24Z, driver fake, step 1 of 2, attempt 2 of 2",
            "if not step 2 of 2: driver webhook",
            "answer no (after 500 ms); the attempt failed",
            "next attempt 2 of 2 in 4.0 s",
        )
        self.later(4)
        self.finish(self.claim_or_finish())
        self.later(1)
        self.assert_explained(
            "Instance web is being recovered.",
            "now driver fake, step 1 of 2, attempt 2 of 2, is complete: started",
            "until the instance must be seen running in 59 s, at 2023-11-14 22:14:24Z",
            "answer started; it must be seen running within 60 s",
        )
        self.later(60)
        self.claim_or_finish()
        self.fails(self.claim_or_finish())
        self.assert_explained(
            "Instance web COULD NOT BE RECOVERED: each attempt failed, an operator must act.",
            "why so every step failed, the last with: no",
            "tried 3 attempts; the last, by driver webhook, failed: no",
            "next no action: an operator must act.",
            "result the instance was not seen running in time; the attempt failed",
            "next next step, 2 of 2: webhook",
            "so its recovery has failed (unrecovered): every step failed, the last with: no",
            "driver fake called +0.050 s",
            "driver webhook called last +65.550 s",
            "closed +65.550 s",
        )

    def test_resolved_incident_shows_downtime(self):
        self.store(delivery())
        self.later(1)
        self.finish(self.decide(nova_verdict(VerdictKind.FAILED, ACTIVE)))
        self.later(1)
        self.store(delivery(RUNS, occurred_at=self.clock))
        self.assert_explained(
            "Instance web is running again.",
            "down 2 s tried 1 attempt, by driver fake, succeeded: the instance runs again",
            "seen on compute-1: it was started (lifecycle.started/booted); rule died only "
            "records it",
            f"result the instance runs again: {RUNS}; the attempt succeeded",
            "so the incident is closed (resolved)",
            "verdict: failed +1.000 s",
            "seen running again +2.000 s",
        )

    def test_incident_resolved_without_driver_says_so(self):
        self.policies = self.load(policy(hold=60))
        self.store(delivery())
        self.store(delivery(RUNS))
        self.assert_explained(
            "Instance web is running again.", "down 0 ms tried no driver was called"
        )

    def test_unknown_verdict_leads_to_hold(self):
        self.store(delivery())
        self.decide(nova_verdict(VerdictKind.UNKNOWN, "nova cannot be asked: no answer"))
        self.assert_explained(
            "Instance web is waiting for a verdict.",
            "why so nova cannot be asked: no answer",
            "verdict: unknown",
        )
        self.later(self.conf.recovery.unknown_limit + 10)
        self.decide(nova_verdict(VerdictKind.UNKNOWN, "nova cannot be asked: no answer"))
        self.assert_explained(
            "Instance web IS HELD: it is not recovered for now.",
            "why so nova cannot be asked: no answer",
            "it is evaluated again, and recovered if no hold applies",
            "so its recovery waits (held)",
        )

    def test_planned_stop_is_ignored(self):
        self.store(delivery())
        self.decide(nova_verdict(VerdictKind.PLANNED, "it is stopped in nova"))
        self.assert_explained(
            "Instance web is ignored: it did not fail, or there is nothing to recover.",
            "why so it is stopped in nova",
            "answer it is stopped in nova (after 34 ms); verdict: planned",
            "so no recovery is needed (ignored)",
        )

    def test_incident_without_policy_is_unhandled(self):
        self.policies = self.load(policy(match={"type": "watchdog"}))
        self.store(delivery())
        self.decide(nova_verdict(VerdictKind.FAILED, ACTIVE))
        self.assert_explained(
            "Instance web HAS FAILED AND IS NOT RECOVERED: an operator must act.",
            "why so no policy acts on it",
            "next no action until the instance runs, fails again, or an operator acts",
            "policy no policy matches, there is no automatic recovery",
        )

    def test_dry_run_is_shown(self):
        self.policies = self.load(policy(dry_run=True))
        self.store(delivery())
        self.assert_explained(
            "Instance web is waiting for a verdict.",
            "policy restart applies (dry run): immediately, fake (3 attempts)",
        )

    # -- what is odd ---------------------------------------------------------------------------
    def test_repeated_entries_are_shown_once(self):
        self.store(*(delivery("io_error/report", action="incident") for _ in range(40)))
        lines = self.explained()
        seen = [line for line in lines if "io_error/report" in line and "seen" in line]
        self.assertEqual(1, len(seen))
        self.assertIn("(40 times until 22:13:20)", " ".join(" ".join(lines).split()))

    def test_omitted_events_are_mentioned(self):
        self.store(*(delivery("io_error/report", action="incident") for _ in range(130)))
        self.assertIn("(30 of its 130 events are omitted or deleted)", self.explained())

    def test_name_of_instance_is_printable(self):
        one = delivery(instance=base.Instance(uuid=base.UUID, name="\x1b[2Jweb"))
        self.store(one)
        self.assertNotIn("\x1b", "".join(self.explained()))

    def test_lines_fit_into_narrow_terminal(self):
        self.store(delivery())
        self.decide(nova_verdict(VerdictKind.FAILED, ACTIVE))
        self.explained(71)


class CommandCase(CommandTest):
    """The timeline of the sample has less data than that of an engine."""

    def test_sparse_timeline_is_explained(self):
        text = self.printed("incident", "explain", sample.CRASH.incident_id)
        self.assertEqual("Instance web-1 is running again.", text.splitlines()[0])
        self.assertIn(sample.CRASH.incident_id, text)
        self.assertLess(max(map(len, text.splitlines())), 100)

    def test_evidence_command_is_shown(self):
        text = self.printed("incident", "explain", sample.FULL.incident_id)
        event_id = sample.EVENTS[2].event.event_id
        self.assertIn(f"evidence  vmmonitor event evidence {event_id}\n", text)

    def test_unknown_incident_is_one_line(self):
        code, out, err = self.run_command("incident", "explain", "unknown-id")
        self.assertEqual((1, "", 1), (code, out, err.count("\n")))
