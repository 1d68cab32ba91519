# SPDX-License-Identifier: Apache-2.0
"""Operator requests, in every state of an incident and its recovery."""

from unittest import mock

from vmmonitor.db import requests
from vmmonitor.engine.admission.check import Denied
from vmmonitor.engine.incidents.requests import OperatorRequests
from vmmonitor.engine.recovery.claims import Claim
from vmmonitor.model.incident import UNTIL_RELEASED, HoldReason, Verdict
from vmmonitor.model.request import CANCEL, HOLD, RECOVER, RELEASE, RESOLVE, RETRY, OperatorRequest
from vmmonitor.tests.functional.db import samples
from vmmonitor.tests.functional.db.race import race
from vmmonitor.tests.functional.engine import base
from vmmonitor.tests.functional.engine.base import (
    FAIL,
    FAIL_FOR_GOOD,
    IT_FAILED,
    RUNS,
    SECOND,
    WAIT,
    delivery,
    policy,
    step,
)

UNKNOWN = Verdict(kind="unknown", reason="nova does not answer")


class RequestCase(base.EngineCase):
    def setUp(self):
        super().setUp()
        self.policies = self.load(policy(steps=[step(attempts=2)]))
        self.store(delivery())

    def want(self, verb, recovery_id="", **options):
        """Have something done; returns what came of it."""
        request = OperatorRequest(
            request_id=samples.new_id(),
            verb=verb,
            incident_id=self.incident().incident_id,
            recovery_id=recovery_id,
            author="jane",
            comment="it is mine",
            options=options,
            created_at=self.clock,
            state="requested",
        )
        self.database.run(requests.insert, request)
        self.carry_out()
        return self.outcome(request)

    def want_recovery(self, verb=RECOVER, recovery_id="", verdict=IT_FAILED, **options):
        """Request a recovery, and have the engine act on the verdict; returns the request."""
        request = self.want(verb, recovery_id, **options)
        if request.state != "requested":
            return request
        self.assertEqual("waits for the verdict", request.message)
        if self.incident().state == "recovering":
            self.claim_or_finish(verdict=verdict)
        else:
            self.decide(verdict)
        self.carry_out()
        return self.outcome(request)

    def carry_out(self):
        OperatorRequests(self.database, self.attempts()).carry_out_due()

    def outcome(self, request):
        with self.database.reader() as tx:
            return requests.get(tx, request.request_id)

    def hold_for_budget(self):
        class UsedUp:
            def check(self, tx, incident, policy, now):
                return Denied("hold", HoldReason.BUDGET, "too often", now + 3600 * SECOND)

        decide = self.decisions([UsedUp()]).decide
        self.database.run(decide, self.incident(), IT_FAILED)
        self.assertEqual("held", self.incident().state)

    def give_up(self):
        self.finish(self.decide(), FAIL_FOR_GOOD)
        self.assertEqual("unrecovered", self.incident().state)

    def assert_done(self, request):
        self.assertEqual("done", request.state, request.message)
        self.assertEqual(self.clock, request.finished_at)

    def assert_refused(self, request, words):
        self.assertEqual("refused", request.state, request.message)
        self.assertIn(words, request.message)


class RecoverTest(RequestCase):
    def test_recover_held_by_budget_overrides_it(self):
        self.hold_for_budget()
        request = self.want(RECOVER)
        self.assertEqual("jane", self.incident().override)
        never = mock.Mock(check=self.fail)
        self.assertIsNotNone(
            self.database.run(self.decisions([never]).decide, self.incident(), IT_FAILED)
        )
        self.carry_out()
        done = self.outcome(request)
        self.assert_done(done)
        self.assertEqual(
            "driver fake, attempt 1 of policy restart was started, without limits", done.message
        )
        kind, message = [line for line in self.line() if line[0] == "request"][-1]
        self.assertTrue(message.startswith("jane requested recover (it is mine): "), message)

    def test_recover_during_hold_is_due(self):
        self.policies = self.load(policy("slow", hold=30, match={"detail": "panicked"}))
        self.store(delivery(RUNS), delivery("lifecycle.crashed/panicked"))
        self.assertGreater(self.incident().hold_until, self.clock)
        self.want(RECOVER)
        self.assertEqual(self.clock, self.incident().hold_until)

    def test_recover_unrecovered_incident_reopens_it(self):
        self.give_up()
        self.want(RECOVER)
        incident = self.incident()
        self.assertEqual(("pending", None), (incident.state, incident.closed_at))
        self.store(delivery())
        self.assertEqual(1, len(self.incidents()), "its events are its own again")
        self.assertIsNotNone(self.decide())

    def test_recover_with_other_open_incident_is_refused(self):
        self.give_up()
        failed = self.incident()
        self.store(delivery())
        request = OperatorRequest(
            request_id=samples.new_id(),
            verb=RECOVER,
            incident_id=failed.incident_id,
            author="jane",
            created_at=self.clock,
            state="requested",
        )
        self.database.run(requests.insert, request)
        self.carry_out()
        self.assert_refused(self.outcome(request), "another incident of the instance is open")

    def test_recover_without_steps_requires_policy(self):
        self.policies = self.load(policy(steps=[]), policy("by-hand", {"type": "never"}))
        self.store(delivery(RUNS), delivery())
        self.decide()
        self.assertEqual("unhandled", self.incident().state)
        self.assert_refused(self.want(RECOVER), "policies with steps: by-hand")
        self.assert_refused(
            self.want(RECOVER, policy="nonsense"), "policy nonsense is not in force"
        )
        self.want(RECOVER, policy="by-hand")
        self.assertEqual(("pending", "by-hand"), (self.incident().state, self.incident().policy))
        self.assertIsNotNone(self.decide())

    def test_recover_during_backoff_starts_attempt(self):
        self.finish(self.decide(), FAIL)
        self.assertGreater(self.last_attempt().not_before, self.clock)
        self.want(RECOVER)
        self.assertEqual(self.clock, self.last_attempt().not_before)
        self.assertIsNotNone(self.claim_or_finish())

    def test_recover_in_progress_or_resolved_is_refused(self):
        self.finish(self.decide())
        self.assert_refused(
            self.want(RECOVER), "a recovery is in progress: driver fake, attempt 1"
        )
        self.store(delivery(RUNS))
        self.assert_refused(self.want(RECOVER), "the incident is resolved")

    def test_recover_with_unknown_verdict_calls_driver(self):
        self.conf.set_override("unknown_limit", 0, "recovery")
        self.decide(UNKNOWN)
        self.assertEqual(("held", "unknown"), (self.incident().state, self.incident().held_by))
        self.assert_done(self.want_recovery(verdict=UNKNOWN))
        self.assertEqual([("fake", 0, 1, "running")], self.attempted())
        self.assertEqual(
            "nova does not answer; jane requested the recovery", self.incident().reason
        )

    def test_recover_in_maintenance_calls_driver(self):
        self.assert_done(self.want_recovery(verdict=Verdict(kind="muted", reason="disabled")))
        self.assertEqual([("fake", 0, 1, "running")], self.attempted())

    def test_recover_despite_manual_verdict_calls_driver(self):
        self.assert_done(self.want_recovery(verdict=Verdict(kind="manual", reason="paused")))
        self.assertEqual([("fake", 0, 1, "running")], self.attempted())

    def test_recover_with_unknown_verdict_does_not_excuse_the_retry(self):
        self.want_recovery(verdict=UNKNOWN)
        self.finish(self.running_claim(), FAIL)
        self.later(4)
        self.assertIsNone(self.claim_or_finish(verdict=UNKNOWN))
        self.assertEqual(("fake", 0, 2, "requested"), self.attempted()[-1])

    def running_claim(self):
        policy = self.policies.get("restart")
        return Claim(recovery=self.last_attempt(), incident=self.incident(), step=policy.steps[0])

    def test_recover_of_planned_stop_is_refused(self):
        planned = Verdict(kind="planned", reason="a user stopped it")
        request = self.want_recovery(verdict=planned)
        self.assert_refused(request, "not recovered, the incident is ignored: a user stopped it")
        self.assertEqual([], self.attempted())

    def test_recover_of_deleted_instance_during_backoff_is_refused(self):
        self.finish(self.decide(), FAIL)
        gone = Verdict(kind="gone", reason="it was deleted")
        request = self.want_recovery(verdict=gone)
        self.assert_refused(request, "not recovered, the incident is ignored: it was deleted")
        self.assertEqual(("fake", 0, 2, "cancelled"), self.attempted()[-1])

    def test_recover_waits_until_the_verdict_has_been_acted_on(self):
        request = self.want(RECOVER)
        self.carry_out()
        self.assertEqual("requested", self.outcome(request).state)


class ResolveTest(RequestCase):
    def test_resolve_pending_incident_resolves_it(self):
        self.assert_done(self.want(RESOLVE))
        incident = self.incident()
        self.assertEqual(
            ("resolved", "resolved by jane: it is mine"), (incident.state, incident.reason)
        )

    def test_resolve_recovering_incident_cancels_recovery(self):
        self.finish(self.decide())
        self.assert_done(self.want(RESOLVE))
        self.assertEqual(
            ("resolved", "cancelled"), (self.incident().state, self.last_attempt().state)
        )

    def test_resolve_during_driver_call_is_deferred(self):
        claim = self.decide()
        request = self.want(RESOLVE)
        self.assertEqual(
            ("requested", "waits until driver fake, attempt 1 returns"),
            (request.state, request.message),
        )
        self.finish(claim, WAIT)
        self.carry_out()
        self.assert_done(self.outcome(request))
        self.assertEqual("resolved", self.incident().state)

    def test_resolve_closed_incident_is_refused(self):
        self.give_up()
        self.assert_refused(self.want(RESOLVE), "the incident is closed: unrecovered")


class HoldTest(RequestCase):
    def test_hold_without_time_lasts_until_release(self):
        self.assert_done(self.want(HOLD))
        incident = self.incident()
        self.assertEqual(
            ("held", "operator", UNTIL_RELEASED),
            (incident.state, incident.held_by, incident.hold_until),
        )
        self.store(delivery(), delivery("lifecycle.crashed/panicked"))
        self.assertEqual(UNTIL_RELEASED, self.incident().hold_until)
        self.assert_done(self.want(RELEASE))
        self.assertEqual("", self.incident().override)
        self.assertIsNotNone(self.decide())

    def test_hold_stays_when_cause_is_set(self):
        self.store(delivery(RUNS), delivery("process.exited", source="process"))
        self.assert_done(self.want(HOLD))
        self.store(delivery())
        incident = self.incident()
        self.assertEqual((base.FAILURE, UNTIL_RELEASED), (incident.cause, incident.hold_until))

    def test_hold_with_seconds_ends_then(self):
        self.assert_done(self.want(HOLD, seconds=90))
        self.assertEqual(self.clock + 90 * SECOND, self.incident().hold_until)
        self.later(90)
        self.assertIsNotNone(self.decide())

    def test_hold_cancels_waiting_recovery(self):
        self.finish(self.decide(), FAIL)
        self.assert_done(self.want(HOLD))
        self.assertEqual(("held", "cancelled"), (self.incident().state, self.last_attempt().state))

    def test_running_instance_resolves_held_incident(self):
        self.want(HOLD)
        self.store(delivery(RUNS))
        self.assertEqual("resolved", self.incident().state)


class ReleaseTest(RequestCase):
    def test_release_held_by_budget_overrides_it(self):
        self.hold_for_budget()
        self.assert_done(self.want(RELEASE))
        incident = self.incident()
        self.assertEqual(("jane", self.clock), (incident.override, incident.hold_until))

    def test_release_recovering_incident_is_refused(self):
        self.decide()
        self.assert_refused(self.want(RELEASE), "the incident is not held: it is recovering")

    def test_release_held_attempt_starts_it(self):
        self.finish(self.decide(), FAIL)
        self.later(4)
        self.assertIsNone(self.claim_or_finish(verdict=Verdict(kind="muted", reason="disabled")))
        self.assertEqual("maintenance", self.incident().held_by)
        self.assert_done(self.want(RELEASE))
        self.assertEqual(self.clock, self.last_attempt().not_before)
        self.assertIsNotNone(self.claim_or_finish())

    def test_release_of_unknown_verdict_requests_it_again(self):
        self.conf.set_override("unknown_limit", 0, "recovery")
        self.decide(UNKNOWN)
        request = self.want(RELEASE)
        self.assertEqual("a verdict is requested now", request.message)
        self.assertIsNone(self.decide(UNKNOWN))
        self.assertEqual("held", self.incident().state)


class RecoveryTest(RequestCase):
    def of_last(self, verb):
        return self.want(verb, self.last_attempt().recovery_id)

    def test_cancel_waiting_recovery_holds_incident(self):
        self.finish(self.decide())
        self.assert_done(self.of_last(CANCEL))
        self.assertEqual(("held", "cancelled"), (self.incident().state, self.last_attempt().state))
        self.assertEqual(UNTIL_RELEASED, self.incident().hold_until)

    def test_cancel_during_driver_call_cancels_next_attempt(self):
        claim = self.decide()
        request = self.of_last(CANCEL)
        self.assertEqual("requested", request.state)
        self.finish(claim, FAIL)
        self.carry_out()
        self.assert_done(self.outcome(request))
        self.assertEqual([("fake", 0, 1, "failed"), ("fake", 0, 2, "cancelled")], self.attempted())

    def test_cancel_without_recovery_is_refused(self):
        self.give_up()
        self.assert_refused(self.of_last(CANCEL), "the incident has no recovery in progress")

    def test_retry_failed_recovery_is_due(self):
        self.give_up()
        recovery_id = self.last_attempt().recovery_id
        self.assert_done(self.want_recovery(RETRY, recovery_id))
        self.assertEqual(("fake", 0, 1, "running"), self.attempted()[-1])

    def test_retry_during_backoff_starts_attempt(self):
        self.finish(self.decide(), FAIL)
        self.assert_done(self.want_recovery(RETRY, self.last_attempt().recovery_id))
        self.assertEqual(("fake", 0, 2, "running"), self.attempted()[-1])

    def test_retry_resolved_incident_is_refused(self):
        self.finish(self.decide())
        self.store(delivery(RUNS))
        self.assert_refused(self.of_last(RETRY), "the incident is resolved")


class EnginesTest(RequestCase):
    def test_request_with_several_engines_is_carried_out_once(self):
        self.hold_for_budget()
        self.decide()
        wanted = [self.want(RESOLVE)]
        race(4, lambda number: self.carry_out())
        lines = [message for kind, message in self.line() if kind == "request"]
        self.assertEqual(len(wanted), len(lines))

    def test_request_is_carried_out_by_dispatcher(self):
        self.policies = self.load(policy("slow", hold=1000))
        self.store(delivery(RUNS), delivery())
        self.recoveries()
        self.want(RECOVER)
        self.eventually_in("recovering")
