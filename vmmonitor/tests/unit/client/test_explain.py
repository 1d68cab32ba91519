# SPDX-License-Identifier: Apache-2.0
"""How an incident stands, as a person reads it."""

import datetime
import unittest
from typing import Any

from vmmonitor.client import explain, narrative, prospect, words

NOW = datetime.datetime(2026, 11, 22, 13, 20, tzinfo=datetime.UTC)
BEGAN = "2026-11-22T13:15:00.000000Z"
STEPS = [
    {"driver": "libvirt", "enabled": True, "attempts": 2},
    {"driver": "log", "enabled": False, "attempts": 3},
    {"driver": "nova", "enabled": True, "attempts": -1},
]


def at(seconds: float) -> str:
    """A time of the API's, so long after NOW."""
    return (NOW + datetime.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def hold(**data: Any) -> dict[str, Any]:
    known = {"policy": "restart", "hold": 0.0, "steps": STEPS, "event_id": "e"}
    return line("hold", "policy restart: no hold", **known | data)


def line(kind: str, message: str, **data: Any) -> dict[str, Any]:
    return {"at": BEGAN, "ms": 1.0, "kind": kind, "message": message, "data": data}


def recovery(state: str, **fields: Any) -> dict[str, Any]:
    known = {"driver": "libvirt", "step": 0, "attempt": 1, "message": "", "state": state}
    times = {name: None for name in ("not_before", "called_at", "lease_until", "wait_until")}
    known |= {"recovery_id": "7"}
    return {**known, **times, **fields}


def incident(state: str = "recovering", **fields: Any) -> dict[str, Any]:
    instance = {"uuid": "u", "name": "web", "hypervisor_name": "i-1"}
    known = {
        "incident_id": "9",
        "kind": "instance",
        "instance": {**instance, "project_id": "", "project_name": ""},
        "host": "compute-1",
        "cause": "lifecycle.stopped/failed",
        "state": state,
        "reason": "it failed",
        "policy": "restart",
        "event_count": 0,
        "opened_at": BEGAN,
        "hold_until": BEGAN,
        "running_at": None,
        "closed_at": None,
        "timeline": [hold()],
        "recoveries": [],
        "events": [],
    }
    return {**known, **fields}


def standing(**fields: Any) -> dict[str, str]:
    return dict(prospect.standing(incident(**fields), NOW))


class TestSpan(unittest.TestCase):
    def test_in_two_units(self):
        for seconds, expected in (
            (0, "0 ms"),
            (0.0098, "9.8 ms"),
            (0.9994, "999 ms"),
            (5.912, "5.91 s"),
            (59.4, "59 s"),
            (125, "2 min 5 s"),
            (7322, "2 h 2 min"),
            (200_000, "2 d 7 h"),
            (-5, "-5 s"),
        ):
            self.assertEqual(expected, words.span(seconds))

    def test_since(self):
        for ms, expected in (
            (0, "+0.000 s"),
            (-12.3, "-0.012 s"),
            (5912.4, "+5.912 s"),
            (3_600_000, "+60 min 0 s"),
        ):
            self.assertEqual(expected, words.since(ms))


class TestWords(unittest.TestCase):
    def test_an_event(self):
        for type_, detail, attributes, expected in (
            ("reboot", "", {}, "its guest rebooted (reboot)"),
            ("io_error", "pause", {"device": "vda", "reason": {}, "path": ""},
             "one of its disks failed (io_error/pause, device vda)"),
            ("unknown-77", "5", {}, "unknown-77/5"),
        ):  # fmt: skip
            self.assertEqual(expected, words.event(type_, detail, attributes))


class TestHeadline(unittest.TestCase):
    def test_every_state_has_words(self):
        states = ("pending", "unhandled", "recovering", "held", "silenced")
        for state in (*states, "resolved", "unrecovered", "ignored"):
            self.assertRegex(prospect.headline(incident(state)), r"^Instance web \w.*\.$")
            self.assertNotIn(f"is {state}.", prospect.headline(incident(state)))
            self.assertIn(state, words.CAME_TO)

    def test_of_one_that_an_operator_resolved(self):
        settled = incident("resolved", reason="resolved by ada (storage is back)")
        self.assertEqual(
            "Instance web is settled: its incident is over.", prospect.headline(settled)
        )
        self.assertNotIn("down", dict(prospect.standing(settled, NOW)))
        for fields in ({"running_at": BEGAN}, {"reason": "the instance runs again"}):
            told = prospect.headline(incident("resolved", **fields))
            self.assertEqual("Instance web runs again.", told)

    def test_of_a_state_that_is_new(self):
        self.assertEqual("Instance web is new.", prospect.headline(incident("new")))

    def test_of_a_host_and_of_a_storm(self):
        nobody = {"uuid": "", "name": "", "hypervisor_name": ""}
        host = incident("unhandled", kind="host", instance=nobody)
        self.assertTrue(prospect.headline(host).startswith("Host compute-1 IS NOT WATCHED"))
        storm = incident("resolved", kind="storm", instance=nobody)
        self.assertEqual("Storm of host compute-1 is over.", prospect.headline(storm))


class TestNext(unittest.TestCase):
    def test_an_attempt_that_is_to_begin(self):
        told = standing(recoveries=[recovery("requested", attempt=2, not_before=at(4))])
        self.assertEqual(
            "in 4 s, at 2026-11-22 13:20:04Z, driver libvirt, step 1 of 3, attempt 2 of 2",
            told["next"],
        )
        self.assertEqual("step 3 of 3: driver nova", told["if not"])

    def test_an_attempt_that_is_late(self):
        told = standing(recoveries=[recovery("requested", not_before=at(-4))])
        self.assertTrue(told["next"].startswith("any moment now, driver"), told)

    def test_an_attempt_without_end(self):
        one = recovery("waiting", step=2, attempt=7, driver="nova", wait_until=at(60))
        told = standing(recoveries=[one])
        self.assertIn("step 3 of 3, attempt 7, of any number", told["now"])
        self.assertEqual("the same is tried again, as often as it takes", told["if not"])

    def test_the_last_attempt(self):
        told = standing(
            timeline=[hold(steps=STEPS[:2])],
            recoveries=[recovery("running", attempt=2, called_at=at(-1), lease_until=at(9))],
        )
        self.assertEqual("nothing is left to try, and it is given up", told["if not"])
        self.assertIn("has been at work for 1 s", told["now"])

    def test_without_a_plan_nothing_is_made_up(self):
        told = standing(timeline=[], recoveries=[recovery("requested", not_before=at(1))])
        self.assertNotIn("if not", told)
        self.assertIn("step 1, attempt 1", told["next"])

    def test_held_until_somebody_releases_it(self):
        told = standing(state="held", hold_until="9999-12-31T00:00:00.000000Z", held_by="operator")
        self.assertTrue(told["next"].startswith("when somebody releases it,"), told)
        self.assertEqual("an operator", told["held by"])

    def test_silenced(self):
        told = standing(state="silenced", hold_until=at(7200))
        self.assertTrue(told["next"].startswith("in 2 h 0 min, at 2026-11-22 15:20:00Z,"), told)

    def test_a_host(self):
        self.assertIn("when the host's agent", standing(kind="host", state="unhandled")["next"])


class TestByHand(unittest.TestCase):
    def commands(self, state: str, **fields: Any) -> list[str]:
        told = prospect.standing(incident(state, **fields), NOW)
        return [text.partition("vmmonitor ")[2] for title, text in told if title == "you can"]

    def test_what_an_operator_can_do(self):
        busy = recovery("waiting", wait_until=at(5), recovery_id="77")
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
            recoveries = [busy] if state == "recovering" else []
            self.assertEqual(expected, self.commands(state, recoveries=recoveries), state)

    def test_where_the_policy_does_not_act_another_one_has_to_be_named(self):
        told = self.commands("unhandled", timeline=[hold(steps=[])])
        self.assertEqual("incident recover 9 --policy NAME", told[0])

    def test_a_policy_that_an_operator_chose_has_no_plan(self):
        self.assertEqual({}, prospect.plan(incident(policy="gentle")))


class TestStory(unittest.TestCase):
    def told(self, *lines: dict[str, Any]) -> list[str]:
        return list(narrative.story(incident(timeline=lines), 100))[2:]

    def test_a_line_that_somebody_else_wrote_says_what_it_always_said(self):
        (told,) = self.told(line("request", "ada released it: the storage is back"))
        self.assertTrue(told.endswith("operator  ada released it: the storage is back"), told)
        (told,) = self.told(line("rumour", "it is the storage"))
        self.assertTrue(told.endswith("rumour    it is the storage"), told)

    def test_lines_of_an_older_engine(self):
        for kind, label in (
            ("question", "asked"),
            ("hold", "held"),
            ("state", "state"),
            ("recovery", "recovery"),
            ("decision", "decided"),
        ):
            (told,) = self.told(line(kind, "as ever"))
            self.assertRegex(told, rf"  {label} +as ever$")

    def test_lines_that_lack_what_this_version_knows(self):
        for kind, data in (
            ("event", {}),
            ("recovery", {"question": "to do what?"}),
            ("recovery", {"said": "it is over", "state": "new"}),
            ("state", {"after": "resolved"}),
            ("question", {"asked": "nova", "ms": "long"}),
        ):
            self.assertTrue(self.told(line(kind, "as ever", **data))[0].endswith("as ever"), kind)

    def test_the_reason_is_not_told_twice(self):
        asked = line("question", "q", asked="nova", question="whether", answer="yes",
                     verdict="failed")  # fmt: skip
        moved = line("state", "s", before="pending", after="recovering", reason="yes")
        self.assertTrue(self.told(asked, moved)[-1].endswith("it is recovered (recovering)"))
        moved["data"]["reason"] = "no"
        self.assertTrue(self.told(asked, moved)[-1].endswith("it is recovered (recovering): no"))

    def test_a_new_day(self):
        late = {**line("decision", "later"), "at": "2026-11-23T00:00:01.000000Z"}
        self.assertIn("-- 2026-11-23", self.told(line("decision", "now"), late))

    def test_nothing_happened(self):
        self.assertEqual([], self.told())
        lines = list(explain.explained(incident(timeline=[]), 100, NOW))
        self.assertNotIn("HOW LONG IT TOOK", " ".join(lines))

    def test_a_recovery_that_was_taken_over(self):
        data = {"asked": "libvirt", "question": "to bring it back", "attempt": 1, "attempts": -1}
        data |= {"step": 1, "steps": 1, "timeout": 30.0, "said": "taken over: its engine is gone"}
        told = " ".join(" ".join(self.told(line("recovery", "r", **data))).split())
        self.assertIn("attempt 1, of any number, in at most 30 s; taken over: its engine", told)
