# SPDX-License-Identifier: Apache-2.0
"""The state of an incident and its next steps in sentences."""

import unittest
from typing import Any

from vmmonitor.client import descriptions, next_steps
from vmmonitor.tests.unit.client.base import BEGAN, NOW, STEPS, at, hold, incident, recovery


def summary(**fields: Any) -> dict[str, str]:
    """Return the sentences of an incident by title."""
    return dict(next_steps.summarize(incident(**fields), NOW))


class TestHeadline(unittest.TestCase):
    def test_each_state_has_a_description(self):
        states = ("pending", "unhandled", "recovering", "held", "silenced")
        for state in (*states, "resolved", "unrecovered", "ignored"):
            self.assertRegex(next_steps.headline(incident(state)), r"^Instance web \w.*\.$")
            self.assertNotIn(f"is {state}.", next_steps.headline(incident(state)).lower() + " ")
            self.assertIn(state, descriptions.TRANSITIONS)

    def test_incident_resolved_by_operator_does_not_claim_that_instance_runs(self):
        resolved = incident("resolved", reason="resolved by ada (storage is back)")
        self.assertEqual(
            "Instance web is no longer an issue: its incident was resolved.",
            next_steps.headline(resolved),
        )
        self.assertNotIn("down", dict(next_steps.summarize(resolved, NOW)))

    def test_instance_that_was_seen_running_is_running_again(self):
        for fields in ({"running_at": BEGAN}, {"reason": "the instance runs again"}):
            headline = next_steps.headline(incident("resolved", **fields))
            self.assertEqual("Instance web is running again.", headline)

    def test_unknown_state_is_shown_as_it_is(self):
        self.assertEqual("Instance web is new.", next_steps.headline(incident("new")))

    def test_host_and_storm_are_named(self):
        no_instance = {"uuid": "", "name": "", "hypervisor_name": ""}
        host = incident("unhandled", kind="host", instance=no_instance)
        self.assertTrue(next_steps.headline(host).startswith("Host compute-1 IS NOT MONITORED"))
        storm = incident("resolved", kind="storm", instance=no_instance)
        self.assertEqual("Storm of host compute-1 is over.", next_steps.headline(storm))


class TestNextSteps(unittest.TestCase):
    def test_scheduled_attempt_shows_its_time_and_the_following_step(self):
        facts = summary(recoveries=[recovery("requested", attempt=2, not_before=at(4))])
        self.assertEqual(
            "in 4 s, at 2026-11-22 13:20:04Z, driver libvirt, step 1 of 3, attempt 2 of 2",
            facts["next"],
        )
        self.assertEqual("step 3 of 3: driver nova", facts["if not"])

    def test_overdue_attempt_is_due_at_any_moment(self):
        facts = summary(recoveries=[recovery("requested", not_before=at(-4))])
        self.assertTrue(facts["next"].startswith("at any moment, driver"), facts)

    def test_attempt_without_limit_is_repeated(self):
        waiting = recovery("waiting", step=2, attempt=7, driver="nova", wait_until=at(60))
        facts = summary(recoveries=[waiting])
        self.assertIn("step 3 of 3, attempt 7 (unlimited)", facts["now"])
        self.assertEqual("the same step again, without a limit", facts["if not"])

    def test_last_attempt_has_no_following_step(self):
        facts = summary(
            timeline=[hold(steps=STEPS[:2])],
            recoveries=[recovery("running", attempt=2, called_at=at(-1), lease_until=at(9))],
        )
        self.assertEqual("no step is left: the recovery has failed", facts["if not"])
        self.assertIn("running for 1 s", facts["now"])

    def test_attempt_without_plan_shows_no_following_step(self):
        facts = summary(timeline=[], recoveries=[recovery("requested", not_before=at(1))])
        self.assertNotIn("if not", facts)
        self.assertIn("step 1, attempt 1", facts["next"])

    def test_hold_without_end_lasts_until_release(self):
        facts = summary(state="held", hold_until="9999-12-31T00:00:00.000000Z", held_by="operator")
        self.assertTrue(facts["next"].startswith("when an operator releases it,"), facts)
        self.assertEqual("an operator", facts["held by"])

    def test_silence_shows_its_end(self):
        facts = summary(state="silenced", hold_until=at(7200))
        self.assertTrue(facts["next"].startswith("in 2 h 0 min, at 2026-11-22 15:20:00Z,"), facts)

    def test_host_incident_ends_with_its_agent(self):
        self.assertIn("when the host's agent", summary(kind="host", state="unhandled")["next"])


class TestCommands(unittest.TestCase):
    def commands(self, state: str, **fields: Any) -> list[str]:
        facts = next_steps.summarize(incident(state, **fields), NOW)
        return [text.partition("vmmonitor ")[2] for title, text in facts if title == "you can"]

    def test_each_state_offers_its_commands(self):
        active = recovery("waiting", wait_until=at(5), recovery_id="77")
        for state, expected in (
            ("pending", ["incident release 9"]),
            ("held", ["incident release 9", "incident recover 9", "incident resolve 9"]),
            ("silenced", ["incident release 9", "incident recover 9"]),
            ("unhandled", ["incident recover 9", "incident resolve 9"]),
            ("unrecovered", ["incident recover 9"]),
            ("recovering", ["recovery cancel 77"]),
            ("resolved", []),
            ("ignored", []),
        ):
            recoveries = [active] if state == "recovering" else []
            self.assertEqual(expected, self.commands(state, recoveries=recoveries), state)

    def test_policy_without_steps_requires_another_policy(self):
        commands = self.commands("unhandled", timeline=[hold(steps=[])])
        self.assertEqual("incident recover 9 --policy NAME", commands[0])


class TestPlan(unittest.TestCase):
    def test_policy_that_an_operator_chose_has_no_plan(self):
        self.assertEqual({}, next_steps.plan(incident(policy="gentle")))
