# SPDX-License-Identifier: Apache-2.0
"""Grouping of events into incidents, and the end of a hold."""

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
    def test_failure_event_opens_incident(self):
        self.policies = self.load(policy(hold=5))
        self.store(delivery(occurred_at=NOON - 3))
        incident = self.incident()
        self.assertEqual(("pending", "restart", 1), _some(incident, "event_count"))
        self.assertEqual((FAILURE, "compute-1"), (incident.cause, incident.host))
        self.assertEqual((NOON - 3, NOON + 5 * SECOND), (incident.opened_at, incident.hold_until))
        self.assertEqual(
            [
                ("decision", "opened by lifecycle.stopped/failed: rule died, action incident"),
                ("hold", "policy restart: held for 5 s"),
            ],
            self.line(),
        )

    def test_recorded_event_opens_no_incident(self):
        self.store(delivery(action=RECORD), delivery(RUNS))
        self.assertEqual([], self.incidents())

    def test_events_of_one_failure_share_an_incident(self):
        self.store(delivery("lifecycle.crashed/panicked"))
        self.store(delivery("lifecycle.stopped/crashed"), delivery("reboot/info"))
        self.assertEqual(3, self.incident().event_count)
        own = {stored.incident_id for stored in self.events()}
        self.assertEqual({self.incident().incident_id}, own)

    def test_failures_of_several_instances_open_one_incident_each(self):
        self.store(*(delivery(uuid=samples.new_id()) for _ in range(3)))
        self.assertEqual(3, len(self.incidents()))

    def test_failure_after_resolution_opens_another_incident(self):
        self.store(delivery(), delivery(RUNS), delivery())
        self.assertCountEqual(["resolved", "pending"], [one.state for one in self.incidents()])

    def test_event_after_resolution_belongs_to_no_incident(self):
        self.store(delivery(), delivery(RUNS))
        self.store(delivery("reboot/info"))
        self.assertIsNone(self.events()[-1].incident_id)

    def test_failures_and_starts_in_one_batch_are_grouped_in_order(self):
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

    def test_verdict_during_hold_is_not_acted_on(self):
        self.store(delivery())
        self.later(1.9)
        self.assertIsNone(self.decide())
        self.later(0.1)
        self.assertIsNotNone(self.decide())

    def test_running_instance_during_hold_resolves_incident(self):
        self.store(delivery())
        self.store(delivery(RUNS))
        incident = self.incident()
        self.assertEqual(("resolved", NOON), (incident.state, incident.running_at))
        self.assertEqual(NOON, incident.closed_at)
        self.assertEqual(
            "pending -> resolved: the instance runs again: " + RUNS, self.line()[-1][1]
        )

    def test_failure_with_shorter_hold_shortens_hold(self):
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

    def test_failure_with_shorter_hold_in_same_batch_shortens_hold(self):
        self.store(delivery("io_error/pause"), delivery())
        self.assertEqual("stopped", self.incident().policy)
        self.assertEqual(2, self.incident().event_count)

    def test_failure_with_longer_hold_keeps_hold(self):
        self.store(delivery())
        self.store(delivery("io_error/pause"))
        self.assertEqual("stopped", self.incident().policy)
        self.assertEqual(NOON + 2 * SECOND, self.incident().hold_until)

    def test_recorded_event_keeps_policy_of_incident(self):
        self.store(delivery("io_error/pause"), delivery(action=RECORD))
        self.assertEqual("storage", self.incident().policy)

    def test_failure_with_policy_replaces_missing_policy(self):
        """The policy of the second failure must apply, although the first has none."""
        self.store(delivery("memory_failure/x", action=INCIDENT))
        self.assertEqual("", self.incident().policy)
        self.store(delivery())
        self.assertEqual("stopped", self.incident().policy)
        self.later(2)
        self.assertIsNotNone(self.decide())

    def test_failure_with_policy_during_unknown_verdict_sets_policy(self):
        self.conf.set_override("unknown_limit", 0, "recovery")
        self.store(delivery("memory_failure/x", action=INCIDENT))
        self.decide(UNKNOWABLE)
        self.store(delivery())
        self.assertEqual(("held", "stopped"), (self.incident().state, self.incident().policy))

    def test_failure_with_policy_reopens_incident_without_policy(self):
        self._left_and_followed("memory_failure/x")

    def test_failure_with_policy_reopens_incident_without_steps(self):
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

    def test_failure_without_steps_does_not_reopen_unhandled_incident(self):
        self.store(delivery("memory_failure/x", action=INCIDENT))
        self.decide()
        self.store(delivery("watchdog/pause"), delivery("memory_failure/x", action=INCIDENT))
        self.assertEqual(("unhandled", "", 3), _some(self.incident(), "event_count"))


class UnhandledTest(base.EngineCase):
    """A policy that sends a notice and does not wait for the instance."""

    def setUp(self):
        super().setUp()
        self.policies = self.load(policy(steps=[step(wait_for="nothing")]))
        self.store(delivery("lifecycle.crashed/panicked"))
        self.finish(self.decide())
        self.assertEqual("unhandled", self.incident().state)

    def test_second_event_of_unhandled_failure_starts_no_recovery(self):
        self.later(30)
        self.store(delivery("lifecycle.stopped/crashed"))
        self.assertEqual("unhandled", self.incident().state)

    def test_much_later_failure_of_unhandled_incident_starts_recovery(self):
        self.later(3600)
        self.store(delivery())
        self.assertEqual("pending", self.incident().state)
        self.assertIsNotNone(self.decide())
        self.assertEqual(2, len(self.attempted()))

    def test_running_instance_resolves_unhandled_incident(self):
        self.store(delivery(RUNS))
        self.assertEqual("resolved", self.incident().state)


class RunningEvidenceTest(base.EngineCase):
    def test_incoming_migration_resolves_only_after_resume(self):
        self.store(delivery(), delivery("lifecycle.suspended/migrated", RECORD))
        arriving = {"host": "compute-2", "occurred_at": NOON + 1}
        self.store(delivery("lifecycle.started/migrated", RECORD, **arriving))
        self.assertEqual("pending", self.incident().state)
        self.store(delivery("lifecycle.resumed/migrated", RECORD, **arriving))
        self.assertEqual("resolved", self.incident().state)

    def test_start_with_earlier_time_on_same_host_resolves(self):
        self.store(delivery())
        self.store(delivery(RUNS, occurred_at=NOON - 9))
        self.assertEqual("resolved", self.incident().state)

    def test_answer_of_hung_qemu_resolves(self):
        for stalls in (False, True):
            self.store(delivery("liveness.hung/monitor"))
            if stalls:
                self.store(delivery("liveness.stalled/failed"), delivery("io_error/x", RECORD))
            self.store(delivery(ANSWERS, RECORD))
            self.assertEqual("resolved", self.incident().state)
            self.assertIn("runs again: liveness.recovered", self.line()[-1][1])

    def test_answer_of_hung_qemu_in_same_batch_resolves(self):
        self.store(delivery("liveness.hung/monitor"), delivery(ANSWERS, RECORD))
        self.assertEqual("resolved", self.incident().state)

    def test_answer_of_qemu_with_stopped_guest_does_not_resolve(self):
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

    def test_answer_of_qemu_after_stop_does_not_resolve(self):
        self.store(delivery())
        self.store(delivery(ANSWERS, RECORD))
        self.assertEqual("pending", self.incident().state)

    def test_running_instance_resolves_silenced_incident(self):
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

    def test_verdict_failed_claims_first_attempt(self):
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

    def test_verdict_planned_or_gone_ignores_incident(self):
        for word in (VerdictKind.PLANNED, VerdictKind.GONE):
            self.assertIsNone(self.decide(Verdict(kind=word, reason="deleted by its owner")))
            self.assertEqual("ignored", self.incident().state)
            self.assertEqual("pending -> ignored: deleted by its owner", self.line()[-1][1])
            self.store(delivery())

    def test_verdict_unknown_beyond_limit_holds_incident(self):
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

    def test_verdict_failed_after_unknown_starts_recovery(self):
        self.conf.set_override("unknown_limit", 0, "recovery")
        self.assertIsNone(self.decide(UNKNOWABLE))
        incident = self.incident()
        again = round(self.conf.recovery.verdict_retry_interval)
        self.assertEqual(("held", "nova is away"), (incident.state, incident.reason))
        self.assertEqual(NOON + again * SECOND, incident.hold_until)
        lines = len(self.line())
        self.later(again)
        self.decide(UNKNOWABLE)
        self.assertEqual(lines, len(self.line()), "no new entry")
        self.assertIsNone(self.decide(), "it waits again")
        self.later(again)
        self.decide(Verdict(kind=VerdictKind.UNKNOWN, reason="nova is busy"))
        self.assertEqual(("hold", "nova is busy"), self.line()[-1])
        self.later(again)
        self.assertIsNotNone(self.decide())
        self.assertEqual("recovering", self.incident().state)

    def test_verdict_planned_after_unknown_ignores_incident(self):
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

    def test_running_instance_during_unknown_verdict_resolves(self):
        self.decide(UNKNOWABLE)
        self.store(delivery(RUNS))
        self.assertEqual("resolved", self.incident().state)

    def test_verdict_failed_without_enabled_steps_leaves_incident_unhandled(self):
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

    def test_verdict_older_than_newest_event_raises_outdated(self):
        judged = self.incident()
        self.store(delivery("lifecycle.stopped/destroyed"))
        decide = self.decisions().decide
        self.assertIsInstance(self.database.run(decide, judged, base.IT_FAILED), Outdated)
        self.assertEqual("pending", self.incident().state)
        self.assertIsNotNone(self.database.run(decide, self.incident(), base.IT_FAILED))

    def test_overdue_incident_with_new_events_is_decided(self):
        judged = self.incident()
        self.store(delivery("io_error/pause"))
        self.later(11)
        decide = self.decisions().decide
        self.assertIsNotNone(self.database.run(decide, judged, base.IT_FAILED))


def _some(incident, name):
    return incident.state, incident.policy, getattr(incident, name)
