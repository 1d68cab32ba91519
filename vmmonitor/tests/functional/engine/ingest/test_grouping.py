# SPDX-License-Identifier: Apache-2.0
"""How events become incidents, and what ends a hold."""

from vmmonitor.db import incidents
from vmmonitor.engine.recovery.decisions import Outdated
from vmmonitor.model.event import INCIDENT, RECORD
from vmmonitor.model.incident import Verdict, VerdictKind
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.samples import NOON, SECOND
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import FAILURE, RUNS, delivery, policy, step

ANSWERS = "liveness.recovered"
UNKNOWABLE = Verdict(kind=VerdictKind.UNKNOWN, reason="nova is away")


class OpeningTest(base.EngineCase):
    def test_an_event_to_recover_opens_one(self):
        self.policies = self.load(policy(hold=5))
        self.store(delivery(occurred_at=NOON - 3))
        incident = self.incident()
        self.assertEqual(("pending", "restart", 1), _some(incident, "event_count"))
        self.assertEqual((FAILURE, "compute-1"), (incident.cause, incident.host))
        self.assertEqual((NOON - 3, NOON + 5 * SECOND), (incident.opened_at, incident.hold_until))
        self.assertEqual(
            [
                ("decision", "opened by lifecycle.stopped/failed: rule died says incident"),
                ("hold", "policy restart: held for 5 s"),
            ],
            self.line(),
        )

    def test_an_event_to_record_opens_none(self):
        self.store(delivery(action=RECORD), delivery(RUNS))
        self.assertEqual([], self.incidents())

    def test_events_of_one_failure_are_one_incident(self):
        self.store(delivery("lifecycle.crashed/panicked"))
        self.store(delivery("lifecycle.stopped/crashed"), delivery("reboot/info"))
        self.assertEqual(3, self.incident().event_count)
        own = {stored.incident_id for stored in self.events()}
        self.assertEqual({self.incident().incident_id}, own)

    def test_each_instance_has_its_own(self):
        self.store(*(delivery(uuid=samples.new_id()) for _ in range(3)))
        self.assertEqual(3, len(self.incidents()))

    def test_a_failure_after_the_end_opens_another(self):
        self.store(delivery(), delivery(RUNS), delivery())
        self.assertCountEqual(["resolved", "pending"], [one.state for one in self.incidents()])

    def test_events_of_what_is_over_belong_to_none(self):
        self.store(delivery(), delivery(RUNS))
        self.store(delivery("reboot/info"))
        self.assertIsNone(self.events()[-1].incident_id)

    def test_in_order_within_one_batch(self):
        sent = []
        for _ in range(5):
            sent += [delivery(), delivery("io_error/pause"), delivery(RUNS)]
        self.store(*sent)
        found = self.incidents()
        self.assertEqual([("resolved", 3)] * 5, [(one.state, one.event_count) for one in found])


class HoldTest(base.EngineCase):
    def setUp(self):
        super().setUp()
        self.policies = self.load(
            policy("storage", {"type": "io_error"}, hold=10),
            policy("stopped", {"type": "lifecycle.stopped"}, hold=2),
            policy("hands-off", {"type": "watchdog"}, steps=[]),
        )

    def test_nothing_is_decided_before_its_end(self):
        self.store(delivery())
        self.later(1.9)
        self.assertIsNone(self.decide())
        self.later(0.1)
        self.assertIsNotNone(self.decide())

    def test_an_instance_that_runs_again_ends_it(self):
        self.store(delivery())
        self.store(delivery(RUNS))
        incident = self.incident()
        self.assertEqual(("resolved", NOON), (incident.state, incident.running_at))
        self.assertEqual(NOON, incident.closed_at)
        self.assertEqual(
            "pending -> resolved: the instance runs again: " + RUNS, self.line()[-1][1]
        )

    def test_a_graver_event_shortens_it(self):
        self.store(delivery("io_error/pause"))
        self.later(1)
        self.store(delivery())
        incident = self.incident()
        self.assertEqual(("pending", "stopped"), (incident.state, incident.policy))
        self.assertEqual(NOON + 3 * SECOND, incident.hold_until)
        self.assertEqual("io_error/pause", incident.cause)
        self.assertEqual(
            ("hold", f"{FAILURE} followed: policy stopped: held for 2 s"), self.line()[-1]
        )

    def test_also_within_one_batch(self):
        self.store(delivery("io_error/pause"), delivery())
        self.assertEqual("stopped", self.incident().policy)
        self.assertEqual(2, self.incident().event_count)

    def test_a_milder_event_does_not_lengthen_it(self):
        self.store(delivery())
        self.store(delivery("io_error/pause"))
        self.assertEqual("stopped", self.incident().policy)
        self.assertEqual(NOON + 2 * SECOND, self.incident().hold_until)

    def test_an_event_to_record_leaves_it(self):
        self.store(delivery("io_error/pause"), delivery(action=RECORD))
        self.assertEqual("storage", self.incident().policy)

    def test_a_failure_on_which_a_policy_acts_follows_one_on_which_none_does(self):
        """Somebody must act on the second, although the first came first."""
        self.store(delivery("memory_failure/x", action=INCIDENT))
        self.assertEqual("", self.incident().policy)
        self.store(delivery())
        self.assertEqual("stopped", self.incident().policy)
        self.later(2)
        self.assertIsNotNone(self.decide())

    def test_the_same_while_nobody_knows(self):
        self.conf.set_override("unknown_limit", 0, "recovery")
        self.store(delivery("memory_failure/x", action=INCIDENT))
        self.decide(UNKNOWABLE)
        self.store(delivery())
        self.assertEqual(("held", "stopped"), (self.incident().state, self.incident().policy))

    def test_the_same_when_it_was_left_for_want_of_a_policy(self):
        self._left_and_followed("memory_failure/x")

    def test_the_same_when_its_policy_wants_nothing_done(self):
        self._left_and_followed("watchdog/pause")

    def _left_and_followed(self, cause):
        self.store(delivery(cause, action=INCIDENT))
        self.assertIsNone(self.decide())
        self.assertEqual("unhandled", self.incident().state)
        self.later(1)
        self.store(delivery())
        self.assertEqual(("pending", "stopped", 2), _some(self.incident(), "event_count"))
        self.later(2)
        self.assertIsNotNone(self.decide())

    def test_what_nothing_is_to_be_done_about_does_not_disturb_what_was_left(self):
        self.store(delivery("memory_failure/x", action=INCIDENT))
        self.decide()
        self.store(delivery("watchdog/pause"), delivery("memory_failure/x", action=INCIDENT))
        self.assertEqual(("unhandled", "", 3), _some(self.incident(), "event_count"))


class LeftTest(base.EngineCase):
    """A policy that tells somebody, and waits for nothing."""

    def setUp(self):
        super().setUp()
        self.policies = self.load(policy(steps=[step(wait_for="nothing")]))
        self.store(delivery("lifecycle.crashed/panicked"))
        self.finish(self.decide())
        self.assertEqual("unhandled", self.incident().state)

    def test_one_failure_is_acted_upon_once(self):
        self.later(30)
        self.store(delivery("lifecycle.stopped/crashed"))
        self.assertEqual("unhandled", self.incident().state)

    def test_one_that_comes_much_later_is_another(self):
        self.later(3600)
        self.store(delivery())
        self.assertEqual("pending", self.incident().state)
        self.assertIsNotNone(self.decide())
        self.assertEqual(2, len(self.attempted()))

    def test_it_is_resolved_when_the_instance_runs(self):
        self.store(delivery(RUNS))
        self.assertEqual("resolved", self.incident().state)


class EvidenceTest(base.EngineCase):
    def test_of_another_host_from_before_the_failure_is_none(self):
        """What waited in the spool of the host that the instance was evacuated from."""
        self.store(delivery())
        self.store(delivery(RUNS, host="compute-2", occurred_at=NOON - 1))
        self.assertEqual(("pending", "restart", 2), _some(self.incident(), "event_count"))

    def test_of_another_host_after_the_failure(self):
        self.store(delivery())
        self.store(delivery(RUNS, host="compute-2", occurred_at=NOON + 1))
        self.assertEqual("resolved", self.incident().state)

    def test_of_a_host_that_it_has_not_reached_yet(self):
        self.store(delivery())
        arriving = {"host": "compute-2", "occurred_at": NOON + 1}
        self.store(delivery("lifecycle.started/migrated", **arriving))
        self.assertEqual("pending", self.incident().state)
        self.store(delivery("lifecycle.resumed/migrated", **arriving))
        self.assertEqual("resolved", self.incident().state)

    def test_of_the_same_host_whose_clock_was_set_back(self):
        self.store(delivery())
        self.store(delivery(RUNS, occurred_at=NOON - 9))
        self.assertEqual("resolved", self.incident().state)

    def test_of_a_qemu_that_hung_and_answers(self):
        for stalls in (False, True):
            self.store(delivery("liveness.hung/monitor"))
            if stalls:
                self.store(delivery("liveness.stalled/failed"), delivery("io_error/x", RECORD))
            self.store(delivery(ANSWERS, RECORD))
            self.assertEqual("resolved", self.incident().state)
            self.assertIn("runs again: liveness.recovered", self.line()[-1][1])

    def test_of_a_qemu_that_hung_and_answers_all_told_at_once(self):
        self.store(delivery("liveness.hung/monitor"), delivery(ANSWERS, RECORD))
        self.assertEqual("resolved", self.incident().state)

    def test_of_a_qemu_that_answers_says_nothing_of_its_guest(self):
        for first, second in (
            ("lifecycle.suspended/ioerror", "liveness.hung/monitor"),
            ("liveness.hung/monitor", "liveness.paused/ioerror"),
            ("liveness.hung/monitor", "lifecycle.crashed/panicked"),
            ("liveness.hung/monitor", "lifecycle.stopped/failed"),
            ("liveness.hung/monitor", "lifecycle.stopped/destroyed"),
            ("process.exited", "liveness.hung/zombie"),
        ):
            for at_once in (True, False):
                told = [delivery(first), delivery(second), delivery(ANSWERS, RECORD)]
                for batch in [told] if at_once else [[one] for one in told]:
                    self.store(*batch)
                self.assertEqual("pending", self.incident().state, second)
                self.store(delivery(RUNS))
                self.assertEqual("resolved", self.incident().state)

    def test_of_a_qemu_that_answers_resolves_nothing_else(self):
        self.store(delivery())
        self.store(delivery(ANSWERS, RECORD))
        self.assertEqual("pending", self.incident().state)

    def test_ends_a_silenced_one(self):
        self.store(delivery())
        self.database.run(
            incidents.transition, self.incident(), "silence", reason="muted", now=NOON
        )
        self.store(delivery(RUNS))
        self.assertEqual("resolved", self.incident().state)


class VerdictTest(base.EngineCase):
    def setUp(self):
        super().setUp()
        self.store(delivery())

    def test_failed(self):
        claim = self.decide()
        self.assertEqual("recovering", self.incident().state)
        self.assertEqual([("fake", 0, 1, "running")], self.attempted())
        self.assertEqual((False, 1), (claim.taken_over, claim.recovery.attempt))
        self.assertEqual(
            [
                ("question", "failed: it failed"),
                ("state", "pending -> recovering: it failed"),
                ("recovery", "fake, attempt 1: calling the driver"),
            ],
            self.line()[2:],
        )

    def test_planned_or_gone(self):
        for word in (VerdictKind.PLANNED, VerdictKind.GONE):
            self.assertIsNone(self.decide(Verdict(kind=word, reason="somebody did it")))
            self.assertEqual("ignored", self.incident().state)
            self.assertEqual("pending -> ignored: somebody did it", self.line()[-1][1])
            self.store(delivery())

    def test_nobody_knows_for_too_long(self):
        self.assertIsNone(self.decide(UNKNOWABLE))
        incident = self.incident()
        self.assertEqual(("pending", "nova is away"), (incident.state, incident.reason))
        again = round(self.conf.recovery.verdict_retry_interval)
        self.assertEqual(NOON + again * SECOND, incident.hold_until)
        self.later(self.conf.recovery.unknown_limit)
        self.decide(UNKNOWABLE)
        incident = self.incident()
        self.assertEqual(("held", "unknown"), (incident.state, incident.held_by))
        self.later(self.conf.recovery.verdict_retry_interval)
        self.assertIsNotNone(self.decide())
        self.assertEqual(("recovering", ""), (self.incident().state, self.incident().held_by))

    def test_nobody_knows_and_later_it_is_known(self):
        self.conf.set_override("unknown_limit", 0, "recovery")
        self.assertIsNone(self.decide(UNKNOWABLE))
        incident = self.incident()
        again = round(self.conf.recovery.verdict_retry_interval)
        self.assertEqual(("held", "nova is away"), (incident.state, incident.reason))
        self.assertEqual(NOON + again * SECOND, incident.hold_until)
        lines = len(self.line())
        self.later(again)
        self.decide(UNKNOWABLE)
        self.assertEqual(lines, len(self.line()), "nothing new to tell")
        self.assertIsNone(self.decide(), "it waits again")
        self.later(again)
        self.decide(Verdict(kind=VerdictKind.UNKNOWN, reason="nova is busy"))
        self.assertEqual(("hold", "nova is busy"), self.line()[-1])
        self.later(again)
        self.assertIsNotNone(self.decide())
        self.assertEqual("recovering", self.incident().state)

    def test_known_at_last_to_be_planned_or_left(self):
        self.decide(UNKNOWABLE)
        self.later(20)
        self.decide(Verdict(kind=VerdictKind.PLANNED, reason="deleted"))
        self.assertEqual("ignored", self.incident().state)
        self.policies = self.load(policy(match={"type": "other"}))
        self.store(delivery())
        self.decide(UNKNOWABLE)
        self.later(20)
        self.decide()
        self.assertEqual("unhandled", self.incident().state)

    def test_runs_again_while_nobody_knows(self):
        self.decide(UNKNOWABLE)
        self.store(delivery(RUNS))
        self.assertEqual("resolved", self.incident().state)

    def test_no_policy_no_step_or_none_that_is_tried(self):
        for row in (
            policy(match={"type": "other"}),
            policy(steps=[]),
            policy(steps=[step(enabled=False), step(enabled=False)]),
        ):
            self.policies = self.load(row)
            self.store(delivery(RUNS), delivery())
            self.assertIsNone(self.decide())
            self.assertEqual(("unhandled", []), (self.incident().state, self.attempted()))
            self.assertIn("polic", self.incident().reason)

    def test_a_verdict_on_less_than_is_known_by_now_decides_nothing(self):
        judged = self.incident()
        self.store(delivery("lifecycle.stopped/destroyed"))
        decide = self.decisions().decide
        self.assertIsInstance(self.database.run(decide, judged, base.IT_FAILED), Outdated)
        self.assertEqual("pending", self.incident().state)
        self.assertIsNotNone(self.database.run(decide, self.incident(), base.IT_FAILED))

    def test_an_instance_that_never_falls_silent_is_decided_on(self):
        judged = self.incident()
        self.store(delivery("io_error/pause"))
        self.later(11)
        decide = self.decisions().decide
        self.assertIsNotNone(self.database.run(decide, judged, base.IT_FAILED))


def _some(incident, name):
    return incident.state, incident.policy, getattr(incident, name)
