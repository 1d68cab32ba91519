# SPDX-License-Identifier: Apache-2.0
"""What ``incident explain`` says of what an engine did, by way of the API's answer."""

import datetime
import types
from typing import Any

from vmmonitor.api.handlers import incident as handler
from vmmonitor.client import explain
from vmmonitor.engine.recovery.attempts import Claim
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.tests.fixtures import sample
from vmmonitor.tests.functional.client.base import CommandTest
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import FAIL, RUNS, delivery, policy, step

ACTIVE = "it should run here: active, nothing in progress"


def nova_says(word: str, reason: str, took: int = 34_000) -> Verdict:
    question = "whether it should run here"
    return Verdict(kind=word, reason=reason, asked="nova", question=question, took=took)


class ExplainCase(base.EngineCase):
    def answer(self) -> dict[str, Any]:
        """What ``GET /v1/incidents/{id}`` answers of the incident."""
        request = types.SimpleNamespace(
            arguments={"incident_id": self.incident().incident_id}, database=self.database
        )
        return handler.show(request)["incident"]

    def explained(self, width: int = 100) -> list[str]:
        now = datetime.datetime.fromtimestamp(self.clock / 1_000_000, datetime.UTC)
        lines = list(explain.explained(self.answer(), width, now))
        self.assertLess(max(map(len, lines)), width)
        return lines

    def assert_told(self, headline: str, *parts: str) -> None:
        """Check the first line, and that the rest has these parts, however it is wrapped."""
        lines = self.explained()
        self.assertEqual(headline, lines[0])
        flat = " ".join(" ".join(lines).split())
        for part in parts:
            self.assertIn(part, flat)

    def fails(self, claim: Claim | None) -> None:
        self.finish(claim, FAIL)

    # -- the states ----------------------------------------------------------------------------
    def test_it_waits(self):
        self.policies = self.load(policy(hold=5))
        self.store(delivery())
        self.later(2)
        self.assert_told(
            "Instance web waits, and nothing has been done about it yet.",
            "cause its QEMU process was killed or crashed (lifecycle.stopped/failed), on host",
            "why so held for 5 s",
            "down for 2 s now, not seen running since 2023-11-14 22:13:20Z",
            "next in 3 s, at 2023-11-14 22:13:25Z, it is asked whether this was a failure, and if "
            "so it is recovered by policy restart: fake (at most 3 times)",
            "policy restart applies: nothing is done for 5 s; then fake (at most 3 times)",
        )

    def test_it_is_recovered_step_by_step(self):
        once = step("webhook", attempts=1, wait_for="nothing")
        self.policies = self.load(policy(steps=[step(attempts=2), once]))
        self.store(delivery())
        self.later(0.05)
        claim = self.decide(nova_says(VerdictKind.FAILED, ACTIVE))
        self.later(0.5)
        self.assert_told(
            "Instance web is being recovered.",
            "now driver fake, step 1 of 2, attempt 1 of 2, has been at work for 500 ms",
            "engine if it dies, another takes over in 30 s",
            "if not attempt 2 of 2 by the same driver",
            f"asked nova, whether it should run here answer {ACTIVE} (after 34 ms), so the "
            "verdict is: failed",
            "so it is recovered (recovering)",
            "asked driver fake, to bring it back: step 1 of 2, attempt 1 of 2, in at most 30 s",
        )
        self.fails(claim)
        self.assert_told(
            "Instance web is being recovered.",
            "tried one attempt, by driver fake, failed: no",
            "next in 4 s, at 2023-11-14 22:13:24Z, driver fake, step 1 of 2, attempt 2 of 2",
            "if not step 2 of 2: driver webhook",
            "answer no (after 500 ms); so the attempt failed",
            "next attempt 2 of 2 in 4.0 s",
        )
        self.later(4)
        self.finish(self.take_up())
        self.later(1)
        self.assert_told(
            "Instance web is being recovered.",
            "now driver fake, step 1 of 2, attempt 2 of 2, has done its part: started",
            "until the instance must be seen running in 59 s, at 2023-11-14 22:14:24Z",
            "answer started; it must be seen running within 60 s",
        )
        self.later(60)
        self.take_up()
        self.fails(self.take_up())
        self.assert_told(
            "Instance web IS GIVEN UP: everything was tried, and it was not seen running again.",
            "why so every step failed, at last: no",
            "tried 3 attempts; the last, by driver webhook, failed: no",
            "next nothing: somebody has to look.",
            "result the instance was not seen running in time; so the attempt failed",
            "next next step, 2 of 2: webhook",
            "so it is given up (unrecovered): every step failed, at last: no",
            "driver fake called +0.050 s",
            "driver webhook called last +65.550 s",
            "over +65.550 s",
        )

    def test_it_runs_again(self):
        self.store(delivery())
        self.later(1)
        self.finish(self.decide(nova_says(VerdictKind.FAILED, ACTIVE)))
        self.later(1)
        self.store(delivery(RUNS, occurred_at=self.clock))
        self.assert_told(
            "Instance web runs again.",
            "down 2 s tried one attempt, by driver fake, succeeded: the instance runs again",
            "seen on compute-1: it was started (lifecycle.started/booted); rule died, which is "
            "only recorded",
            f"result the instance runs again: {RUNS}; so the attempt succeeded",
            "so it is over (resolved)",
            "judged to be a failure +1.000 s",
            "seen running again +2.000 s",
        )

    def test_nobody_had_to_act(self):
        self.policies = self.load(policy(hold=60))
        self.store(delivery())
        self.store(delivery(RUNS))
        self.assert_told(
            "Instance web runs again.", "down 0 ms tried nothing: no driver was called"
        )

    def test_nobody_knows(self):
        self.store(delivery())
        self.decide(nova_says(VerdictKind.UNKNOWN, "nova cannot be asked: no answer"))
        self.assert_told(
            "Instance web waits, and nothing has been done about it yet.",
            "why so nova cannot be asked: no answer",
            "so the verdict is: unknown",
        )
        self.later(self.conf.recovery.unknown_limit + 10)
        self.decide(nova_says(VerdictKind.UNKNOWN, "nova cannot be asked: no answer"))
        self.assert_told(
            "Instance web IS HELD: nothing is done about it for now.",
            "why so nova cannot be asked: no answer",
            "it is looked at again, and recovered only if nothing stands in the way",
            "so nothing is done for now (held)",
        )

    def test_it_was_planned(self):
        self.store(delivery())
        self.decide(nova_says(VerdictKind.PLANNED, "it is stopped in nova"))
        self.assert_told(
            "Instance web is left alone: this was no failure, or there is nothing left to "
            "recover.",
            "why so it is stopped in nova",
            "answer it is stopped in nova (after 34 ms), so the verdict is: planned",
            "so it is left alone (ignored)",
        )

    def test_no_policy_acts(self):
        self.policies = self.load(policy(match={"type": "watchdog"}))
        self.store(delivery())
        self.decide(nova_says(VerdictKind.FAILED, ACTIVE))
        self.assert_told(
            "Instance web FAILED, AND NOTHING ACTS ON IT: it waits for a person.",
            "why so no policy acts on it",
            "next nothing, until the instance runs again, fails anew, or somebody acts",
            "policy no policy matches, so nothing will act",
        )

    def test_it_is_only_tried_out(self):
        self.policies = self.load(policy(dry_run=True))
        self.store(delivery())
        self.assert_told(
            "Instance web waits, and nothing has been done about it yet.",
            "then fake (at most 3 times); all of it is only tried out (dry run)",
        )

    # -- what is odd ---------------------------------------------------------------------------
    def test_what_repeats_is_told_once(self):
        self.store(*(delivery("io_error/report", action="incident") for _ in range(40)))
        lines = self.explained()
        seen = [line for line in lines if "io_error/report" in line and "seen" in line]
        self.assertEqual(1, len(seen))
        self.assertIn("(40 times until 22:13:20)", " ".join(" ".join(lines).split()))

    def test_events_that_are_left_out_are_told_of(self):
        self.store(*(delivery("io_error/report", action="incident") for _ in range(130)))
        self.assertIn("(30 of its 130 events are left out, or deleted)", self.explained())

    def test_a_name_commands_no_terminal(self):
        one = delivery(instance=base.Instance(uuid=base.UUID, name="\x1b[2Jweb"))
        self.store(one)
        self.assertNotIn("\x1b", "".join(self.explained()))

    def test_a_narrow_terminal(self):
        self.store(delivery())
        self.decide(nova_says(VerdictKind.FAILED, ACTIVE))
        self.explained(71)


class CommandCase(CommandTest):
    """The sample's lines say less than those of an engine do, as those of an older one would."""

    def test_what_an_older_engine_told(self):
        text = self.printed("incident", "explain", sample.CRASH.incident_id)
        self.assertEqual("Instance web-1 runs again.", text.splitlines()[0])
        self.assertIn(sample.CRASH.incident_id, text)
        self.assertLess(max(map(len, text.splitlines())), 100)

    def test_evidence(self):
        text = self.printed("incident", "explain", sample.FULL.incident_id)
        event_id = sample.EVENTS[2].event.event_id
        self.assertIn(f"evidence  vmmonitor event evidence {event_id}\n", text)

    def test_there_is_none(self):
        code, out, err = self.run_command("incident", "explain", "nobody")
        self.assertEqual((1, "", 1), (code, out, err.count("\n")))
